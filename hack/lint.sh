#!/usr/bin/env bash
# Runs the linters of .golangci.yml with the version that hack/tools pins. The
# first run compiles them (about five minutes of CPU); later ones use Go's cache.
# Arguments, such as packages or --fix, are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
# A cached finding carries the path of the checkout that it was found in, which
# another checkout's exclusions do not match: each checkout has its own cache.
GOLANGCI_LINT_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/rk/lint/$(pwd -P | sha256sum | cut -c 1-16)
export GOLANGCI_LINT_CACHE
exec go tool -modfile=hack/tools/go.mod golangci-lint run "$@"
