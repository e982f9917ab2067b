// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// values is what templates see: prepared fields, no decisions left to make.
type values struct {
	Cluster, KubernetesVersion   string
	Images                       map[string]string
	ImageRepository              string
	EtcdTag, CoreDNSTag          string
	IPFamily                     string
	PodSubnet, ServiceSubnet     string // the primary first, with a comma between
	PodSubnetIPv4, PodSubnetIPv6 string // empty if the cluster has no such family
	AnyAddress, AnyHost          string // every address of a node: plain, and as in HOST:PORT
	DNS                          netip.Addr
	DNSDomain                    string
	DNSReplicas                  int
	DNSHosts                     []engine.Host
	Endpoint                     string // API inside the cluster's network, ADDRESS:PORT
	EndpointHost                 netip.Addr
	EndpointPort                 uint16
	KubeProxyMode                string
	DefaultCNI                   bool
	CgroupMode                   CgroupMode
	CgroupDriver                 string
	CgroupsEnforced              bool
	CertSANs                     []string
	EtcdDataDir                  string
	EtcdMembers                  string // NAME=URL,…
	SeveralControlPlanes         bool
	FeatureGates                 map[string]bool
	FeatureGatesFlag             string // NAME=BOOL,…
	RuntimeConfig                string // API=BOOL,…

	// Documents that other templates hold.
	ClusterConfiguration, KubeletConfiguration, KubeProxyConfiguration string

	// Of one node.
	Name                           string
	IP                             netip.Addr
	URLHost                        string // IP as in URLs
	NodeIPs                        string
	PodCIDRs                       []string
	PodGatewayIPv4, PodGatewayIPv6 string
	PodMTU                         int
	RegistrationKind, NodeLabels   string
	Taints                         []Taint
	KubeletArgs                    []string
	ReservedCPU                    string // what pods may not have of the kubelet's CPUs
}

func (m *maker) values() values {
	img := m.facts.Image.Images
	net := m.config.Networking
	v := values{
		Cluster: m.config.Name, KubernetesVersion: m.facts.Image.KubernetesVersion, Images: img,
		IPFamily: cmp.Or(net.IPFamily, config.IPv4), PodSubnet: join(m.pods), ServiceSubnet: join(m.services),
		AnyAddress: "0.0.0.0", AnyHost: "0.0.0.0",
		DNS: m.dns, DNSDomain: m.dnsDomain, DNSReplicas: min(len(m.nodes), 2), DNSHosts: m.podHosts(),
		Endpoint: m.endpoint.String(), EndpointHost: m.endpoint.Addr(), EndpointPort: m.endpoint.Port(),
		KubeProxyMode: net.KubeProxyMode, DefaultCNI: !net.DisableDefaultCNI,
		CgroupMode: m.mode, CgroupDriver: "cgroupfs", CgroupsEnforced: m.mode == CgroupDelegated,
		CertSANs: m.apiServerNames(), EtcdDataDir: m.etcdDataDir,
		FeatureGates: m.config.FeatureGates, FeatureGatesFlag: flagMap(m.config.FeatureGates), RuntimeConfig: flagMap(m.config.RuntimeConfig),
		PodMTU: m.mtu - vxlanOverhead,
	}
	var members []string
	for _, n := range m.controlPlanes() {
		members = append(members, n.Name+"=https://"+netip.AddrPortFrom(n.IP, 2380).String())
	}
	v.EtcdMembers, v.SeveralControlPlanes = strings.Join(members, ","), len(members) > 1
	if m.ipv6() {
		v.PodMTU = m.mtu - vxlanOverheadIPv6
	}
	if m.pods[0].Addr().Is6() {
		v.AnyAddress, v.AnyHost = "::", "[::]"
	}
	for _, p := range m.pods {
		if p.Addr().Is6() {
			v.PodSubnetIPv6 = p.String()
		} else {
			v.PodSubnetIPv4 = p.String()
		}
	}
	if m.mode == CgroupDelegated {
		v.CgroupDriver = "systemd" // the node runs its own systemd, which owns the delegated tree
	}
	v.ImageRepository, _ = splitRef(img["kube-apiserver"])
	_, v.EtcdTag = splitRef(img["etcd"])
	_, v.CoreDNSTag = splitRef(img["coredns"])
	return v
}

// flagMap writes a map as command lines have it, sorted.
func flagMap[V any](m map[string]V) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(parts, ",")
}

// join writes values with commas between.
func join[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return strings.Join(out, ",")
}

// splitRef cuts an image reference into its repository's parent and its tag.
func splitRef(ref string) (parent, tag string) {
	name, tag, _ := strings.Cut(ref, ":")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], tag
	}
	return "", tag
}

// nodeValues are the values of a node that is placed.
func (m *maker) nodeValues(n Node) (values, error) {
	v := m.values()
	v.Name, v.IP, v.NodeIPs, v.Taints = n.Name, n.IP, join(n.IPs()), n.Taints
	if v.URLHost = n.IP.String(); n.IP.Is6() {
		v.URLHost = "[" + v.URLHost + "]"
	}
	if v.RegistrationKind = config.JoinConfiguration; n.Name == m.nodes[0].Name {
		v.RegistrationKind = config.InitConfiguration
	}
	if i := slices.IndexFunc(m.nodes, func(o Node) bool { return o.Name == n.Name }); i >= 0 {
		if _, reserved := wholeCPUs(m.config.Nodes[m.groups[i]].Resources); reserved > 0 {
			v.ReservedCPU = fmt.Sprintf("%dm", reserved)
		}
	}
	for _, cidr := range n.PodCIDRs() {
		gateway, err := nth(cidr, 1)
		if err != nil {
			return v, err
		}
		at := netip.PrefixFrom(gateway, cidr.Bits()).String()
		if cidr.Addr().Is6() {
			v.PodGatewayIPv6 = at
		} else {
			v.PodGatewayIPv4 = at
		}
		v.PodCIDRs = append(v.PodCIDRs, cidr.String())
	}
	return v, nil
}
