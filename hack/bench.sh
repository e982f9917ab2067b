#!/usr/bin/env bash
# `make bench`: cluster creation as a ratio to the floor; see e2e/cmd/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
hack/artifacts.sh
go run ./e2e/cmd/bench "$@"
