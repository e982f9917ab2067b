# SPDX-License-Identifier: Apache-2.0
#
# Sets up rootless Docker for the user who runs this, as dockerd-rootless-setuptool.sh
# does (which of Debian's package does not find the docker command). $1 is RootlessKit's
# network driver and $2 its port driver; empty: dockerd-rootless.sh's choice. $3 is a
# folder that goes first in the daemon's PATH, or empty.
set -eu
contrib=/usr/share/docker.io/contrib
units=$HOME/.config/systemd/user
mkdir -p "$units/docker.service.d"
cat >"$units/docker.service" <<UNIT
[Unit]
Description=Docker Application Container Engine (Rootless)

[Service]
Environment=PATH=${3:+$3:}$contrib:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
ExecStart=$contrib/dockerd-rootless.sh
TimeoutSec=0
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
Type=notify
NotifyAccess=all
KillMode=mixed

[Install]
WantedBy=default.target
UNIT
{
    echo '[Service]'
    [ -z "$1" ] || echo "Environment=DOCKERD_ROOTLESS_ROOTLESSKIT_NET=$1"
    [ -z "$2" ] || echo "Environment=DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=$2"
} >"$units/docker.service.d/drivers.conf"
systemctl --user daemon-reload
systemctl --user --quiet enable --now docker.service
docker context create rootless --docker "host=unix://$XDG_RUNTIME_DIR/docker.sock" >/dev/null 2>&1
docker context use rootless >/dev/null 2>&1
