#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Supervisor of one test host. It runs under "unshare --mount", in a session of
# its own, and outlives its owner (a test run) just long enough to remove the host.
#
#   supervisor.sh run   DIR BRIDGE LOWER SCOPE COMMAND...
#   supervisor.sh clean DIR BRIDGE
#
# run:   boots the host, a systemd-nspawn container on the root file system LOWER or,
#        where LOWER is empty, a VM; ends, and removes everything, when the host powers off,
#        at SIGTERM, or when file descriptor 3 is closed. The line "keep" on
#        descriptor 3 lets the host outlive its owner. SCOPE "scope" means that
#        this shell was started in a delegated systemd scope. DIR/leader gets the
#        process id of COMMAND.
# clean: removes what a supervisor left that was killed.
#
# Every mount is private to this process and what it starts, so the kernel undoes
# them; the machine's own mounts and cgroups stay as they are.
set -euo pipefail
mode=$1 dir=$2 bridge=$3
id=${dir##*/} hosts=${dir%/*}
cgroups=/sys/fs/cgroup

clean() {
    trap '' TERM INT HUP
    set +e
    if [ -d "$cgroup" ]; then
        echo 1 >"$cgroup/cgroup.kill"
        [ -z "${host:-}" ] || wait "$host"
        while grep -qs '^populated 1' "$cgroup/cgroup.events"; do sleep 0.05; done
        find "$cgroup" -depth -type d -exec rmdir {} +
    fi
    # The network namespace ends with the host, but later, in the background.
    ip link delete "vb-$id" 2>/dev/null
    umount -l "$dir/root" "$dir/dev" 2>/dev/null
    # host.json goes last: as long as it is there, "prune" finds the rest.
    find "$dir" -mindepth 1 -maxdepth 1 ! -name host.json -exec rm -rf --one-file-system {} +
    exec 9>>"${hosts%/*}/lock"
    flock 9
    rm -rf --one-file-system "$dir"
    rmdir "$hosts" 2>/dev/null && ip link delete "$bridge" 2>/dev/null
    exit 0
}

mount --make-rprivate /
if mountpoint -q $cgroups; then umount -R $cgroups 2>/dev/null || umount -R -l $cgroups; fi
mount -t cgroup2 cgroup2 $cgroups

if [ "$mode" = clean ]; then
    cgroup=$cgroups$(cat "$dir/cgroup" 2>/dev/null || echo "/rk-testhost-$id")
    clean
fi

lower=$4 scope=$5
shift 5
base=
if [ "$scope" = scope ]; then
    # Processes may only be in leaves once controllers are passed on.
    base=$(sed -n 's/^0:://p' /proc/self/cgroup)
    mkdir "$cgroups$base/rk-supervisor"
    echo $$ >"$cgroups$base/rk-supervisor/cgroup.procs"
    for controller in $(cat "$cgroups$base/cgroup.controllers"); do
        echo "+$controller" >"$cgroups$base/cgroup.subtree_control"
    done
fi
cgroup=$cgroups$base/rk-testhost-$id
echo "$base/rk-testhost-$id" >"$dir/cgroup"
trap clean EXIT
trap 'exit 0' TERM INT HUP
mkdir "$cgroup"

if [ -n "$lower" ]; then
    mkdir -p "$dir/root" "$dir/work" "$dir/dev"
    # volatile: nothing here is worth a sync of the file system below.
    mount -t overlay -o "volatile,lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" testhost "$dir/root"

    # Device nodes of the host's own, with the modes that udev gives them.
    mount -t tmpfs -o mode=0755 testhost "$dir/dev"
    mknod -m 0666 "$dir/dev/fuse" c 10 229
    mknod -m 0666 "$dir/dev/tun" c 10 200
else
    ip tuntap add dev "vb-$id" mode tap
    ip link set "vb-$id" master "$bridge" up
fi

{ read -r word <&3 && [ "$word" = keep ]; } &
watch=$!
(
    exec 3<&-
    echo $BASHPID >"$cgroup/cgroup.procs"
    exec setpriv --pdeathsig KILL -- "$@"
) &
host=$!
echo "$host" >"$dir/leader"
exec 3<&-

first=
if wait -n -p first "$host" "$watch" && [ "$first" = "$watch" ]; then
    wait "$host" || true
fi
