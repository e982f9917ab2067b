# Loading an image of 200 MB in 4 layers, and a small fifth that changes, into 3 nodes.
#   prepare   makes the image's layers
#   round     prints four times in milliseconds, see loadCases
set -euo pipefail
rk=/opt/rk/rk
nodes="bench-control-plane bench-worker bench-worker2"
work=$HOME/bench-load

commit() { # BASE FILE NAME: a layer on top of an image, without running anything
	podman create --name bench-load "$1" >/dev/null
	podman cp "$2" "bench-load:/$2"
	podman commit -q bench-load "$3" >/dev/null
	podman rm bench-load >/dev/null
}

if [ "$1" = prepare ]; then
	mkdir -p "$work"
	cd "$work"
	head -c 50000000 /dev/urandom >part0
	tar -c part0 | podman import -q - localhost/bench:base0 >/dev/null
	for i in 1 2 3; do
		head -c 50000000 /dev/urandom >part$i
		commit localhost/bench:base$((i - 1)) part$i localhost/bench:base$i
	done
	exit
fi

cd "$work"
now() { date +%s%N; }
# forget removes the images from all nodes, and their snapshots before it returns.
forget() {
	for node in $nodes; do
		podman exec "$node" sh -c 'ctr -n k8s.io images ls -q | grep localhost/bench | xargs -r ctr -n k8s.io images rm --sync >/dev/null
			crictl images -q localhost/bench | sort -u | xargs -r crictl rmi >/dev/null 2>&1 || true
			ctr -n k8s.io content prune references >/dev/null'
	done
}
took() { echo $((($(now) - $1) / 1000000)); }

date +%s%N >stamp
commit localhost/bench:base3 stamp localhost/bench:v1
forget

start=$(now)
podman save -q -o bench.tar localhost/bench:v1
for node in $nodes; do
	podman exec -i "$node" ctr -n k8s.io images import --all-platforms --digests --snapshotter overlayfs - <bench.tar >/dev/null &
done
wait
took "$start"
rm bench.tar
forget

start=$(now)
"$rk" load image localhost/bench:v1 --name bench --progress quiet
took "$start"

date +%s%N >stamp
commit localhost/bench:base3 stamp localhost/bench:v2
start=$(now)
"$rk" load image localhost/bench:v2 --name bench --progress quiet
took "$start"

start=$(now)
"$rk" load image localhost/bench:v2 --name bench --progress quiet
took "$start"
forget
podman rmi -f localhost/bench:v1 localhost/bench:v2 >/dev/null
