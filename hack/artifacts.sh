#!/usr/bin/env bash
# Puts what test hosts need beside bin/rk: the node image archive, kubectl, and
# what a node image is built from there (the programs, and the Debian base).
# All comes out of rk's own caches when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
bin/rk build node-image --output bin/node-image.tar --progress plain
bin/rk build parts --output bin/parts --progress plain
rm -rf bin/debian-*
# The base that was just used is the entry with the latest time.
cp -r "$(ls -dt "${XDG_CACHE_HOME:-$HOME/.cache}"/rk/nodeimage/debian-* | head -n 1)" bin/
chmod -R a+rX bin/debian-* # the cache is for its owner alone
ln -f bin/parts/*/kubectl bin/kubectl
