// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Values of networking.ipFamily.
const (
	IPv4      = "ipv4"
	IPv6      = "ipv6"
	DualStack = "dual"
)

// KubeProxyNone is the networking.kubeProxyMode of a cluster without kube-proxy.
const KubeProxyNone = "none"

// Sizes of subnets, as lengths of their prefixes.
const (
	podBitsPerNode = 24 // kube-controller-manager's --node-cidr-mask-size, its default
	minPodBits     = 8
	minServiceBits = 12 // kube-apiserver takes at most 20 bits (cmd/kube-apiserver/app/options/validation.go)
	maxServiceBits = 27 // the DNS Service is the 10th address, and there must be room for others
	minNodeBits    = 24
	maxNodeBits    = 29
	reservedPerNet = 3 // of a node subnet: network, gateway, broadcast
	maxNodes       = 1<<(32-minNodeBits) - reservedPerNet

	pod6BitsPerNode = 64 // kube-controller-manager's --node-cidr-mask-size-ipv6, its default
	minPod6Bits     = 48 // and it takes at most 16 bits of node subnets (pkg/controller/nodeipam/ipam/cidrset)
	minService6Bits = 108
	maxService6Bits = 123
	minNode6Bits    = 64
	maxNode6Bits    = 120

	maxPort = 65535
)

// Subnets parses a field of Networking: one subnet, or two with a comma between.
func Subnets(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a subnet", part)
		}
		out = append(out, p)
	}
	return out, nil
}

// kind of subnet: what to write in place of one that is none, and its sizes.
type subnetKind struct {
	path, example, example6    string
	least, most, least6, most6 int
	perNode, perNode6          int  // length of a node's part of it; 0: none
	mixed                      bool // also a cluster of IPv6 alone has both families
}

var (
	podSubnets     = subnetKind{"networking.podSubnet", DefaultPodSubnet, DefaultPodSubnetIPv6, minPodBits, podBitsPerNode, minPod6Bits, pod6BitsPerNode, podBitsPerNode, pod6BitsPerNode, false}
	serviceSubnets = subnetKind{"networking.serviceSubnet", DefaultServiceSubnet, DefaultServiceSubnetIPv6, minServiceBits, maxServiceBits, minService6Bits, maxService6Bits, 0, 0, false}
	nodeSubnets    = subnetKind{"networking.nodeSubnet", "10.89.0.0/24", "fd00:89::/64", minNodeBits, maxNodeBits, minNode6Bits, maxNode6Bits, 0, 0, true}
)

func (e *Errors) networking(n Networking, nodes int) {
	const at = "networking."
	e.oneOf(at+"ipFamily", n.IPFamily, IPv4, IPv6, DualStack)
	pods, podsOK := e.subnets(podSubnets, n.PodSubnet, n.IPFamily)
	for _, p := range pods {
		perNode := podBitsPerNode
		if p.Addr().Is6() {
			perNode = pod6BitsPerNode
		}
		if room := 1 << (perNode - p.Bits()); nodes > room {
			e.add(at+"podSubnet", "%s has room for %d nodes (a /%d for each), but there are %d; take a larger one, or fewer nodes", p, room, perNode, nodes)
		}
	}
	services, servicesOK := e.subnets(serviceSubnets, n.ServiceSubnet, n.IPFamily)
	if podsOK && servicesOK {
		e.disjoint(at+"serviceSubnet", services, "podSubnet", pods)
		if pods[0].Addr().Is4() != services[0].Addr().Is4() {
			e.add(at+"podSubnet", "begins with another address family than serviceSubnet; write the primary family first in both")
		}
	}
	if n.NodeSubnet != "" {
		if own, ok := e.subnets(nodeSubnets, n.NodeSubnet, n.IPFamily); ok {
			for _, p := range own {
				e.nodeSubnet(p, nodes)
			}
			e.disjoint(at+"nodeSubnet", own, "podSubnet", pods)
			e.disjoint(at+"nodeSubnet", own, "serviceSubnet", services)
		}
	} else if nodes > maxNodes {
		e.add("nodes", "there are %d nodes, but at most %d have an address in a cluster's network; take fewer", nodes, maxNodes)
	}
	e.apiServer(n)
	if n.KubeProxyMode == "ipvs" {
		e.add(at+"kubeProxyMode", "%q cannot work here: the kernel takes IPVS rules from outside of user namespaces alone (GENL_ADMIN_PERM in "+
			"net/netfilter/ipvs/ip_vs_ctl.c), and Kubernetes has deprecated it; write iptables or nftables", n.KubeProxyMode)
	} else {
		e.oneOf(at+"kubeProxyMode", n.KubeProxyMode, "iptables", "nftables", KubeProxyNone)
	}
	for i, domain := range n.DNSSearch {
		if !IsDomain(domain) {
			e.add(fmt.Sprintf("%sdnsSearch[%d]", at, i), "%q is not a domain name; write it like example.org", domain)
		}
	}
}

// maxDomain is the length of a domain name in characters (RFC 1035 section 2.3.4, as text).
const maxDomain = 253

var domainRe = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*\.?$`)

// IsDomain says whether s is the name of a DNS domain.
func IsDomain(s string) bool { return len(s) <= maxDomain && domainRe.MatchString(s) }

// disjoint refuses overlaps of two fields' subnets.
func (e *Errors) disjoint(path string, own []netip.Prefix, other string, others []netip.Prefix) {
	for _, p := range own {
		for _, q := range others {
			if p.Overlaps(q) {
				e.add(path, "%s overlaps %s %s; give one of them another range", p, text(other), q)
			}
		}
	}
}

func (e *Errors) nodeSubnet(p netip.Prefix, nodes int) {
	if room := hosts(p); nodes > room {
		e.add("networking.nodeSubnet", "%s has addresses for %d nodes, but there are %d; take a larger one (up to a /%d), or fewer nodes", p, room, nodes, minNodeBits)
	}
}

// hosts is how many nodes have an address in a subnet.
func hosts(p netip.Prefix) int {
	return 1<<min(p.Addr().BitLen()-p.Bits(), 16) - reservedPerNet
}

func (e *Errors) apiServer(n Networking) {
	const at = "networking."
	switch addr, err := netip.ParseAddr(n.APIServerAddress); {
	case err != nil:
		e.add(at+"apiServerAddress", "%q is not an IP address; write it like %s", n.APIServerAddress, DefaultAPIServerAddress)
	case addr.Zone() != "" || addr.Is4In6():
		e.add(at+"apiServerAddress", "%s is not a plain IPv4 or IPv6 address; write it like %s", addr, DefaultAPIServerAddress)
	case addr.Is6() && n.IPFamily == IPv4:
		e.add(at+"apiServerAddress", "%s is IPv6, but the cluster is not; use an IPv4 address such as %s, or set networking.ipFamily to dual", addr, DefaultAPIServerAddress)
	case addr.IsMulticast():
		e.add(at+"apiServerAddress", "%s is a multicast address; write an address of this host, such as %s", addr, DefaultAPIServerAddress)
	}
	if n.APIServerPort < 0 || n.APIServerPort > maxPort {
		e.add(at+"apiServerPort", "%d must be from 1 to %d, or 0 for a free one", n.APIServerPort, maxPort)
	}
}

// subnets parses the subnets of a field. Whatever is wrong is added, and then
// ok is false and the result empty.
func (e *Errors) subnets(k subnetKind, s, family string) (list []netip.Prefix, ok bool) {
	parts := strings.Split(s, ",")
	both := family == DualStack || k.mixed && family == IPv6
	switch {
	case both && len(parts) != 2:
		e.add(k.path, "%q must be two subnets, one of IPv4 and one of IPv6, like %s,%s", s, text(k.example), text(k.example6))
		return nil, false
	case !both && len(parts) > 1 && (family == IPv4 || family == IPv6):
		e.add(k.path, "%q must be one subnet in a cluster of one address family; keep one, or set networking.ipFamily to dual", s)
		return nil, false
	}
	before := len(*e)
	for _, part := range parts {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		is6 := err == nil && p.Addr().Is6()
		example, least, most := k.example, k.least, k.most
		if is6 || err != nil && family == IPv6 {
			example, least, most = k.example6, k.least6, k.most6
		}
		switch {
		case err != nil:
			e.add(k.path, "%q is not a subnet; write it like %s", part, text(example))
		case p.Addr().Is4In6():
			e.add(k.path, "%q is an IPv4 subnet in the form of IPv6; write it like %s", part, text(k.example))
		case is6 && family == IPv4:
			e.add(k.path, "%q is IPv6, but the cluster is not; use an IPv4 subnet, or set networking.ipFamily to ipv6 or dual", part)
		case !is6 && family == IPv6 && !both:
			e.add(k.path, "%q is IPv4, but networking.ipFamily is ipv6; write a subnet like %s", part, text(k.example6))
		case p.Masked() != p:
			e.add(k.path, "%q has bits set behind its prefix; did you mean %s?", part, p.Masked())
		case p.Bits() < least || p.Bits() > most:
			e.add(k.path, "%q must be a /%d to a /%d", part, least, most)
		case slices.ContainsFunc(reserved, p.Overlaps):
			e.add(k.path, "%q cannot be used: it is loopback, link-local, multicast or reserved; take a private one, for example in 10.0.0.0/8 or fd00::/8", part)
		default:
			list = append(list, p)
		}
	}
	if len(*e) > before {
		return nil, false
	}
	if both && list[0].Addr().Is4() == list[1].Addr().Is4() {
		e.add(k.path, "%q has two subnets of one address family; write one of IPv4 and one of IPv6", s)
		return nil, false
	}
	return list, true
}

// reserved are what no subnet of a cluster may overlap.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}
