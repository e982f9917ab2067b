module github.com/rootless-kubernetes/rk/node-image/parts/await

go 1.24
