// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var update = flag.Bool("update", false, "rewrite goldens and generated pages")

// healthy are the facts of a host without problems: Debian, Podman.
func healthy() Facts {
	all := []string{"cpu", "cpuset", "io", "memory", "pids"}
	sysctls := map[string]Fact[string]{}
	for name, v := range map[string]string{
		"user.max_user_namespaces": "96364", "fs.inotify.max_user_instances": "1024", "fs.inotify.max_user_watches": "524288",
		"kernel.keys.maxkeys": "20000", "kernel.keys.maxbytes": "500000", "kernel.dmesg_restrict": "0", "vm.max_map_count": "1048576",
		"vm.overcommit_memory": "0", "net.netfilter.nf_conntrack_max": "262144", "net.ipv4.ip_unprivileged_port_start": "1024",
		"net.ipv4.ping_group_range": "0\t2147483647",
	} {
		sysctls[name] = known(v)
	}
	w := WantedBy(config.Default(config.Cluster{}))
	w.MultiHost = true
	ids := SubIDs{Count: 65536, Taken: []Range{{100000, 65536}}}
	return Facts{
		Wanted: w,
		OS:     OS{ID: "debian", Name: "Debian GNU/Linux 13 (trixie)"}, User: User{Name: "ann", UID: 1000, GID: 1000},
		RuntimeDir: known(Dir{Path: "/run/user/1000", Exists: true, UID: 1000}), Bus: known(""), Systemd: known(257), Linger: known(true),
		Hierarchy: known("unified"), HostControllers: known(all), Controllers: known(all),
		SubUIDs: known(ids), SubGIDs: known(ids),
		NewUIDMap: known(Program{Path: "/usr/bin/newuidmap", Rooted: true, Setuid: true}), NewGIDMap: known(Program{Path: "/usr/bin/newgidmap", Rooted: true, Setuid: true}),
		UserNS: known(""), Kernel: known("6.12.43+deb13-amd64"), Sysctls: sysctls, Tun: known(""), Fuse: known(""),
		Probe: known(Probe{BridgeNetfilter: true}), Files: known(uint64(524288)), Tasks: known(uint64(31000)), Memory: known(uint64(8 * gib)),
		Routes:  []Route{{netip.MustParsePrefix("192.0.2.0/24"), "a route through eth0"}},
		Address: known(netip.MustParseAddr("192.0.2.7")), BusyPorts: known[[]string](nil), Firewall: known(""),
		Programs: map[string]Fact[string]{
			"netavark": known("/usr/lib/podman/netavark"), "pasta": known("/usr/bin/pasta"), "slirp4netns": known("/usr/bin/slirp4netns"), "podman": known("/usr/bin/podman"),
		},
		SELinux: known("disabled"),
		Engine: known(engine.Info{
			Name: "podman", Version: "5.4.2", Rootless: true, CgroupVersion: 2, CgroupManager: "systemd", Controllers: all, OCIRuntime: "crun",
			StorageDriver: "overlay", NativeOverlay: true, GraphRoot: "/home/ann/.local/share/containers/storage", Socket: "unix:///run/user/1000/podman/podman.sock",
			NetworkDriver: "slirp4netns", UIDs: 65537, GIDs: 65537,
		}),
		EngineNetns: engineNetns, EngineSysctls: map[string]Fact[string]{
			"net.ipv4.ip_forward": known("1"), "net.ipv4.conf.all.rp_filter": known("2"), "net.ipv4.conf.default.rp_filter": known("0"),
		},
		Storage: known(Storage{Path: "/home/ann/.local/share/containers/storage", FS: "ext4", Free: 50 * gib}), Overlay: known(""),
		Networks:   []Route{{netip.MustParsePrefix("10.88.0.0/16"), "the engine's network podman"}},
		DockerInit: known(false), ContainerdRun: known(false),
	}
}

// docker puts rootless Docker in the place of Podman.
func docker(f *Facts) {
	e := &f.Engine.Value
	e.Name, e.Version, e.StorageDriver, e.GraphRoot = "docker", "28.5.2", "overlay2", "/home/ann/.local/share/docker"
	e.NetworkDriver, e.RootlessKit, e.PortDriver, e.Socket = "slirp4netns", "2.3.5", "builtin", "unix:///run/user/1000/docker.sock"
	f.Storage.Value.Path = e.GraphRoot
}

// pasta puts pasta in the place of slirp4netns, under a version of RootlessKit.
func pasta(rootlesskit string) func(*engine.Info) {
	return func(i *engine.Info) {
		i.NetworkDriver, i.PortDriver, i.RootlessKit = "pasta", "implicit", rootlesskit
		if strings.HasPrefix(rootlesskit, "2.0.") {
			i.PortDriver = "" // as Debian's says
		}
	}
}

// pastaOf sets the date of pasta's version.
func pastaOf(date string) func(*Facts) { return func(f *Facts) { f.Pasta = known(date) } }

// dead takes the engine away.
func dead(f *Facts, err error) {
	f.EngineFailure, f.Engine = failure(err), unknown[engine.Info]("the engine does not answer")
	f.Storage, f.Overlay = unknown[Storage]("the engine does not answer"), unknown[string]("the engine does not answer")
}

const denied = "/x: permission denied"

func set(name, value string) func(*Facts) {
	return func(f *Facts) { f.Sysctls[name] = known(value) }
}

func secret(name string) func(*Facts) {
	return func(f *Facts) { f.Sysctls[name] = unknown[string](denied) }
}

func unprobed(f *Facts) {
	f.Probe = unknown[Probe]("no user namespace to try it in: operation not permitted")
}

func probed(change func(*Probe)) func(*Facts) { return func(f *Facts) { change(&f.Probe.Value) } }

func both(changes ...func(*Facts)) func(*Facts) {
	return func(f *Facts) {
		for _, c := range changes {
			c(f)
		}
	}
}

func enginewise(change func(*engine.Info)) func(*Facts) {
	return func(f *Facts) { change(&f.Engine.Value) }
}

// situation is a change of a healthy host, and its name.
type situation struct {
	name   string
	change func(*Facts)
}

// situations are, for each check, hosts that it has something to say about.
// The first that fails is the example of its page.
var situations = map[*problem.Problem][]situation{
	problem.NoUserSession: {
		{"no session", func(f *Facts) { f.RuntimeDir.Value.Exists = false }},
		{"another user's", func(f *Facts) { f.RuntimeDir.Value.UID = 0 }},
		{"not readable", func(f *Facts) { f.RuntimeDir = unknown[Dir](denied) }},
	},
	problem.NoSubIDs: {
		{"none", func(f *Facts) { f.SubUIDs, f.SubGIDs = known(SubIDs{}), known(SubIDs{}) }},
		{"no group ids, others have the usual range", func(f *Facts) {
			f.SubUIDs.Value.Taken = []Range{{165536, 65536}, {100000, 65536}}
			f.SubGIDs = known(SubIDs{Count: 1000, Taken: []Range{{231072, 1000}}})
		}},
		{"podman has not noticed", enginewise(func(i *engine.Info) { i.UIDs, i.GIDs = 1, 1 })},
		{"docker has not noticed", both(docker, enginewise(func(i *engine.Info) { i.UIDs, i.GIDs = 1, 1 }))},
		{"from a directory service, enough", func(f *Facts) { f.SubUIDs, f.SubGIDs = unknown[SubIDs]("sss"), unknown[SubIDs]("sss") }},
		{"from a directory service, too few", func(f *Facts) {
			f.SubUIDs, f.Engine.Value.UIDs = unknown[SubIDs]("sss"), 1
		}},
		{"from a directory service, no engine", func(f *Facts) {
			f.SubUIDs = unknown[SubIDs]("/etc/nsswitch.conf takes subordinate ids from sss")
			dead(f, problem.EngineUnreachable)
			f.Engine.Value.UIDs = 0
		}},
	},
	problem.NotDelegated: {
		{"systemd delegates less", func(f *Facts) { f.Engine.Value.Controllers = []string{"memory", "pids"} }},
		{"the host has none", func(f *Facts) { f.Engine.Value.Controllers, f.HostControllers = nil, known([]string{"cpuset"}) }},
		{"without systemd", func(f *Facts) { f.Engine.Value.Controllers, f.Systemd = nil, known(0) }},
		{"limits are asked for", func(f *Facts) { f.Wanted.Cgroups, f.Engine.Value.Controllers = "delegated", nil }},
		{"limits are not wanted", func(f *Facts) { f.Wanted.Cgroups, f.Engine.Value.Controllers = "none", nil }},
		{"not readable, no engine", func(f *Facts) {
			f.Controllers = unknown[[]string](denied)
			dead(f, problem.EngineUnreachable)
		}},
	},
	problem.DiskFull: {
		{"little", func(f *Facts) { f.Storage.Value.Free = gib }},
		{"nothing", func(f *Facts) { f.Storage.Value.Free = 1 << 20 }},
		{"little, Docker", both(docker, func(f *Facts) { f.Storage.Value.Free = gib })},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.HostLimit: {
		{"old defaults", both(set("fs.inotify.max_user_instances", "128"), set("fs.inotify.max_user_watches", "8192"))},
		{"instances not readable", secret("fs.inotify.max_user_instances")},
		{"watches not readable", secret("fs.inotify.max_user_watches")},
	},
	problem.EngineUnreachable: {
		{"no answer", func(f *Facts) {
			dead(f, problem.EngineUnreachable.Wrap(errors.New("CONTAINER_HOST=unix:///x: there is no such socket")))
		}},
		{"not asked", func(f *Facts) { f.Engine = unknown[engine.Info]("it was not asked") }},
		{"no session", func(f *Facts) { dead(f, problem.NoUserSession.Wrapf("gone")) }},
		{"an error without a code", func(f *Facts) { dead(f, errors.New("broken pipe")) }},
		{"a code without a cause", func(f *Facts) { dead(f, problem.EngineServiceFailed) }},
	},
	problem.NoEngine: {{"none", func(f *Facts) {
		dead(f, problem.NoEngine.Wrap(errors.New("nothing listens, and Podman is not installed")))
	}}},
	problem.EngineRootful: {{"root's", enginewise(func(i *engine.Info) { i.Rootless = false })}},
	problem.EngineTooOld: {
		{"old Podman", enginewise(func(i *engine.Info) { i.Version = "4.2.1" })},
		{"old Docker", both(docker, enginewise(func(i *engine.Info) { i.Version = "19.03.15" }))},
	},
	problem.SubnetClash: {
		{"a VPN has everything", func(f *Facts) {
			for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
				f.Routes = append(f.Routes, Route{netip.MustParsePrefix(p), "a route through tun0"})
			}
			f.Wanted.PodSubnet, f.Wanted.ServiceSubnet = "100.64.0.0/16", "100.65.0.0/16"
		}},
		{"the wanted one is taken", func(f *Facts) { f.Wanted.NodeSubnet = "10.88.7.0/24" }},
	},
	problem.CgroupV1: {
		{"hybrid", func(f *Facts) { f.Hierarchy = known("hybrid") }},
		{"legacy, limits are asked for", func(f *Facts) { f.Hierarchy, f.Wanted.Cgroups = known("legacy"), "delegated" }},
		{"nothing", func(f *Facts) { f.Hierarchy = unknown[string]("nothing is mounted at /sys/fs/cgroup") }},
	},
	problem.CgroupsPartial: {
		{"an older systemd", func(f *Facts) { f.Controllers = known([]string{"cpu", "memory", "pids"}) }},
		{"cgroup v1", func(f *Facts) { f.Controllers = unknown[[]string]("cgroup v2 is not in use") }},
	},
	problem.NoUserBus: {
		{"not installed", func(f *Facts) { f.Bus = known("/run/user/1000/bus: no such file or directory") }},
		{"stopped", func(f *Facts) {
			f.Bus, f.BusUnit = known("/run/user/1000/bus: connection refused"), known(true)
		}},
		{"stopped, limits are asked for", func(f *Facts) {
			f.Bus, f.Wanted.Cgroups = known("/run/user/1000/bus: connection refused"), "delegated"
		}},
		{"no session", func(f *Facts) { f.RuntimeDir.Value.Exists = false }},
		{"not tried", func(f *Facts) { f.Bus = Fact[string]{} }},
	},
	problem.NoLinger: {
		{"off", func(f *Facts) { f.Linger = known(false) }},
		{"not readable", func(f *Facts) { f.Linger = unknown[bool](denied) }},
	},
	problem.NoIDMapTools: {
		{"not installed", func(f *Facts) { f.NewUIDMap = known(Program{}) }},
		{"no setuid bit", func(f *Facts) { f.NewUIDMap.Value.Setuid, f.NewGIDMap.Value.Setuid = false, false }},
		{"not root's", func(f *Facts) { f.NewGIDMap.Value.Rooted = false }},
		{"capabilities", func(f *Facts) { f.NewUIDMap = known(Program{Path: "/usr/bin/newuidmap", Caps: true}) }},
		{"not readable", func(f *Facts) { f.NewGIDMap = unknown[Program](denied) }},
	},
	problem.UserNSDisabled: {
		{"limit of none", set("user.max_user_namespaces", "0")},
		{"switched off", set("kernel.unprivileged_userns_clone", "0")},
		{"refused, no engine", func(f *Facts) {
			f.UserNS = known("operation not permitted")
			dead(f, problem.EngineServiceFailed)
		}},
		{"refused, but the engine runs", func(f *Facts) { f.UserNS = known("operation not permitted") }},
		{"AppArmor, no engine", func(f *Facts) {
			f.UserNS = known("permission denied")
			set("kernel.apparmor_restrict_unprivileged_userns", "1")(f)
			f.EngineFailure, f.Engine = nil, Fact[engine.Info]{}
		}},
		{"not tried", func(f *Facts) {
			f.UserNS = unknown[string]("it was not tried")
			dead(f, problem.EngineUnreachable)
		}},
	},
	problem.UserNSAppArmor: {
		{"no profile", func(f *Facts) {
			set("kernel.apparmor_restrict_unprivileged_userns", "1")(f)
			dead(f, problem.EngineServiceFailed)
			f.Programs["podman"] = known("/usr/local/bin/podman")
		}},
		{"no profile, no Podman", func(f *Facts) {
			set("kernel.apparmor_restrict_unprivileged_userns", "1")(f)
			dead(f, problem.EngineUnreachable)
			f.Programs["podman"] = known("")
		}},
		{"a profile", set("kernel.apparmor_restrict_unprivileged_userns", "1")},
		{"not asked", both(set("kernel.apparmor_restrict_unprivileged_userns", "1"), func(f *Facts) { f.Engine = Fact[engine.Info]{} })},
		{"not readable", secret("kernel.apparmor_restrict_unprivileged_userns")},
	},
	problem.KernelTooOld: {
		{"very old", func(f *Facts) { f.Kernel = known("4.15.0-213-generic") }},
		{"old", func(f *Facts) { f.Kernel = known("5.10.0-30-amd64") }},
		{"odd", func(f *Facts) { f.Kernel = known("six") }},
		{"not readable", func(f *Facts) { f.Kernel = unknown[string](denied) }},
	},
	problem.SystemdTooOld: {
		{"old", func(f *Facts) { f.Systemd = known(241) }},
		{"another init", func(f *Facts) { f.Systemd = known(0) }},
		{"unknown", func(f *Facts) { f.Systemd = unknown[int]("it is not where it usually is") }},
	},
	problem.NoEngineNetwork: {
		{"no pasta", both(enginewise(func(i *engine.Info) { i.NetworkDriver = "pasta" }), func(f *Facts) {
			f.Programs["pasta"], f.Wanted.MultiHost = known(""), false
		})},
		{"no slirp4netns", func(f *Facts) { f.Programs["slirp4netns"] = known("") }},
		{"no slirp4netns for Podman 4", both(enginewise(func(i *engine.Info) { i.Version, i.NetworkDriver = "4.3.1", "" }), func(f *Facts) { f.Programs["slirp4netns"] = known("") })},
		{"no netavark", func(f *Facts) { f.Programs["netavark"] = known("") }},
		{"CNI of Podman 4", both(enginewise(func(i *engine.Info) { i.Version, i.NetworkDriver = "4.3.1", "" }), func(f *Facts) { f.Programs["netavark"] = known("") })},
		{"moved", func(f *Facts) { f.Programs["pasta"] = unknown[string]("containers.conf names another place") }},
		{"a driver of the future", enginewise(func(i *engine.Info) { i.NetworkDriver = "pesto" })},
	},
	problem.RootlessKitUDP: {
		{"3.0.0", both(docker, enginewise(func(i *engine.Info) { i.RootlessKit = "3.0.0" }))},
		{"3.0.0 with slirp4netns", both(docker, enginewise(func(i *engine.Info) { i.RootlessKit, i.PortDriver = "3.0.0", "slirp4netns" }))},
		{"3.0.1", both(docker, enginewise(func(i *engine.Info) { i.RootlessKit = "3.0.1" }))},
		{"not said", both(docker, enginewise(func(i *engine.Info) { i.RootlessKit = "" }))},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.PastaUnreachable: {
		{"both of Debian 13", both(docker, enginewise(pasta("2.0.2")), pastaOf("20250503"))},
		{"pasta of Ubuntu 24.04", both(docker, enginewise(pasta("2.0.2")), pastaOf("20240220"))},
		{"RootlessKit of Docker", both(docker, enginewise(pasta("2.3.2")), pastaOf("20250503"))},
		{"slirp4netns", docker},
		{"pasta unknown", both(docker, enginewise(pasta("2.0.2")), func(f *Facts) { f.Pasta = unknown[string]("pasta was not found") })},
		{"Podman", enginewise(func(i *engine.Info) { i.NetworkDriver = "pasta" })},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.NetworkOneHost: {
		{"Podman 5", enginewise(func(i *engine.Info) { i.NetworkDriver = "pasta" })},
		{"Podman 5 without slirp4netns", both(enginewise(func(i *engine.Info) { i.NetworkDriver = "pasta" }), func(f *Facts) { f.Programs["slirp4netns"] = known("") })},
		{"Podman 6", enginewise(func(i *engine.Info) { i.NetworkDriver, i.Version = "pasta", "6.0.0" })},
		{"Podman 4", enginewise(func(i *engine.Info) { i.NetworkDriver, i.Version = "", "4.9.3" })},
		{"not said", enginewise(func(i *engine.Info) { i.NetworkDriver = "" })},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.StorageSlow: {
		{"vfs", enginewise(func(i *engine.Info) { i.StorageDriver = "vfs" })},
		{"vfs of Docker", both(docker, enginewise(func(i *engine.Info) { i.StorageDriver = "vfs" }))},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.NoOverlay: {
		{"neither", func(f *Facts) {
			f.Overlay, f.Fuse = known("invalid argument"), known("/dev/fuse: no such file or directory")
		}},
		{"fuse-overlayfs", func(f *Facts) { f.Overlay = known("invalid argument") }},
		{"overlayfs not tried", func(f *Facts) { f.Overlay = unknown[string]("it was not tried") }},
		{"nothing is known", func(f *Facts) {
			f.Overlay, f.Fuse = unknown[string]("it was not tried"), known("/dev/fuse: permission denied")
		}},
	},
	problem.StorageRemote: {
		{"NFS", func(f *Facts) { f.Storage.Value.FS = "nfs4" }},
		{"NFS, Docker", both(docker, func(f *Facts) { f.Storage.Value.FS = "nfs4" })},
		{"memory", func(f *Facts) { f.Storage.Value.FS = "tmpfs" }},
		{"mounted later", func(f *Facts) { f.Storage.Value.Foreign = true }},
		{"no engine", func(f *Facts) { dead(f, problem.EngineUnreachable) }},
	},
	problem.NoPacketFilter: {
		{"neither", probed(func(p *Probe) { p.NFTables, p.IPTables = "invalid argument", "the module ip_tables is not loaded" })},
		{"no nftables, which is wanted", both(func(f *Facts) { f.Wanted.KubeProxyMode = "nftables" }, probed(func(p *Probe) { p.NFTables = "invalid argument" }))},
		{"no nftables", probed(func(p *Probe) { p.NFTables = "invalid argument" })},
		{"no iptables", probed(func(p *Probe) { p.IPTables = "the module ip_tables is not loaded" })},
		{"not tried", unprobed},
	},
	problem.NoBridgeNetfilter: {
		{"not loaded", probed(func(p *Probe) { p.BridgeNetfilter = false })},
		{"not tried", unprobed},
	},
	problem.NoVXLAN: {
		{"none", probed(func(p *Probe) { p.VXLAN = "operation not supported" })},
		{"Raspberry Pi with Ubuntu", both(func(f *Facts) {
			f.OS, f.Kernel = OS{ID: "ubuntu", IDLike: []string{"debian"}}, known("6.8.0-1013-raspi")
		}, probed(func(p *Probe) { p.VXLAN = "operation not supported" }))},
		{"not tried", unprobed},
	},
	problem.NoTun: {
		{"not there", func(f *Facts) { f.Tun = known("/dev/net/tun: no such file or directory") }},
		{"not allowed", func(f *Facts) { f.Tun = known("/dev/net/tun: permission denied") }},
		{"not looked for", func(f *Facts) { f.Tun = Fact[string]{} }},
	},
	problem.NoVirtualEthernet: {
		{"neither", probed(func(p *Probe) { p.Bridge, p.Veth = "operation not supported", "operation not supported" })},
		{"not tried", unprobed},
	},
	problem.FewKeys: {
		{"defaults", both(set("kernel.keys.maxkeys", "200"), set("kernel.keys.maxbytes", "20000"))},
		{"keys not readable", secret("kernel.keys.maxkeys")},
		{"bytes not readable", secret("kernel.keys.maxbytes")},
	},
	problem.FewTasks: {
		{"few", func(f *Facts) { f.Tasks = known(uint64(1024)) }},
		{"no limit", func(f *Facts) { f.Tasks = known(noLimit) }},
		{"not readable", func(f *Facts) { f.Tasks = unknown[uint64](denied) }},
	},
	problem.FewFiles: {
		{"few", func(f *Facts) { f.Files = known(uint64(4096)) }},
		{"no limit", func(f *Facts) { f.Files = known(noLimit) }},
		{"not readable", func(f *Facts) { f.Files = unknown[uint64](denied) }},
	},
	problem.NoForwarding: {
		{"off", func(f *Facts) { f.EngineSysctls["net.ipv4.ip_forward"] = known("0") }},
		{"off, but it will be switched on", func(f *Facts) { f.EngineSysctls["net.ipv4.ip_forward"], f.EngineNetns = known("0"), freshNetns }},
		{"not readable", func(f *Facts) { f.EngineSysctls = nil }},
	},
	problem.NoPing: {
		{"nobody", set("net.ipv4.ping_group_range", "1\t0")},
		{"odd", set("net.ipv4.ping_group_range", "all")},
		{"odder", set("net.ipv4.ping_group_range", "a b")},
		{"not readable", secret("net.ipv4.ping_group_range")},
	},
	problem.PortPrivileged: {
		{"80 is wanted", func(f *Facts) { f.Wanted.Ports = []int{8080, 443, 80} }},
		{"80 is wanted and allowed", both(func(f *Facts) { f.Wanted.Ports = []int{80} }, set("net.ipv4.ip_unprivileged_port_start", "80"))},
		{"not a number", set("net.ipv4.ip_unprivileged_port_start", "many")},
	},
	problem.FewConnections: {
		{"few", set("net.netfilter.nf_conntrack_max", "8192")},
		{"not loaded", func(f *Facts) { delete(f.Sysctls, "net.netfilter.nf_conntrack_max") }},
	},
	problem.FewMemoryMaps: {
		{"an older default", set("vm.max_map_count", "65530")},
		{"not readable", secret("vm.max_map_count")},
	},
	problem.StrictOvercommit: {
		{"strict", set("vm.overcommit_memory", "2")},
		{"not readable", secret("vm.overcommit_memory")},
	},
	problem.NoKernelLog: {
		{"restricted", set("kernel.dmesg_restrict", "1")},
		{"not readable", secret("kernel.dmesg_restrict")},
	},
	problem.SELinuxDocker: {
		{"enforcing, Docker", both(docker, func(f *Facts) { f.SELinux = known("enforcing") })},
		{"enforcing, Podman", func(f *Facts) { f.SELinux = known("enforcing") }},
		{"not readable", func(f *Facts) { f.SELinux = unknown[string](denied) }},
	},
	problem.LittleMemory: {
		{"little", func(f *Facts) { f.Memory = known(uint64(gib)) }},
		{"not readable", func(f *Facts) { f.Memory = unknown[uint64](denied) }},
	},
	problem.SubnetRouted: {
		{"a VPN", func(f *Facts) {
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.240.0.0/12"), "a route through tun0"})
		}},
		{"not a subnet", func(f *Facts) { f.Wanted.PodSubnet = "many" }},
	},
	problem.DockerSnap: {
		{"snap", both(docker, enginewise(func(i *engine.Info) { i.GraphRoot = "/var/snap/docker/common/var-lib-docker" }))},
		{"package", docker},
	},
	problem.DockerInit: {
		{"on", both(docker, func(f *Facts) { f.DockerInit = known(true) })},
		{"off", docker},
		{"not readable", both(docker, func(f *Facts) { f.DockerInit = unknown[bool](denied) })},
	},
	problem.ContainerdRootless: {
		{"both", both(docker, func(f *Facts) { f.ContainerdRun = known(true) })},
		{"one", docker},
		{"not looked for", both(docker, func(f *Facts) { f.ContainerdRun = Fact[bool]{} })},
	},
	problem.ReversePathFilter: {
		{"strict", func(f *Facts) { f.EngineSysctls["net.ipv4.conf.default.rp_filter"] = known("1") }},
		{"strict from the start", func(f *Facts) {
			f.EngineSysctls["net.ipv4.conf.default.rp_filter"], f.EngineNetns = known("1"), freshNetns
		}},
		{"strict, Docker", both(docker, func(f *Facts) { f.EngineSysctls["net.ipv4.conf.all.rp_filter"] = known("1") })},
		{"not readable", func(f *Facts) { f.EngineSysctls["net.ipv4.conf.all.rp_filter"] = unknown[string](denied) }},
	},
	problem.MultiHostPort: {
		{"in use", func(f *Facts) { f.BusyPorts = known([]string{"8472/udp"}) }},
		{"not tried", func(f *Facts) { f.BusyPorts = Fact[[]string]{} }},
	},
	problem.NoHostAddress: {
		{"no default route", func(f *Facts) { f.Address = known(netip.Addr{}) }},
		{"not readable", func(f *Facts) { f.Address = unknown[netip.Addr](denied) }},
	},
	problem.FirewallMayInterfere: {
		{"firewalld", func(f *Facts) { f.Firewall = known("firewalld") }},
		{"not readable", func(f *Facts) { f.Firewall = unknown[string](denied) }},
	},
}

// of returns the finding of a code; not ok if there is none.
func of(findings []Finding, code string) (Finding, bool) {
	i := slices.IndexFunc(findings, func(x Finding) bool { return x.Code == code })
	if i < 0 {
		return Finding{}, false
	}
	return findings[i], true
}

func judge(change func(*Facts), distribution OS) []Finding {
	f := healthy()
	if distribution.ID != "" {
		f.OS = distribution
	}
	change(&f)
	return Evaluate(f)
}

func TestHealthyHost(t *testing.T) {
	t.Parallel()
	for _, x := range Evaluate(healthy()) {
		if x.Status != OK && x.Code != problem.FirewallMayInterfere.Code {
			t.Errorf("%s is %s: %s", x.Code, x.Status, x.Found)
		}
		if x.Found == "" || x.Why == "" || x.Check == "" || x.Summary != "" || x.Fix.Text() != "" {
			t.Errorf("%s: incomplete, or says how to repair what is well: %+v", x.Code, x)
		}
	}
	for name, change := range map[string]func(*Facts){"Docker": docker, "one host": func(f *Facts) { f.Wanted.MultiHost = false }, "create": func(f *Facts) { f.Wanted.Quick = true }} {
		for _, x := range judge(change, OS{}) {
			if x.Status == Failed {
				t.Errorf("%s: %s: %s", name, x.Code, x.Found)
			}
			if name == "one host" && x.Level == MultiHost {
				t.Errorf("%s: %s is about several", name, x.Code)
			}
		}
	}
}

// Nothing is guessed: without facts nothing fails, and nothing is well but
// that the configuration's subnets are free.
func TestNoFacts(t *testing.T) {
	t.Parallel()
	w := healthy().Wanted
	for _, x := range Evaluate(Facts{Wanted: w}) {
		if x.Status != Unknown && x.Code != problem.SubnetClash.Code && x.Code != problem.SubnetRouted.Code && x.Code != problem.UserNSAppArmor.Code {
			t.Errorf("%s is %s: %s", x.Code, x.Status, x.Found)
		}
	}
}

// TestChecks compares what each check says about its situations with the
// golden of its code.
func TestChecks(t *testing.T) {
	t.Parallel()
	for p, list := range situations {
		t.Run(p.Code, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			for _, s := range append([]situation{{"healthy", func(*Facts) {}}}, list...) {
				findings := judge(s.change, OS{})
				fmt.Fprintf(&b, "# %s\n", s.name)
				x, ok := of(findings, p.Code)
				if !ok {
					b.WriteString("does not apply\n\n")
					continue
				}
				fmt.Fprintf(&b, "%s, %s: %s\n", x.Level, x.Status, x.Found)
				if x.Status == Failed {
					fmt.Fprintf(&b, "%s\n", x.Fix.Text())
				}
				b.WriteString("\n")
				for _, other := range Blocking(findings) {
					if x.Status == Failed && other.Code != p.Code && !related(p, other) {
						t.Errorf("%s: %s fails too: %s", s.name, other.Code, other.Found)
					}
				}
			}
			golden(t, filepath.Join("testdata", "findings", p.Code+".golden"), b.String())
		})
	}
}

// related says that a check fails because another does: no engine, no AppArmor profile.
func related(p *problem.Problem, x Finding) bool {
	return slices.Contains([]*problem.Problem{problem.UserNSAppArmor, problem.UserNSDisabled}, p) && strings.HasPrefix(x.Code, "RK20")
}

// Every check has a situation in which it fails, one in which it passes and
// one in which it cannot know, but for those that have no such.
func TestSituationsAreComplete(t *testing.T) {
	t.Parallel()
	never := map[Status][]*problem.Problem{
		Failed:  {problem.FirewallMayInterfere}, // the rules are root's
		OK:      {problem.FirewallMayInterfere},
		Unknown: {problem.SubnetClash, problem.SubnetRouted, problem.DockerSnap}, // routes are there or not; the engine says it
	}
	for _, c := range checks() {
		seen := map[Status]bool{}
		for _, s := range append([]situation{{"healthy", func(*Facts) {}}}, situations[c.problem]...) {
			if x, ok := of(judge(s.change, OS{}), c.problem.Code); ok {
				seen[x.Status] = true
			}
		}
		for _, s := range []Status{OK, Failed, Unknown} {
			if seen[s] == slices.Contains(never[s], c.problem) {
				t.Errorf("%s: a situation with status %s: %t", c.problem.Code, s, seen[s])
			}
		}
	}
	for _, code := range Codes() {
		if p, ok := problem.Lookup(code); !ok || len(situations[p]) == 0 && !slices.Contains([]string{"RK205", "RK207"}, code) {
			t.Errorf("%s has no situations, or is no code", code)
		}
	}
}

// A finding as an error has its code, what was found, and the exact fix.
func TestFindingAsError(t *testing.T) {
	t.Parallel()
	x, _ := of(judge(func(f *Facts) { f.NewUIDMap = known(Program{}) }, OS{}), problem.NoIDMapTools.Code)
	err := x.Problem()
	p, ok := problem.Of(err)
	if !ok || !errors.Is(err, problem.NoIDMapTools) || p.Advice != "sudo apt-get install -y uidmap" || p.Unwrap().Error() != "newuidmap is not installed" {
		t.Errorf("got %+v", p)
	}
	if problem.ExitCode(err) != problem.ExitSetup {
		t.Errorf("exit code is %d", problem.ExitCode(err))
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), rewrite with -update:\n%s", path, diff)
	}
}
