#!/usr/bin/env bash
# `make e2e-vm`: what needs delegated cgroup controllers, in a virtual machine.
# RK_E2E_TIMEOUT_SCALE multiplies all time-outs (default here: 10, for a machine without KVM).
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $(id -u) -ne 0 ]]; then
	echo "make e2e-vm needs root: it makes the virtual machine's disk and network." >&2
	exit 3
fi
hack/artifacts.sh
RK_E2E=1 RK_E2E_VM=1 RK_E2E_BIN="$PWD/bin" RK_E2E_TIMEOUT_SCALE=${RK_E2E_TIMEOUT_SCALE:-10} \
	go test -tags "$TAGS" -count=1 -timeout 120m -run TestVM -v ./e2e 2>&1 | hack/filter-test-output.sh
