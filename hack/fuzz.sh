#!/usr/bin/env bash
# Runs every fuzz target of the tree for FUZZTIME (default 5s, e.g. 10m or
# 1000x) each. Arguments choose targets: hack/fuzz.sh FuzzLoad FuzzName.
# What fails is kept in the package's testdata/fuzz, to be committed as a seed
# with the fix; plain `go test` runs all seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
found=$(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' cmd e2e hack images node-image pkg | sed 's/:func / /' | sort)
for want in "$@"; do
	grep -q " $want\$" <<<"$found" || { echo "no fuzz target is called $want" >&2 && exit 1; }
done
while read -r file target; do
	if [ $# -gt 0 ] && ! grep -qx "$target" <<<"$(printf '%s\n' "$@")"; then
		continue
	fi
	echo "$target in $(dirname "$file")"
	# Without the limit, an input that is new but not wrong is minimized for up to a minute.
	go test -tags "$TAGS" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-5s}" -fuzzminimizetime 10x "./$(dirname "$file")"
done <<<"$found"
