#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the root file system of a test host ($1), which customize.sh has seen to, that of
# a virtual machine: mmdebstrap runs this after it. A change here makes a new cache key.
set -eu
root=$1

# The kernel is the host's own: what would have changed settings of the machine may run.
for unit in systemd-sysctl.service systemd-modules-load.service; do
    rm -f "$root/etc/systemd/system/$unit"
done
# The serial console is a file; nobody logs in there.
for unit in serial-getty@ttyS0.service getty@tty1.service getty-static.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# All controllers for the user, as the page of Kubernetes on user namespaces asks for.
mkdir -p "$root/etc/systemd/system/user@.service.d"
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$root/etc/systemd/system/user@.service.d/delegate.conf"

# What differs from host to host comes on the kernel's command line, and a file or
# directory of the machine as a disk; see vm.go.
mkdir -p "$root/usr/local/sbin"
cat >"$root/usr/local/sbin/testhost-vm" <<'SETUP'
#!/bin/sh
set -eu
disk() {
    for serial in /sys/block/vd*/serial; do
        if [ "$(cat "$serial")" = "$1" ]; then
            serial=${serial%/serial}
            echo "/dev/${serial##*/}"
            return
        fi
    done
    echo "no disk with the serial number $1" >&2
    return 1
}
address= gateway= key=
for word in $(cat /proc/cmdline); do
    case $word in
    testhost.address=*) address=${word#*=} ;;
    testhost.gateway=*) gateway=${word#*=} ;;
    testhost.key=*) key=${word#*=} ;;
    testhost.bind=*) # DISK:NAME:DESTINATION, NAME "." for a directory's content
        IFS=: read -r serial name dst <<BIND
${word#*=}
BIND
        mkdir -p "/run/testhost/$serial"
        mount -o ro "$(disk "$serial")" "/run/testhost/$serial"
        if [ "$name" = . ]; then mkdir -p "$dst"; else mkdir -p "$(dirname "$dst")" && touch "$dst"; fi
        mount --bind "/run/testhost/$serial/$name" "$dst"
        ;;
    esac
done
printf 'TESTHOST_ADDRESS=%s\nTESTHOST_GATEWAY=%s\n' "$address" "$gateway" >/etc/testhost.env
echo "nameserver $gateway" >/etc/resolv.conf
printf '127.0.0.1 localhost\n%s %s\n::1 localhost ip6-localhost ip6-loopback\n' "${address%/*}" "$(uname -n)" >/etc/hosts
mkdir -p -m 0700 /root/.ssh
echo "ssh-ed25519 $key" >/root/.ssh/authorized_keys
modprobe -a virtio_pci virtio_net
ip link set eth0 name host0
SETUP
chmod 0755 "$root/usr/local/sbin/testhost-vm"
cat >"$root/etc/systemd/system/testhost-vm.service" <<'UNIT'
[Unit]
Description=What is this test host's own
DefaultDependencies=no
After=systemd-remount-fs.service local-fs.target
Before=testhost-net.service ssh.service basic.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/testhost-vm

[Install]
RequiredBy=testhost-net.service
UNIT
mkdir -p "$root/etc/systemd/system/testhost-net.service.requires"
ln -sf ../testhost-vm.service "$root/etc/systemd/system/testhost-net.service.requires/testhost-vm.service"

# The harness' way in, as root, with the host's own key. Sessions are made by systemd-run.
printf 'UsePAM no\nPasswordAuthentication no\n' >"$root/etc/ssh/sshd_config.d/testhost.conf"

touch --reference="$root/usr" "$root/etc/.updated" "$root/var/.updated"
