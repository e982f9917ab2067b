// SPDX-License-Identifier: Apache-2.0

package problem

// checkAdvice is the fix of every check in general; where a check fails, the
// exact commands for that host take its place.
const checkAdvice = "Run 'rk doctor': it shows what was found on this host and the commands that repair it."

// RK7xx: what "rk doctor" looks at, beside what has a code in the other
// series. Their pages are made from package preflight's table of checks.
var (
	HostNotReady = &Problem{
		Code: "RK700", Exit: ExitSetup,
		Summary: "this host is not ready for clusters",
		Advice:  "The checks that failed are listed with their fixes. 'rk doctor --fix-script' prints a script for root that makes the changes.",
	}
	CgroupV1             = check("RK701", "the host does not use cgroup v2 alone")
	CgroupsPartial       = check("RK702", "the cgroup controllers cpuset or io are not delegated to the user")
	NoUserBus            = check("RK703", "the user's D-Bus does not answer")
	NoLinger             = check("RK704", "clusters end when the user logs out")
	NoIDMapTools         = check("RK705", "newuidmap or newgidmap cannot give subordinate ids to the user")
	UserNSDisabled       = check("RK706", "the kernel does not let ordinary users make user namespaces")
	UserNSAppArmor       = check("RK707", "AppArmor keeps the engine from using user namespaces")
	KernelTooOld         = check("RK708", "the kernel is too old")
	SystemdTooOld        = check("RK709", "systemd is too old to delegate cgroup controllers")
	NoEngineNetwork      = check("RK710", "a program that the engine needs for its network is not installed")
	RootlessKitUDP       = check("RK711", "this version of RootlessKit loses UDP packets from other hosts")
	NetworkOneHost       = check("RK712", "the engine's network driver does not fit clusters across hosts")
	StorageSlow          = check("RK713", "the engine copies every layer of every container")
	NoOverlay            = check("RK714", "neither overlayfs nor fuse-overlayfs works for nodes")
	StorageRemote        = check("RK715", "the engine's storage is on a file system that does not fit")
	NoPacketFilter       = check("RK716", "the kernel has neither nftables nor iptables for user namespaces")
	NoBridgeNetfilter    = check("RK717", "the kernel module br_netfilter is not loaded")
	NoVXLAN              = check("RK718", "the kernel has no VXLAN devices")
	NoTun                = check("RK719", "/dev/net/tun cannot be opened")
	NoVirtualEthernet    = check("RK720", "the kernel has no bridges or no veth pairs")
	FewKeys              = check("RK721", "the user may keep few keys in the kernel")
	FewTasks             = check("RK722", "the user may run few processes")
	FewFiles             = check("RK723", "processes of the user may open few files")
	NoForwarding         = check("RK724", "the engine's network does not forward packets")
	NoPing               = check("RK725", "ping does not work without root")
	PortPrivileged       = check("RK726", "a port that is to be published is reserved for root")
	FewConnections       = check("RK727", "the kernel tracks few connections")
	FewMemoryMaps        = check("RK728", "processes may have few memory mappings")
	StrictOvercommit     = check("RK729", "the kernel refuses memory that is reserved but not used")
	NoKernelLog          = check("RK730", "the user may not read the kernel's log")
	SELinuxDocker        = check("RK731", "SELinux keeps rootless Docker from its own network namespace")
	LittleMemory         = check("RK732", "there is little memory")
	SubnetRouted         = check("RK733", "a subnet of the cluster is in use in the host's network")
	DockerSnap           = check("RK734", "Docker was installed from a snap")
	DockerInit           = check("RK735", "Docker puts an init of its own into every container")
	ContainerdRootless   = check("RK736", "rootless containerd and rootless Docker run at the same time")
	ReversePathFilter    = check("RK737", "the engine's network drops packets that come in on another way than they would go out")
	MultiHostPort        = check("RK738", "a port that hosts of one cluster need is in use")
	NoHostAddress        = check("RK739", "the host has no address that other hosts can reach")
	FirewallMayInterfere = check("RK740", "a firewall may keep the hosts of a cluster apart")
	PastaUnreachable     = check("RK741", "this version of RootlessKit does not publish ports on 127.0.0.1 with pasta")
)

func check(code, summary string) *Problem {
	return &Problem{Code: code, Summary: summary, Advice: checkAdvice, Exit: ExitSetup}
}

// checks is ordered by code.
var checks = []*Problem{
	HostNotReady, CgroupV1, CgroupsPartial, NoUserBus, NoLinger, NoIDMapTools, UserNSDisabled, UserNSAppArmor, KernelTooOld, SystemdTooOld,
	NoEngineNetwork, RootlessKitUDP, NetworkOneHost, StorageSlow, NoOverlay, StorageRemote, NoPacketFilter, NoBridgeNetfilter, NoVXLAN, NoTun,
	NoVirtualEthernet, FewKeys, FewTasks, FewFiles, NoForwarding, NoPing, PortPrivileged, FewConnections, FewMemoryMaps, StrictOvercommit,
	NoKernelLog, SELinuxDocker, LittleMemory, SubnetRouted, DockerSnap, DockerInit, ContainerdRootless, ReversePathFilter, MultiHostPort,
	NoHostAddress, FirewallMayInterfere, PastaUnreachable,
}
