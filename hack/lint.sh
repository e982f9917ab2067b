#!/usr/bin/env bash
# Runs the linters of .golangci.yml with the version that hack/tools pins. The
# first run compiles them (about five minutes of CPU); later ones use Go's cache.
# Arguments, such as packages or --fix, are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
exec go tool -modfile=hack/tools/go.mod golangci-lint run "$@"
