module github.com/rootless-kubernetes/rk/node-image/parts/pause

go 1.24
