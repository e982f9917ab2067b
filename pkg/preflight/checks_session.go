// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var sessionChecks = []check{
	{
		problem: problem.NoUserSession, name: "user session", level: Required,
		why: "A rootless engine needs the user's own runtime directory, which systemd makes when the user logs in. su, sudo -u and most cron jobs do not log in.",
		look: func(f *Facts) verdict {
			d := f.RuntimeDir
			switch {
			case !d.Known:
				return dunno(d.Why)
			case !d.Value.Exists:
				return fail(d.Value.Path+" does not exist", f.session())
			case d.Value.UID != f.User.UID:
				return fail(fmt.Sprintf("%s belongs to another user (uid %d)", d.Value.Path, d.Value.UID),
					note("Log in as %s directly (a console, ssh, or 'machinectl shell %s@'), not through su or sudo; or set XDG_RUNTIME_DIR=/run/user/%d.", f.User.Name, f.User.Name, f.User.UID))
			}
			return pass(d.Value.Path)
		},
	},
	{
		problem: problem.NoUserBus, name: "D-Bus of the user", level: Recommended,
		why: "The engine asks the user's systemd over D-Bus for a cgroup for each container. Without it, resource limits of containers and pods are not enforced.",
		look: func(f *Facts) verdict {
			level := Recommended
			if f.Wanted.Cgroups == "delegated" {
				level = Required
			}
			switch {
			case !f.RuntimeDir.Known || !f.RuntimeDir.Value.Exists:
				return dunno("there is no user session")
			case !f.Bus.Known:
				return dunno(f.Bus.Why)
			case f.Bus.Value != "":
				fix := Fix{Steps: []Step{asUser("systemctl --user start dbus.socket")}, After: "If that does not help, log out and in again."}
				if !f.BusUnit.Value {
					fix = f.OS.install(busPackages).join(fix)
				}
				return fail(f.Bus.Value, fix).at(level)
			}
			return pass("it answers").at(level)
		},
	},
	{
		problem: problem.NoLinger, name: "lingering", level: Recommended,
		why: "Without lingering, systemd ends all processes of a user, and with them the nodes, when the last session of the user ends.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Linger.Known:
				return dunno(f.Linger.Why)
			case !f.Linger.Value:
				return fail("lingering is off for "+f.User.Name, Fix{Steps: []Step{asRoot("loginctl enable-linger " + f.User.Name)}})
			}
			return pass("lingering is on for " + f.User.Name)
		},
	},
	{
		problem: problem.SystemdTooOld, name: "systemd", level: Recommended,
		why: "systemd 244 is the first that can delegate the cgroup controller cpuset; without systemd, nobody delegates controllers to users. Resource limits are not enforced then.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Systemd.Known:
				return dunno(f.Systemd.Why)
			case f.Systemd.Value == 0:
				return fail("the host was not booted with systemd", note("rk runs with --cgroups=none there: without resource limits."))
			case f.Systemd.Value < 244:
				return fail("systemd "+strconv.Itoa(f.Systemd.Value), note("Upgrade the distribution to one with systemd 244 or later."))
			}
			return pass("systemd " + strconv.Itoa(f.Systemd.Value))
		},
	},
}

// session makes a session that stays: the user's systemd instance runs from boot.
func (f *Facts) session() Fix {
	return Fix{
		Note:  fmt.Sprintf("Log in as %s directly (a console, ssh, or 'machinectl shell %s@'), not through su or sudo. For a user who does not log in:", f.User.Name, f.User.Name),
		Steps: []Step{asRoot("loginctl enable-linger " + f.User.Name), asRoot(fmt.Sprintf("systemctl start user@%d.service", f.User.UID))},
		After: fmt.Sprintf("Then set XDG_RUNTIME_DIR=/run/user/%d where rk is run.", f.User.UID),
	}
}

var cgroupChecks = []check{
	{
		problem: problem.CgroupV1, name: "cgroup v2", level: Recommended,
		why: "Limits for containers of an ordinary user need cgroup v2 as the only hierarchy, at /sys/fs/cgroup. systemd in the nodes and the kubelet are about to give up cgroup v1.",
		look: func(f *Facts) verdict {
			level := Recommended
			if f.Wanted.Cgroups == "delegated" {
				level = Required
			}
			switch {
			case !f.Hierarchy.Known:
				return dunno(f.Hierarchy.Why)
			case f.Hierarchy.Value != "unified":
				return fail("the host uses the "+f.Hierarchy.Value+" hierarchy", f.unified()).at(level)
			}
			return pass("unified hierarchy").at(level)
		},
	},
	{
		problem: problem.NotDelegated, name: "cgroup controllers cpu, memory, pids", level: Recommended,
		wrong: "the cgroup controllers cpu, memory and pids are not all delegated to the user",
		why: "A kubelet enforces the limits of pods with the cgroup controllers cpu, memory and pids. They must be in the hands of the user; older versions of systemd delegate only memory and pids by themselves. " +
			"Where they are not, rk runs clusters with --cgroups=none: without limits.",
		look: func(f *Facts) verdict { return f.delegation(Required, "cpu", "memory", "pids") },
	},
	{
		problem: problem.CgroupsPartial, name: "cgroup controllers cpuset, io", level: Recommended,
		why:  "kubeadm's own checks and the kubelet's CPU manager want cpuset; limits on disk bandwidth need io.",
		look: func(f *Facts) verdict { return f.delegation(Recommended, "cpuset", "io") },
	},
}

func (f *Facts) unified() Fix {
	arg := "systemd.unified_cgroup_hierarchy=1"
	fix := Fix{After: "Reboot."}
	switch f.OS.family() {
	case familyFedora:
		fix.Steps = []Step{asRoot("grubby --update-kernel=ALL --args=" + arg)}
	case familyDebian:
		fix.Steps = []Step{write("/etc/default/grub.d/rk-cgroup2.cfg", `GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX `+arg+`"`), asRoot("update-grub")}
	default:
		fix.Note = "Add " + arg + " to the kernel's command line, in the configuration of the boot loader."
	}
	return fix
}

// delegation judges whether controllers are delegated; strict is the level if
// the cluster is to have limits.
func (f *Facts) delegation(strict Level, want ...string) verdict {
	level := Recommended
	switch f.Wanted.Cgroups {
	case "none":
		return verdict{}
	case "delegated":
		level = strict
	}
	have, source := f.Controllers, "delegated to the user"
	if f.Engine.Known && f.Engine.Value.CgroupVersion == 2 && slices.Equal(want, []string{"cpu", "memory", "pids"}) {
		have, source = known(f.Engine.Value.Controllers), "usable by the engine"
	}
	if !have.Known {
		return dunno(have.Why).at(level)
	}
	lacking := missing(have.Value, want...)
	if len(lacking) == 0 {
		return pass(strings.Join(want, ", ") + " are " + source).at(level)
	}
	found := strings.Join(lacking, ", ") + " not " + source
	if f.HostControllers.Known {
		if absent := missing(f.HostControllers.Value, lacking...); len(absent) > 0 {
			return fail(found+"; the host itself does not have "+strings.Join(absent, ", "),
				note("The machine, or the container that this host runs in, has to provide %s.", strings.Join(absent, ", "))).at(level)
		}
	}
	if f.Systemd.Known && f.Systemd.Value == 0 {
		return fail(found, note("Without systemd nobody delegates controllers.")).at(level)
	}
	return fail(found, Fix{
		Steps: []Step{
			write("/etc/systemd/system/user@.service.d/rk-delegate.conf", "[Service]", "Delegate=cpu cpuset io memory pids"),
			asRoot("systemctl daemon-reload"),
		},
		After: "Log out of all sessions and in again; with lingering, reboot.",
	}).at(level)
}
