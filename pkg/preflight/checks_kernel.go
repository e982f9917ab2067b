// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var kernelChecks = []check{
	{
		problem: problem.KernelTooOld, name: "kernel", level: Required,
		why: "Clusters need user namespaces with cgroup v2 and fuse-overlayfs (4.18). With 5.13 and later, overlayfs works without root, which is faster, and kube-proxy can use nftables.",
		look: func(f *Facts) verdict {
			if !f.Kernel.Known {
				return dunno(f.Kernel.Why)
			}
			major, minor, ok := version(f.Kernel.Value)
			upgrade := note("Upgrade the kernel, or the distribution, to one with Linux 5.13 or later.")
			switch {
			case !ok:
				return dunno("the version is " + strconv.Quote(f.Kernel.Value))
			case major < 4 || major == 4 && minor < 18:
				return fail("Linux "+f.Kernel.Value, upgrade)
			case major < 5 || major == 5 && minor < 13:
				return fail("Linux "+f.Kernel.Value, upgrade).at(Recommended)
			}
			return pass("Linux " + f.Kernel.Value)
		},
	},
	{
		problem: problem.NoPacketFilter, name: "nftables and iptables", level: Required,
		why: "Kubernetes Services and the engine's networks are rules of the kernel's packet filter, in a network namespace of the user. A container cannot load the modules for it.",
		look: func(f *Facts) verdict {
			if !f.Probe.Known {
				return dunno(f.Probe.Why)
			}
			nft, ipt := f.Probe.Value.NFTables, f.Probe.Value.IPTables
			switch {
			case nft == "" && ipt == "":
				return pass("nf_tables and ip_tables work in a network namespace of the user")
			case nft == "":
				return pass("nf_tables works in a network namespace of the user (ip_tables: " + ipt + ")")
			case f.Wanted.KubeProxyMode == "nftables":
				return fail("nf_tables in a network namespace of the user: "+nft, modules("nftables", "nf_tables"))
			case ipt == "":
				return pass("ip_tables works in a network namespace of the user (nf_tables: " + nft + ")")
			}
			return fail("in a network namespace of the user: nf_tables: "+nft+"; ip_tables: "+ipt,
				modules("netfilter", "nf_tables", "nft_compat", "nf_nat", "xt_MASQUERADE", "xt_addrtype", "xt_comment", "xt_conntrack", "xt_mark", "xt_nat"))
		},
	},
	{
		problem: problem.NoBridgeNetfilter, name: "br_netfilter", level: Recommended,
		why: "rk's own pod network has no bridge and does without it. A network add-on of your own that uses one needs it: packets that stay on a bridge pass the rules of Services only with this module.",
		look: func(f *Facts) verdict {
			if !f.Probe.Known {
				return dunno(f.Probe.Why)
			}
			if !f.Probe.Value.BridgeNetfilter {
				return fail("/proc/sys/net/bridge does not exist", modules("br-netfilter", "br_netfilter"))
			}
			return pass("loaded")
		},
	},
	{
		problem: problem.NoVXLAN, name: "VXLAN", level: Required,
		why: "Flannel connects the pods of different nodes through a VXLAN device in each node.",
		look: func(f *Facts) verdict {
			if !f.Probe.Known {
				return dunno(f.Probe.Why)
			}
			if e := f.Probe.Value.VXLAN; e != "" {
				fix := modules("vxlan", "vxlan")
				if f.OS.ID == "ubuntu" && strings.Contains(f.Kernel.Value, "raspi") {
					fix = Fix{Steps: []Step{asRoot("apt-get install -y linux-modules-extra-raspi")}}.join(fix)
				}
				return fail("making a VXLAN device in a network namespace of the user: "+e, fix)
			}
			return pass("a device could be made")
		},
	},
	{
		problem: problem.NoVirtualEthernet, name: "bridges and veth pairs", level: Required,
		why: "The engine connects its containers, and the CNI plugins connect pods, with a bridge and a veth pair for each.",
		look: func(f *Facts) verdict {
			if !f.Probe.Known {
				return dunno(f.Probe.Why)
			}
			var errs, mods []string
			if e := f.Probe.Value.Bridge; e != "" {
				errs, mods = append(errs, "bridge: "+e), append(mods, "bridge")
			}
			if e := f.Probe.Value.Veth; e != "" {
				errs, mods = append(errs, "veth: "+e), append(mods, "veth")
			}
			if len(errs) > 0 {
				return fail("making devices in a network namespace of the user: "+strings.Join(errs, "; "), modules("links", mods...))
			}
			return pass("devices could be made")
		},
	},
	{
		problem: problem.NoTun, name: "/dev/net/tun", level: Required,
		why: "pasta and slirp4netns, which connect a rootless engine's network to the host's, need a TUN device.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Tun.Known:
				return dunno(f.Tun.Why)
			case f.Tun.Value != "":
				return fail(f.Tun.Value, device("/dev/net/tun", f.Tun.Value, "tun"))
			}
			return pass("it can be opened")
		},
	},
	{
		problem: problem.HostLimit, name: "inotify", level: Recommended,
		wrong: "the user may watch few files, which is too little for several nodes",
		why:   "systemd, kubelet and containerd of every node watch files with inotify, and all nodes of a user share one limit. Where it is low, the second or third node fails with \"too many open files\".",
		look: func(f *Facts) verdict {
			instances, watches := f.sysctl("fs.inotify.max_user_instances"), f.sysctl("fs.inotify.max_user_watches")
			switch {
			case !instances.Known:
				return dunno(instances.Why)
			case !watches.Known:
				return dunno(watches.Why)
			}
			found := fmt.Sprintf("fs.inotify.max_user_instances is %d, fs.inotify.max_user_watches is %d", instances.Value, watches.Value)
			if instances.Value < 512 || watches.Value < 65536 {
				return fail(found, sysctl("inotify", "fs.inotify.max_user_instances = 1024", "fs.inotify.max_user_watches = 524288"))
			}
			return pass(found)
		},
	},
	{
		problem: problem.FewKeys, name: "kernel keyrings", level: Recommended,
		why: "Each container gets a keyring of its own, and all belong to the one user. At the limit, pods fail with \"unable to create session key: disk quota exceeded\".",
		look: func(f *Facts) verdict {
			keys, size := f.sysctl("kernel.keys.maxkeys"), f.sysctl("kernel.keys.maxbytes")
			switch {
			case !keys.Known:
				return dunno(keys.Why)
			case !size.Known:
				return dunno(size.Why)
			}
			found := fmt.Sprintf("kernel.keys.maxkeys is %d, kernel.keys.maxbytes is %d", keys.Value, size.Value)
			if keys.Value < 1000 || size.Value < 25000 {
				return fail(found, sysctl("keys", "kernel.keys.maxkeys = 20000", "kernel.keys.maxbytes = 500000"))
			}
			return pass(found)
		},
	},
	{
		problem: problem.FewMemoryMaps, name: "memory mappings", level: Recommended,
		why: "Elasticsearch, OpenSearch and some databases refuse to start with fewer than 262144 memory mappings. A node cannot change the setting, which is the whole machine's.",
		look: func(f *Facts) verdict {
			v := f.sysctl("vm.max_map_count")
			switch {
			case !v.Known:
				return dunno(v.Why)
			case v.Value < 262144:
				return fail(fmt.Sprintf("vm.max_map_count is %d", v.Value), sysctl("maps", "vm.max_map_count = 262144"))
			}
			return pass(fmt.Sprintf("vm.max_map_count is %d", v.Value))
		},
	},
	{
		problem: problem.StrictOvercommit, name: "memory overcommit", level: Recommended,
		why: "The kubelet wants vm.overcommit_memory 1, which it cannot set in a user namespace. 0 works too; with 2, programs that reserve much memory and use little of it fail to start.",
		look: func(f *Facts) verdict {
			v := f.sysctl("vm.overcommit_memory")
			switch {
			case !v.Known:
				return dunno(v.Why)
			case v.Value == 2:
				return fail("vm.overcommit_memory is 2", sysctl("overcommit", "vm.overcommit_memory = 1"))
			}
			return pass(fmt.Sprintf("vm.overcommit_memory is %d", v.Value))
		},
	},
	{
		problem: problem.NoKernelLog, name: "kernel log", level: Recommended,
		why: "The kubelet learns from the kernel's log that a process was killed for want of memory. Without it the pod restarts all the same, but no event names the cause.",
		look: func(f *Facts) verdict {
			v := f.sysctl("kernel.dmesg_restrict")
			switch {
			case !v.Known:
				return dunno(v.Why)
			case v.Value != 0:
				return fail(fmt.Sprintf("kernel.dmesg_restrict is %d", v.Value), sysctl("dmesg", "kernel.dmesg_restrict = 0").then("This lets all users of the host read the kernel's log."))
			}
			return pass("kernel.dmesg_restrict is 0")
		},
	},
	{
		problem: problem.FewConnections, name: "connection tracking", level: Recommended,
		why: "Every connection through a Service takes an entry in the kernel's table, which is the whole machine's; a node cannot enlarge it. When it is full, new connections are dropped.",
		look: func(f *Facts) verdict {
			v := f.sysctl("net.netfilter.nf_conntrack_max")
			switch {
			case !v.Known:
				return dunno(v.Why)
			case v.Value < 65536:
				return fail(fmt.Sprintf("net.netfilter.nf_conntrack_max is %d", v.Value), modules("conntrack", "nf_conntrack").join(sysctl("conntrack", "net.netfilter.nf_conntrack_max = 262144")))
			}
			return pass(fmt.Sprintf("net.netfilter.nf_conntrack_max is %d", v.Value))
		},
	},
}

// device makes a device usable: by its mode, or by the module that makes it.
func device(path, why, module string) Fix {
	if strings.HasSuffix(why, syscall.EACCES.Error()) {
		return Fix{Steps: []Step{asRoot("chmod 666 " + path)}, After: "If it is so again after a reboot, look for a rule of udev about it."}
	}
	return modules(module, module)
}

// version reads the first two numbers of a version.
func version(s string) (major, minor int, ok bool) {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if len(fields) < 2 || !strings.HasPrefix(s, fields[0]+"."+fields[1]) {
		return 0, 0, false
	}
	major, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(fields[1])
	return major, minor, err == nil
}
