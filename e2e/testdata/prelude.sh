set -euo pipefail
export PATH=/opt/rk:$PATH
# What the engine has and the kubeconfig says: the same before and after.
state() {
	"$ENGINE" ps --all --format '{{.Names}}'
	"$ENGINE" volume ls --format '{{.Name}}'
	"$ENGINE" network ls --format '{{.Name}}'
	[ ! -e ~/.kube/config ] || kubectl config view --raw
	ls -A ~/.kube 2>/dev/null | grep -vE '^(cache|config)$' || true
	# An API service that rk started for itself and left behind.
	ps -u "$(id -u)" -o args= | grep -E '^[^ ]*podman .*unix://' || true
}
# A time in seconds as it is on this host: RK_E2E_TIMEOUT_SCALE times as long.
scaled() { echo $(($1 * ${RK_E2E_TIMEOUT_SCALE:-1})); }
# await SECONDS COMMAND...: tries until it succeeds.
await() {
	local end=$((SECONDS + $(scaled "$1")))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ]
		sleep 1
	done
}
