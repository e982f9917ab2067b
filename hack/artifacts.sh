#!/usr/bin/env bash
# Puts what test hosts need beside bin/rk: the node image archive and kubectl.
# Both come out of rk's own caches when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
bin/rk build node-image --output bin/node-image.tar --progress plain
bin/rk build parts --output bin/parts kubectl --progress plain
ln -f bin/parts/*/kubectl bin/kubectl
