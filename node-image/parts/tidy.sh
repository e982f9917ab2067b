#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs "go mod tidy" on the requirements of the parts named as arguments.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || { echo "usage: $0 NAME..." >&2; exit 2; }
for name; do
	[ -f "$name.mod" ] || { echo "$0: there is no part $name" >&2; exit 1; }
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	cp "$name.mod" "$tmp/go.mod"
	cp "$name.sum" "$tmp/go.sum"
	(cd "$tmp" && GOWORK=off GOFLAGS=-mod=mod GOTOOLCHAIN=local go mod tidy)
	cp "$tmp/go.mod" "$name.mod"
	cp "$tmp/go.sum" "$name.sum"
	rm -rf "$tmp"
done
