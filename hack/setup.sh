#!/usr/bin/env bash
# hack/setup.sh PURPOSE... makes sure that the Debian packages for each purpose
# are there: as root it says what it installs and installs it; an ordinary user
# is told the exact command. Purposes: build test lint image e2e e2e-vm.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package pairs; a file is written as an absolute path.
needs() {
	case $1 in
	build)
		echo go:golang-go
		# Go fetches modules over TLS. (Other distributions keep the authorities elsewhere, and have them.)
		if command -v apt-get >/dev/null; then echo /etc/ssl/certs/ca-certificates.crt:ca-certificates; fi
		;;
	test | lint) needs build; echo gcc:gcc /usr/include/stdlib.h:libc6-dev git:git ;;
	image)
		needs build
		echo gcc:gcc /usr/include/stdlib.h:libc6-dev mmdebstrap:mmdebstrap newuidmap:uidmap pkg-config:pkg-config \
			/usr/include/seccomp.h:libseccomp-dev
		;;
	e2e)
		needs image
		echo systemd-nspawn:systemd-container ip:iproute2 nsenter:util-linux
		;;
	e2e-vm)
		needs e2e
		echo qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs ssh:openssh-client
		;;
	*) echo "hack/setup.sh: unknown purpose '$1'" >&2; exit 2 ;;
	esac
}

missing=()
for purpose in "$@"; do
	for pair in $(needs "$purpose"); do
		what=${pair%%:*} package=${pair##*:}
		if [[ $what == /* ]]; then [[ -e $what ]] && continue; else
			PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null && continue
		fi
		[[ " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
	done
done
# The programs of the node image need this Go. Debian's may be older; from 1.21
# on, Go itself fetches the one that is asked for, and the Makefile puts
# bin/goroot/bin first in PATH.
go_wanted=1.26.6
older() { [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }
go_version() { (cd / && GOTOOLCHAIN=local go version) | sed -E 's/.* go([0-9.]+).*/\1/'; }
check_go() {
	local have
	have=$(go_version)
	older "$have" $go_wanted || return 0
	if older "$have" 1.21; then
		echo "Go $go_wanted or newer is needed, and $(command -v go) is $have." >&2
		echo "Install a newer Go (1.21 is enough: it fetches $go_wanted by itself) and put it first in PATH." >&2
		exit 3
	fi
	echo "$(command -v go) is Go $have; it fetches Go $go_wanted for this tree."
	local root
	root=$(cd / && GOTOOLCHAIN=go$go_wanted go env GOROOT)
	mkdir -p bin
	ln -sfn "$root" bin/goroot
}

if [[ ${#missing[@]} -eq 0 ]]; then
	check_go
	exit 0
fi

if [[ $(id -u) -ne 0 ]]; then
	echo "Missing: ${missing[*]}" >&2
	echo "On Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
	exit 3
fi
if ! command -v apt-get >/dev/null; then
	echo "Missing: ${missing[*]} (names of Debian packages); install them with your distribution's tool." >&2
	exit 3
fi
# The QEMU of Debian 12 (7.2) makes newer guest kernels panic without KVM, that of its
# backports does not. The suite is added as the sources of the release name it, so it
# comes from the same mirror; apt takes nothing from backports that is not asked for.
target=()
if [[ " ${missing[*]} " == *" qemu-system-x86 "* ]] && grep -qs '^VERSION_CODENAME=bookworm$' /etc/os-release; then
	target=(--target-release bookworm-backports)
	added=/etc/apt/sources.list.d/rk-bookworm-backports
	if apt-cache policy | grep -q 'n=bookworm-backports'; then :; elif [[ -e /etc/apt/sources.list.d/debian.sources ]]; then
		echo "Adding the suite bookworm-backports to apt's sources, for qemu-system-x86: $added.sources"
		awk -v RS= -v ORS='\n\n' '/(^|\n)Suites: *bookworm( |\n|$)/ { gsub(/Suites:[^\n]*/, "Suites: bookworm-backports"); print; exit }' \
			/etc/apt/sources.list.d/debian.sources >$added.sources
	else
		echo "Adding the suite bookworm-backports to apt's sources, for qemu-system-x86: $added.list"
		sed -nE '/^deb .* bookworm +main/{s/ bookworm +main/ bookworm-backports main/p;q}' /etc/apt/sources.list >$added.list
	fi
fi
echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${target[@]}" "${missing[@]}" >/dev/null
# A release with a Go that is too old to fetch a newer one may have one in its backports.
if older "$(go_version)" 1.21; then
	. /etc/os-release
	apt-get install -y -qq --no-install-recommends -t "${VERSION_CODENAME:-none}-backports" golang-go >/dev/null || true
fi
check_go
