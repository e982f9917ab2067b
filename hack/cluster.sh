#!/usr/bin/env bash
# `make cluster`: from a fresh machine to `kubectl get nodes` of a three-node
# cluster. An ordinary user gets it on the own rootless Podman or Docker. Root, who has
# no rootless engine, gets it inside a disposable test host.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n==> %s\n' "$*"; }

say "This builds rk and its node image from source (about 20 minutes the first time, seconds later),"
echo "    then creates the cluster 'demo': one control plane and two workers."

if [[ $(id -u) -ne 0 ]]; then
	hack/setup.sh build image
	make --no-print-directory build
	if bin/rk get clusters -o name | grep -qx 'demo'; then
		say "The cluster 'demo' is there already"
	else
		say "Creating the cluster"
		bin/rk create cluster demo --workers 2
	fi
	say "kubectl get nodes"
	kubectl=$(command -v kubectl || true)
	if [[ -z $kubectl ]]; then
		bin/rk build parts --output bin/parts kubectl >/dev/null
		kubectl=$(find bin/parts -name kubectl -type f)
		echo "    (kubectl is not installed; using $kubectl)"
	fi
	"$kubectl" --context rk-demo get nodes -o wide
	say "Delete it with: bin/rk delete cluster demo"
	exit
fi

echo "    You are root: the cluster runs inside a test host, a Debian system in systemd-nspawn,"
echo "    as its unprivileged user 'rk' with rootless Podman. Debian packages that are missing"
echo "    here are installed: mmdebstrap systemd-container iproute2 uidmap gcc libseccomp-dev and the like."
hack/setup.sh build image e2e
make --no-print-directory build
hack/artifacts.sh
go build -o bin/testhost ./e2e/cmd/testhost
if ! bin/testhost list | grep -q '^demo '; then
	say "Starting the test host 'demo'"
	bin/testhost up demo --bind "$PWD/bin:/opt/rk"
fi
if bin/testhost sh demo -- /opt/rk/rk get clusters -o name | grep -qx 'demo'; then
	say "The cluster 'demo' is there already"
else
	say "Creating the cluster"
	bin/testhost sh demo -- /opt/rk/rk create cluster demo --workers 2 --image /opt/rk/node-image.tar
fi
say "kubectl get nodes"
bin/testhost sh demo -- /opt/rk/kubectl --context rk-demo get nodes -o wide
say "A shell in the test host: bin/testhost sh demo        Remove it: bin/testhost down demo"
