#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes a fresh Debian root file system ($1) a test host: mmdebstrap runs this
# as its customize hook. A change here makes a new cache key.
set -eu
root=$1

# The unprivileged user: subordinate ids as adduser gives them, and lingering,
# so that its systemd instance starts at boot.
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash rk
echo rk:100000:65536 >"$root/etc/subuid"
echo rk:100000:65536 >"$root/etc/subgid"
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/rk"

# Podman 4.3 picks the driver "vfs" for a rootless user by itself.
if grep -q '^VERSION_CODENAME=bookworm$' "$root/etc/os-release"; then
    mkdir -p "$root/home/rk/.config/containers"
    printf '[storage]\ndriver = "overlay"\n' >"$root/home/rk/.config/containers/storage.conf"
    chroot "$root" chown -R rk:rk /home/rk
fi

# Rootful engines would hide mistakes, systemd-sysctl would change settings of the whole
# machine, and the rest costs boot time for nothing.
for unit in docker.service docker.socket containerd.service podman.service podman.socket \
    podman-restart.service podman-auto-update.timer podman-auto-update.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-resolved.service systemd-timesyncd.service console-getty.service \
    systemd-sysctl.service systemd-modules-load.service dev-hugepages.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# The network: one static address and the default route, from a file that the
# harness writes before boot. There is no name server, on purpose. The sysctl, Debian's
# default, is of the network namespace: ping needs it.
cat >"$root/etc/systemd/system/testhost-net.service" <<'UNIT'
[Unit]
Description=Static address of the test host
DefaultDependencies=no
Before=network.target network-online.target basic.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/testhost.env
ExecStart=ip link set lo up
ExecStart=ip link set host0 up
ExecStart=ip address add ${TESTHOST_ADDRESS} dev host0
ExecStart=ip route add default via ${TESTHOST_GATEWAY}
ExecStart=sysctl --quiet --write "net.ipv4.ping_group_range=0 2147483647"

[Install]
WantedBy=basic.target
UNIT
mkdir -p "$root/etc/systemd/system/basic.target.wants"
ln -sf ../testhost-net.service "$root/etc/systemd/system/basic.target.wants/testhost-net.service"

# The journal on disk, so that it can be read when the host is gone.
mkdir -p "$root/var/log/journal"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=512M\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/testhost.conf"

: >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"

# Nothing is to be brought up to date at the first boot (ConditionNeedsUpdate=).
touch --reference="$root/usr" "$root/etc/.updated" "$root/var/.updated"
