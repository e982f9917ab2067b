// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var networkChecks = []check{
	{
		problem: problem.SubnetClash, name: "subnet for nodes", level: Required,
		why: "Each cluster has a network of its own, which must not overlap another network of the engine or what the host reaches through a route, a VPN's for example.",
		look: func(f *Facts) verdict {
			c := config.Default(config.Cluster{Networking: config.Networking{
				IPFamily: f.Wanted.IPFamily, PodSubnet: f.Wanted.PodSubnet, ServiceSubnet: f.Wanted.ServiceSubnet, NodeSubnet: f.Wanted.NodeSubnet,
			}})
			var used []taken
			for _, r := range slices.Concat(f.Networks, f.Routes) {
				used = append(used, taken{r.Prefix, r.By})
			}
			free, err := subnet(c, used)
			if err != nil {
				p, _ := problem.Of(err)
				found := err.Error()
				if p.Unwrap() != nil {
					found = p.Unwrap().Error()
				}
				return fail(found, Fix{Note: p.Advice})
			}
			return pass(free.String() + " is free")
		},
	},
	{
		problem: problem.SubnetRouted, name: "subnets for pods and Services", level: Recommended,
		why: "Pods cannot reach hosts whose addresses are also those of the cluster's pods or Services.",
		look: func(f *Facts) verdict {
			var found []string
			for _, s := range [][2]string{{"podSubnet", f.Wanted.PodSubnet}, {"serviceSubnet", f.Wanted.ServiceSubnet}} {
				subnets, err := config.Subnets(s[1])
				if err != nil {
					continue // the configuration's own check names it
				}
				for _, p := range subnets {
					for _, r := range f.Routes {
						if p.Overlaps(r.Prefix) {
							found = append(found, fmt.Sprintf("%s %s overlaps %s of %s", s[0], p, r.Prefix, r.By))
						}
					}
				}
			}
			if len(found) > 0 {
				return fail(strings.Join(found, "; "), note("Choose other subnets in the configuration (networking.podSubnet, networking.serviceSubnet), for example 172.24.0.0/16 and 172.25.0.0/16, if pods are to reach those hosts; 'rk doctor --config FILE' checks them."))
			}
			return pass(f.Wanted.PodSubnet + " and " + f.Wanted.ServiceSubnet + " are used by nobody else")
		},
	},
	{
		problem: problem.PortPrivileged, name: "ports below 1024", level: Recommended,
		why: "Ordinary users may listen only on ports from net.ipv4.ip_unprivileged_port_start on.",
		look: func(f *Facts) verdict {
			v := f.sysctl("net.ipv4.ip_unprivileged_port_start")
			if !v.Known {
				return dunno(v.Why)
			}
			low := slices.DeleteFunc(slices.Clone(f.Wanted.Ports), func(p int) bool { return int64(p) >= v.Value })
			if len(low) > 0 {
				return fail(fmt.Sprintf("port %d is wanted, and ordinary users may have ports from %d on", slices.Min(low), v.Value),
					sysctl("ports", "net.ipv4.ip_unprivileged_port_start = "+strconv.Itoa(slices.Min(low)))).at(Required)
			}
			return pass(fmt.Sprintf("ports from %d on can be published", v.Value))
		},
	},
	{
		problem: problem.NoForwarding, name: "IP forwarding", level: Recommended,
		why: "Packets of pods leave a node through the engine's network namespace, which must forward them. Engines switch that on with their first network.",
		look: func(f *Facts) verdict {
			v := f.engineSysctl("net.ipv4.ip_forward")
			switch {
			case !v.Known:
				return dunno(v.Why)
			case v.Value == 1:
				return pass("on in " + f.EngineNetns)
			case f.EngineNetns == freshNetns:
				return pass("off in " + f.EngineNetns + "; the engine switches it on with its first network")
			}
			return fail("net.ipv4.ip_forward is 0 in "+f.EngineNetns, Fix{Steps: []Step{f.inNetns("net.ipv4.ip_forward", "1")}})
		},
	},
	{
		problem: problem.NoPing, name: "ping", level: Recommended,
		why: "slirp4netns and pasta send pings of pods to other hosts through ping sockets of the user, which only groups within net.ipv4.ping_group_range may have.",
		look: func(f *Facts) verdict {
			v := f.Sysctls["net.ipv4.ping_group_range"]
			if !v.Known {
				return dunno(v.Why)
			}
			fields := strings.Fields(v.Value)
			if len(fields) != 2 {
				return dunno("net.ipv4.ping_group_range is " + strconv.Quote(v.Value))
			}
			first, err1 := strconv.ParseInt(fields[0], 10, 64)
			last, err2 := strconv.ParseInt(fields[1], 10, 64)
			if err1 != nil || err2 != nil {
				return dunno("net.ipv4.ping_group_range is " + strconv.Quote(v.Value))
			}
			found := fmt.Sprintf("net.ipv4.ping_group_range is %d to %d, the user's group is %d", first, last, f.User.GID)
			if gid := int64(f.User.GID); gid < first || gid > last {
				return fail(found, sysctl("ping", "net.ipv4.ping_group_range = 0 2147483647"))
			}
			return pass(found)
		},
	},
}

// inNetns changes a setting of the engine's network namespace, which the user may.
func (f *Facts) inNetns(name, value string) Step {
	enter := "podman unshare --rootless-netns"
	if f.docker() {
		enter = `nsenter --preserve-credentials --user --net --target "$(cat "$XDG_RUNTIME_DIR/dockerd-rootless/child_pid")"`
	}
	return asUser(enter + " sh -c 'echo " + value + " >" + sysctlPath(name) + "'")
}

var multiHostChecks = []check{
	{
		problem: problem.ReversePathFilter, name: "reverse path filter", level: MultiHost,
		why: "VXLAN packets from other hosts come in through the engine's port forwarder and go out another way. Strict reverse path filtering (1) drops them.",
		look: func(f *Facts) verdict {
			for _, name := range []string{"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"} {
				v := f.engineSysctl(name)
				switch {
				case !v.Known:
					return dunno(v.Why)
				case v.Value == 1:
					fix := sysctl("rp-filter", "net.ipv4.conf.all.rp_filter = 2", "net.ipv4.conf.default.rp_filter = 2")
					if f.EngineNetns == engineNetns { // new ones begin with the host's values
						fix.Steps = append(fix.Steps, f.inNetns("net.ipv4.conf.all.rp_filter", "2"), f.inNetns("net.ipv4.conf.default.rp_filter", "2"))
					}
					return fail(name+" is 1 in "+f.EngineNetns, fix)
				}
			}
			return pass("not strict in " + f.EngineNetns)
		},
	},
	{
		problem: problem.MultiHostPort, name: "ports for other hosts", level: MultiHost,
		why: "The other hosts of a cluster reach this one's API server, kubelet and VXLAN device at fixed ports.",
		look: func(f *Facts) verdict {
			switch {
			case !f.BusyPorts.Known:
				return dunno(f.BusyPorts.Why)
			case len(f.BusyPorts.Value) > 0:
				return fail("in use: "+strings.Join(f.BusyPorts.Value, ", "), Fix{Note: "Stop what listens there; this shows it:", Steps: []Step{asUser("ss -lntup")}})
			}
			return pass(strings.Join(MultiHostPorts, ", ") + " are free")
		},
	},
	{
		problem: problem.NoHostAddress, name: "address for other hosts", level: MultiHost,
		why: "The hosts of a cluster reach each other by the address of the interface that has the default route.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Address.Known:
				return dunno(f.Address.Why)
			case !f.Address.Value.IsValid():
				return fail("there is no default route", note("Connect the host to a network with a default route; 'ip route' shows the routes."))
			}
			return pass(f.Address.Value.String())
		},
	},
	{
		problem: problem.FirewallMayInterfere, name: "firewall", level: MultiHost,
		why: "The other hosts must reach 6443/tcp, 10250/tcp and 8472/udp here.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Firewall.Known:
				return dunno(f.Firewall.Why)
			case f.Firewall.Value != "":
				return dunno(f.Firewall.Value + " runs, and an ordinary user cannot read its rules; they must let in 6443/tcp, 10250/tcp and 8472/udp")
			}
			return dunno("neither firewalld nor ufw runs; whether there are other rules cannot be read by an ordinary user")
		},
	},
}
