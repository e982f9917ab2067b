// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Fact is something that was measured, or was not: an ordinary user cannot
// read everything, and what cannot be read is not guessed. The zero value is
// a fact that nobody looked for.
type Fact[T any] struct {
	Value T
	Known bool
	Why   string // why it is not known
}

func known[T any](v T) Fact[T] { return Fact[T]{Value: v, Known: true} }

func unknown[T any](why string) Fact[T] { return Fact[T]{Why: why} }

// Wanted is what clusters are to have, as far as checks depend on it.
type Wanted struct {
	// Cgroups is "auto", "delegated" or "none".
	Cgroups string
	// KubeProxyMode is "iptables", "nftables" or "none".
	KubeProxyMode string
	// IPFamily is "ipv4", "ipv6" or "dual"; empty is IPv4.
	IPFamily string
	// PodSubnet, ServiceSubnet and NodeSubnet in CIDR notation, with a comma
	// between if there are two; NodeSubnet may be empty.
	PodSubnet, ServiceSubnet, NodeSubnet string
	// Ports of the host that are to be published.
	Ports []int
	// MultiHost says that nodes on several hosts are to form one cluster.
	MultiHost bool
	// Quick leaves out what takes long and what only checks below level Required need.
	Quick bool
}

// WantedBy returns what a defaulted configuration wants.
func WantedBy(c config.Cluster) Wanted {
	w := Wanted{
		Cgroups: c.Cgroups, KubeProxyMode: c.Networking.KubeProxyMode, IPFamily: c.Networking.IPFamily,
		PodSubnet: c.Networking.PodSubnet, ServiceSubnet: c.Networking.ServiceSubnet, NodeSubnet: c.Networking.NodeSubnet,
	}
	if p := c.Networking.APIServerPort; p != 0 {
		w.Ports = append(w.Ports, p)
	}
	for _, p := range plan.HostPorts(c) {
		if p.Port != 0 {
			w.Ports = append(w.Ports, int(p.Port))
		}
	}
	return w
}

// Facts is what checks are made of: plain data, gathered by a [Machine].
type Facts struct {
	Wanted Wanted
	OS     OS
	User   User

	// The session.
	RuntimeDir Fact[Dir]
	Bus        Fact[string] // "" if the session bus answers, else why not
	BusUnit    Fact[bool]   // the user unit dbus.socket is installed
	Systemd    Fact[int]    // version, e.g. 257; 0 where something else is the init
	Linger     Fact[bool]

	// Cgroups.
	Hierarchy       Fact[string]   // "unified", "hybrid" or "legacy"
	HostControllers Fact[[]string] // cgroup v2 controllers of the host
	Controllers     Fact[[]string] // cgroup v2 controllers that are delegated to the user

	// Ids and user namespaces.
	SubUIDs, SubGIDs     Fact[SubIDs]
	NewUIDMap, NewGIDMap Fact[Program]
	UserNS               Fact[string] // "" if rk itself could make a user namespace, else the error

	// The kernel.
	Kernel Fact[string]
	// Sysctls has values by name (net.ipv4.ip_forward), as the host's processes see them.
	Sysctls map[string]Fact[string]
	Tun     Fact[string] // "" if /dev/net/tun can be opened, else why not
	Fuse    Fact[string] // "" if /dev/fuse can be opened, else why not
	// Probe is what was tried in namespaces as an engine makes them.
	Probe Fact[Probe]

	// Limits.
	Files  Fact[uint64] // hard limit of open files of a process
	Tasks  Fact[uint64] // processes and threads that the user may have: the lowest limit
	Memory Fact[uint64] // bytes that programs can get

	// The network.
	Routes    []Route
	Address   Fact[netip.Addr] // where other hosts reach this one
	BusyPorts Fact[[]string]   // of [MultiHostPorts], those that are in use
	Firewall  Fact[string]     // "firewalld", "ufw" or ""

	// Programs has the path of a program, "" if it is not installed.
	Programs map[string]Fact[string]
	SELinux  Fact[string] // "enforcing", "permissive" or "disabled"

	// The engine.
	Engine        Fact[engine.Info]
	EngineFailure *problem.Problem // why there is none; its cause says what was found
	// EngineSysctls are the values in the engine's own network namespace, or in
	// a new one, which begins with the same values; EngineNetns says which.
	EngineSysctls map[string]Fact[string]
	EngineNetns   string
	Storage       Fact[Storage]
	Overlay       Fact[string] // "" if overlayfs works in a user namespace on the engine's storage, else why not
	Networks      []Route      // subnets of the engine's networks
	Pasta         Fact[string] // date of the version of pasta that carries Docker's network, 20241030
	DockerInit    Fact[bool]   // "init": true in Docker's daemon.json
	ContainerdRun Fact[bool]   // rootless containerd runs
}

// OS is what os-release(5) says.
type OS struct {
	ID     string   // "debian"
	IDLike []string // ["debian"] on Ubuntu
	Name   string   // "Debian GNU/Linux 13 (trixie)"
}

// User is who runs rk.
type User struct {
	Name     string
	UID, GID int
}

// Dir is a directory that must be the user's own.
type Dir struct {
	Path   string
	Exists bool
	UID    int // its owner
}

// SubIDs are subordinate ids of subuid(5) or subgid(5).
type SubIDs struct {
	Count int64   // ids of the user
	Taken []Range // of all users
}

// Range is a range of subordinate ids.
type Range struct{ First, Count int64 }

// Program is an executable that needs privileges.
type Program struct {
	Path   string // "" if it is not installed
	Rooted bool   // it belongs to root
	Setuid bool
	Caps   bool // it has file capabilities
}

// Storage is where the engine keeps images and containers.
type Storage struct {
	Path string
	FS   string // "ext4", "nfs", "tmpfs" …; a hexadecimal number if it is not known by name
	Free uint64 // bytes that an ordinary user can get
	// Foreign says that rk itself does not see this file system: it was mounted
	// or unmounted after the engine's namespaces were made.
	Foreign bool
}

// Route is a prefix that is in use, and by what.
type Route struct {
	Prefix netip.Prefix
	By     string
}

// MultiHostPorts are the ports of a host that other hosts of a cluster need:
// the API server, the kubelet, and VXLAN of Flannel.
var MultiHostPorts = []string{"6443/tcp", "10250/tcp", "8472/udp"}

// sysctl is a number of f.Sysctls.
func (f *Facts) sysctl(name string) Fact[int64] { return number(name, f.Sysctls) }

// engineSysctl is a number of f.EngineSysctls.
func (f *Facts) engineSysctl(name string) Fact[int64] { return number(name, f.EngineSysctls) }

func number(name string, values map[string]Fact[string]) Fact[int64] {
	v, ok := values[name]
	switch {
	case !ok:
		return unknown[int64](name + " was not read")
	case !v.Known:
		return unknown[int64](v.Why)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(v.Value), 10, 64)
	if err != nil {
		return unknown[int64](name + " is " + strconv.Quote(v.Value))
	}
	return known(n)
}

// family is the distribution family that packages and their tools depend on.
func (o OS) family() string {
	for _, id := range append([]string{o.ID}, o.IDLike...) {
		switch id {
		case "debian", "ubuntu":
			return familyDebian
		case "fedora", "rhel", "centos":
			return familyFedora
		case "arch":
			return familyArch
		case "suse", "opensuse":
			return familySUSE
		}
	}
	return ""
}

const (
	familyDebian = "debian"
	familyFedora = "fedora"
	familyArch   = "arch"
	familySUSE   = "suse"
)

// docker says that the engine is Docker.
func (f *Facts) docker() bool { return f.Engine.Known && f.Engine.Value.Name == "docker" }

// missing returns those of want that are not in have.
func missing(have []string, want ...string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return slices.Contains(have, w) })
}
