#!/usr/bin/env bash
# `make e2e`: the scenarios of e2e/testdata on disposable test hosts.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $(id -u) -ne 0 ]]; then
	echo "make e2e needs root: it makes test hosts with systemd-nspawn. 'make test' does not." >&2
	exit 3
fi
hack/artifacts.sh
# The engine conformance suite runs inside the hosts, as a static test binary.
for engine in podman docker; do
	CGO_ENABLED=0 go test -c -tags "$TAGS" -o "bin/$engine.test" "./pkg/engine/$engine"
done
CGO_ENABLED=0 go build -trimpath -o bin/testprog ./pkg/engine/enginetest/testprog
# Docker with pasta needs a newer RootlessKit than Debian has.
CGO_ENABLED=0 go build -trimpath -modfile hack/tools/rootlesskit.mod -o bin/docker-rootlesskit github.com/rootless-containers/rootlesskit/v2/cmd/rootlesskit
# One scenario at a time: two cores are not many for several clusters.
RK_E2E=1 RK_E2E_BIN="$PWD/bin" go test -tags "$TAGS" -count=1 -timeout 80m -p 1 -parallel 1 -v ./e2e/... 2>&1 | hack/filter-test-output.sh
