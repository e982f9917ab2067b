// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// The oldest engines that rk works with.
const (
	minPodman = "4.3"
	minDocker = "20.10"
)

var engineChecks = []check{
	{
		problem: problem.EngineUnreachable, name: "container engine", level: Required,
		why:  "Nodes are containers of the user's own rootless engine.",
		look: lookEngine,
	},
	{
		problem: problem.RootlessKitUDP, name: "RootlessKit", level: MultiHost,
		why: "RootlessKit 3.0.0 with its built-in port driver drops UDP packets that come from other hosts, and Flannel's VXLAN packets are such. 3.0.1 repairs it (rootlesskit#592).",
		look: func(f *Facts) verdict {
			switch {
			case !f.Engine.Known:
				return dunno("the engine does not answer")
			case f.Engine.Value.RootlessKit == "" && !f.docker():
				return verdict{}
			case f.Engine.Value.RootlessKit == "":
				return dunno("the engine does not say which version of RootlessKit it runs under")
			case strings.TrimPrefix(f.Engine.Value.RootlessKit, "v") != "3.0.0":
				return pass("RootlessKit " + f.Engine.Value.RootlessKit)
			case f.Engine.Value.PortDriver != "" && f.Engine.Value.PortDriver != "builtin":
				return pass("RootlessKit 3.0.0 with the port driver " + f.Engine.Value.PortDriver)
			}
			return fail("RootlessKit 3.0.0 with its built-in port driver", Fix{
				Note: "Upgrade RootlessKit to 3.0.1 or later; until then use another port driver:",
				Steps: []Step{
					asUser(`mkdir -p ~/.config/systemd/user/docker.service.d && printf '[Service]\nEnvironment=DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=slirp4netns\n' >~/.config/systemd/user/docker.service.d/rk-port-driver.conf`),
					asUser("systemctl --user daemon-reload"), asUser("systemctl --user restart docker"),
				},
			})
		},
	},
	{
		problem: problem.PastaUnreachable, name: "RootlessKit with pasta", level: Required,
		why:  "pasta as of 2024_10_30 passes connections to the host's 127.0.0.1 on only when it is told to (--host-lo-to-ns-lo), and RootlessKit tells it as of 2.3.2 (rootlesskit#482). Before that, nobody reaches the API server that a node publishes on 127.0.0.1.",
		look: lookPasta,
	},
	{
		problem: problem.NetworkOneHost, name: "network driver of the engine", level: MultiHost,
		why:  "pasta gives containers the host's own address, so that a node cannot reach another host by an address that it believes to be its own. slirp4netns, or pasta with an address of its own, does not have that problem.",
		look: lookNetworkDriver,
	},
	{
		problem: problem.NoEngineNetwork, name: "network programs of the engine", level: Required,
		why:  "Podman sets up networks with netavark, and connects them to the host's with pasta or slirp4netns. Without them no node starts.",
		look: lookNetworkPrograms,
	},
	{
		problem: problem.SELinuxDocker, name: "SELinux", level: Recommended,
		why: "In enforcing mode, SELinux denies what RootlessKit 2 does to give dockerd a network namespace of its own (--detach-netns), and some of iptables. Podman is not affected: its policy knows nodes as privileged containers.",
		look: func(f *Facts) verdict {
			switch {
			case !f.SELinux.Known:
				return dunno(f.SELinux.Why)
			case f.SELinux.Value != "enforcing" || !f.docker():
				return pass(f.SELinux.Value)
			}
			return fail("enforcing, with Docker", Fix{Steps: []Step{
				asUser(`mkdir -p ~/.config/systemd/user/docker.service.d && printf '[Service]\nEnvironment=DOCKERD_ROOTLESS_ROOTLESSKIT_DETACH_NETNS=false\n' >~/.config/systemd/user/docker.service.d/rk-selinux.conf`),
				asUser("systemctl --user daemon-reload"), asUser("systemctl --user restart docker"),
			}})
		},
	},
	{
		problem: problem.DockerSnap, name: "Docker's package", level: Recommended,
		why: "Docker from a snap sees only a part of the file system, and its rootless mode is not supported.",
		look: func(f *Facts) verdict {
			switch {
			case !f.docker():
				return verdict{}
			case strings.Contains(f.Engine.Value.GraphRoot, "/snap/"):
				return fail("its data is in "+f.Engine.Value.GraphRoot, note("Remove the snap ('sudo snap remove docker') and install Docker from the distribution's packages or from Docker's own."))
			}
			return pass("not a snap")
		},
	},
	{
		problem: problem.DockerInit, name: "Docker's init", level: Recommended,
		why: "With \"init\": true in daemon.json, Docker's own init is process 1 of every container, and systemd, which must be it in a node, refuses to start.",
		look: func(f *Facts) verdict {
			switch {
			case !f.docker():
				return verdict{}
			case !f.DockerInit.Known:
				return dunno(f.DockerInit.Why)
			case f.DockerInit.Value:
				return fail(`"init": true in ~/.config/docker/daemon.json`, Fix{
					Note: `Remove "init" from ~/.config/docker/daemon.json, then:`, Steps: []Step{asUser("systemctl --user restart docker")},
				})
			}
			return pass("off")
		},
	},
	{
		problem: problem.ContainerdRootless, name: "rootless containerd", level: Required,
		why: "Rootless Docker and rootless containerd use the same names and network addresses; only one of them can run at a time (moby#52171).",
		look: func(f *Facts) verdict {
			switch {
			case !f.docker():
				return verdict{}
			case !f.ContainerdRun.Known:
				return dunno(f.ContainerdRun.Why)
			case f.ContainerdRun.Value:
				return fail(f.RuntimeDir.Value.Path+"/containerd-rootless exists", Fix{Steps: []Step{asUser("systemctl --user disable --now containerd.service")}})
			}
			return pass("it does not run")
		},
	},
}

func lookEngine(f *Facts) verdict {
	if p := f.EngineFailure; p != nil {
		found := p.Summary
		if cause := p.Unwrap(); cause != nil {
			found = cause.Error()
		}
		switch p.Code {
		case problem.NoUserSession.Code:
			return dunno("there is no user session; see " + p.Code)
		case problem.NoEngine.Code:
			return fail(found, f.OS.install(podmanPackages)).as(p)
		}
		return fail(found, Fix{Note: p.Advice}).as(p)
	}
	if !f.Engine.Known {
		return dunno(f.Engine.Why)
	}
	e := f.Engine.Value
	found := e.Name + " " + e.Version + ", rootless, at " + e.Socket
	if !e.Rootless {
		return fail(e.Name+" "+e.Version+" at "+e.Socket+" is not rootless", note("%s", problem.EngineRootful.Advice)).as(problem.EngineRootful)
	}
	oldest := minPodman
	if f.docker() {
		oldest = minDocker
	}
	if older(e.Version, oldest) {
		return fail(e.Name+" "+e.Version, note("Upgrade to %s or later: with the distribution, or from the engine's own packages.", oldest)).as(problem.EngineTooOld)
	}
	return pass(found)
}

// older reports whether v is a version before the other; what is no version is not.
func older(v, than string) bool {
	have, err := semver.ParseTolerant(v)
	want, wantErr := semver.ParseTolerant(than)
	return err == nil && wantErr == nil && have.LT(want)
}

func lookPasta(f *Facts) verdict {
	if !f.Engine.Known {
		return dunno("the engine does not answer")
	}
	e := f.Engine.Value
	switch {
	case !f.docker():
		return verdict{}
	case e.NetworkDriver != "pasta":
		return pass(cmp.Or(e.NetworkDriver, "not pasta"))
	case e.PortDriver != "implicit" && e.PortDriver != "": // RootlessKit 2.0 does not say that pasta forwards ports implicitly
		return pass("pasta, with the port driver " + e.PortDriver)
	}
	if !older(e.RootlessKit, "2.3.2") {
		return pass("RootlessKit " + e.RootlessKit)
	}
	if !f.Pasta.Known {
		return dunno("the version of pasta is not known: " + f.Pasta.Why)
	}
	if f.Pasta.Value < "20241030" {
		return pass(fmt.Sprintf("RootlessKit %s with pasta of %s", e.RootlessKit, f.Pasta.Value))
	}
	return fail(fmt.Sprintf("RootlessKit %s with pasta of %s", e.RootlessKit, f.Pasta.Value), Fix{
		Note: "Upgrade RootlessKit to 2.3.2 or later, or use slirp4netns (a package of the distribution) in the place of pasta:",
		Steps: []Step{
			asUser(`mkdir -p ~/.config/systemd/user/docker.service.d && printf '[Service]\nEnvironment=DOCKERD_ROOTLESS_ROOTLESSKIT_NET=slirp4netns DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=builtin\n' >~/.config/systemd/user/docker.service.d/rk-network.conf`),
			asUser("systemctl --user daemon-reload"), asUser("systemctl --user restart docker"),
		},
	})
}

func lookNetworkDriver(f *Facts) verdict {
	if !f.Engine.Known {
		return dunno("the engine does not answer")
	}
	e := f.Engine.Value
	major, _, ok := version(e.Version)
	switch {
	case f.docker():
		return verdict{}
	case ok && major < 5:
		return pass("slirp4netns, the default of Podman " + e.Version)
	case e.NetworkDriver == "":
		return dunno("the engine does not say which it uses")
	case e.NetworkDriver != "pasta":
		return pass(e.NetworkDriver)
	}
	conf := "~/.config/containers/containers.conf.d"
	configure := func(text string) Fix {
		return Fix{Steps: []Step{
			asUser("mkdir -p " + conf + " && printf '%s\\n' " + text + " >" + conf + "/rk-network.conf"), asUser("systemctl --user try-restart podman.service"),
		}, After: "Delete the clusters that are there: the engine's network must be made anew."}
	}
	if major >= 6 {
		return fail("pasta, with the host's address", configure(`'[network]' 'rootless_port_forwarder = "pasta"' 'pasta_options = ["-a", "10.0.2.100", "-n", "24", "-g", "10.0.2.2"]'`))
	}
	fix := configure(`'[network]' 'default_rootless_network_cmd = "slirp4netns"'`)
	if p := f.Programs["slirp4netns"]; p.Known && p.Value == "" {
		fix = f.OS.install(slirpPackages).join(fix)
	}
	return fail("pasta, with the host's address", fix)
}

func lookNetworkPrograms(f *Facts) verdict {
	if !f.Engine.Known || f.Engine.Value.Name != "podman" {
		return verdict{} // Docker refuses to start without its programs
	}
	for _, name := range []string{"netavark", "pasta", "slirp4netns"} {
		if p := f.Programs[name]; !p.Known {
			return dunno(p.Why)
		}
	}
	major, _, ok := version(f.Engine.Value.Version)
	switch {
	case f.Programs["netavark"].Value == "" && ok && major < 5:
		return dunno("netavark is not installed; Podman 4 may use CNI instead")
	case f.Programs["netavark"].Value == "":
		return fail("netavark is not installed", f.OS.install(netavarkPackages))
	}
	driver := f.Engine.Value.NetworkDriver
	if driver == "" && ok && major < 5 {
		driver = "slirp4netns"
	}
	switch {
	case driver == "pasta" && f.Programs["pasta"].Value == "":
		return fail("the engine uses pasta, which is not installed", f.OS.install(pastaPackages))
	case driver == "slirp4netns" && f.Programs["slirp4netns"].Value == "":
		return fail("the engine uses slirp4netns, which is not installed", f.OS.install(slirpPackages))
	case !slices.Contains([]string{"pasta", "slirp4netns"}, driver):
		return dunno("the engine does not say which it uses")
	}
	return pass(fmt.Sprintf("%s, %s", f.Programs["netavark"].Value, f.Programs[driver].Value))
}
