// SPDX-License-Identifier: Apache-2.0

// Package plan decides everything about a cluster before anything is made:
// names, addresses, ports, certificates, every rendered file, every container
// and the order. Make is pure: what is measured, random or from the clock
// arrives in Facts, so that goldens pin its result and --dry-run prints it.
//
// It must never import os, os/exec, net/http, randomness, or an engine.
package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Roles of nodes.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
)

// Labels of everything that belongs to a cluster. Own keys, so that kind's
// `delete clusters --all` never touches these.
const (
	LabelCluster           = "io.rk.cluster"
	LabelRole              = "io.rk.role"
	LabelKubernetesVersion = "io.rk.kubernetes-version"
	// LabelCreation tells apart two creations of one name at the same time, each
	// of which may take back only what it made itself. Its value is random: it
	// is added when a plan is carried out.
	LabelCreation = "io.rk.creation"
)

const (
	apiPort = 6443
	// VarSeed is where files for /var lie in a node container before it
	// starts: /var itself is a volume, and the node copies them there at its first boot.
	VarSeed = "/etc/rk/var"
	// vxlanOverhead is what an IPv4 VXLAN header takes of the MTU, in bytes (RFC 7348).
	vxlanOverhead = 50
	defaultMTU    = 1500
)

// requiredImages are the images that a node image must hold.
var requiredImages = []string{
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
	"flannel", "coredns", "pause", "local-path-provisioner", "busybox",
}

// NetworkName returns the engine network of a cluster.
func NetworkName(cluster string) string { return "rk-" + cluster }

// ContextName returns the kubeconfig context of a cluster.
func ContextName(cluster string) string { return "rk-" + cluster }

// Make plans a cluster from a defaulted and validated configuration.
func Make(c config.Cluster, f Facts) (*Plan, error) {
	for _, name := range requiredImages {
		if f.Image.Images[name] == "" {
			return nil, problem.NotNodeImage.Wrapf("%s does not say where it has the image %q", f.Image.Ref, name)
		}
	}
	mode, err := cgroupMode(c.Cgroups, f.Engine)
	if err != nil {
		return nil, err
	}
	m := &maker{config: c, facts: f, mode: mode, mtu: defaultMTU}
	if err := m.addresses(); err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster:           c.Name,
		KubernetesVersion: f.Image.KubernetesVersion,
		Image:             f.Image.Ref,
		Engine:            f.Engine.Name,
		CgroupMode:        mode,
		Network: engine.NetworkSpec{
			Name: NetworkName(c.Name), Subnet: f.Subnet.Masked(), Labels: map[string]string{LabelCluster: c.Name},
		},
		PodSubnet:     m.pods,
		ServiceSubnet: m.services,
		APIServer:     m.apiServer,
		CAs: []pki.CA{
			{Name: pki.ClusterCA, CommonName: "kubernetes", Path: pkiDir + "/ca"},
			{Name: frontProxyCA, CommonName: "front-proxy-ca", Path: pkiDir + "/front-proxy-ca"},
			{Name: etcdCA, CommonName: "etcd-ca", Path: pkiDir + "/etcd/ca"},
			{Name: "sa", Path: pkiDir + "/sa"},
		},
		Admin: pki.Kubeconfig{
			Cluster: ContextName(c.Name), User: ContextName(c.Name), Context: ContextName(c.Name),
			Server: "https://" + m.apiServer.String(), CommonName: "kubernetes-admin", Organizations: []string{"kubeadm:cluster-admins"},
		},
	}
	if f.MTU > 0 && f.MTU < defaultMTU {
		m.mtu, p.Network.MTU = f.MTU, f.MTU
	}
	if mode == CgroupNone {
		p.Warnings = append(p.Warnings, "no usable cgroup controllers (cpu, memory and pids) are delegated to this user: "+
			"resource limits of pods are not enforced (--cgroups=none)")
	}
	if addr := m.apiServer.Addr(); !addr.IsLoopback() {
		where := "the network of its address " + addr.String()
		if addr.IsUnspecified() {
			where = "every network of this host (" + addr.String() + ")"
		}
		p.Warnings = append(p.Warnings, "the Kubernetes API can be reached from "+where+": whoever gets hold of the kubeconfig controls the cluster, "+
			"and its nodes run privileged; leave networking.apiServerAddress out to keep it to this host")
	}
	for _, n := range m.nodes {
		node, err := m.node(n)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		p.Nodes = append(p.Nodes, node)
	}
	if p.Addons, err = m.addons(); err != nil {
		return nil, err
	}
	return p, nil
}

// cgroupMode resolves the configured mode against what the engine can use.
// Controllers cpu, memory and pids are what a kubelet needs of cgroup v2.
func cgroupMode(want string, e engine.Info) (CgroupMode, error) {
	var missing []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(e.Controllers, c) {
			missing = append(missing, c)
		}
	}
	usable := e.CgroupVersion == 2 && len(missing) == 0
	switch want {
	case string(CgroupNone):
		return CgroupNone, nil
	case string(CgroupDelegated):
		if e.CgroupVersion != 2 {
			return "", problem.NotDelegated.Wrapf("the engine uses cgroup v%d", e.CgroupVersion)
		}
		if !usable {
			return "", problem.NotDelegated.Wrapf("missing: %s", strings.Join(missing, ", "))
		}
		return CgroupDelegated, nil
	}
	if usable {
		return CgroupDelegated, nil
	}
	return CgroupNone, nil
}

// maker holds what is decided for the whole cluster.
type maker struct {
	config    config.Cluster
	facts     Facts
	mode      CgroupMode
	mtu       int
	pods      netip.Prefix
	services  netip.Prefix
	dns       netip.Addr // the cluster DNS Service, the tenth address as kubeadm has it
	apiServer netip.AddrPort
	endpoint  netip.AddrPort // the API inside the cluster's network
	nodes     []Node         // name, role, addresses, labels and taints; no files yet
}

func (m *maker) addresses() error {
	net := m.config.Networking
	var err error
	if m.pods, err = netip.ParsePrefix(net.PodSubnet); err != nil {
		return problem.InvalidConfig.Wrapf("networking.podSubnet: %w", err)
	}
	if m.services, err = netip.ParsePrefix(net.ServiceSubnet); err != nil {
		return problem.InvalidConfig.Wrapf("networking.serviceSubnet: %w", err)
	}
	subnet := m.facts.Subnet.Masked()
	for name, other := range map[string]netip.Prefix{"pod": m.pods, "service": m.services} {
		if subnet.Overlaps(other) {
			return problem.SubnetClash.Wrapf("the node subnet %s overlaps the %s subnet %s", subnet, name, other)
		}
	}
	if m.dns, err = nth(m.services, 10); err != nil {
		return problem.InvalidConfig.Wrapf("networking.serviceSubnet: %w", err)
	}
	addr, err := netip.ParseAddr(net.APIServerAddress)
	if err != nil {
		return problem.InvalidConfig.Wrapf("networking.apiServerAddress: %w", err)
	}
	port := m.facts.APIPort
	if net.APIServerPort != 0 {
		port = uint16(net.APIServerPort) //nolint:gosec // validated to be a port
	}
	m.apiServer = netip.AddrPortFrom(addr, port)
	return m.placeNodes(subnet)
}

func (m *maker) placeNodes(subnet netip.Prefix) error {
	workers := 0
	for _, group := range m.config.Nodes {
		if group.Role == RoleWorker {
			workers += max(group.Count, 1)
		}
	}
	numbers := map[string]int{}
	groups := slices.Clone(m.config.Nodes)
	slices.SortStableFunc(groups, func(a, b config.Node) int { return strings.Compare(a.Role, b.Role) }) // control planes first
	for _, group := range groups {
		for range max(group.Count, 1) {
			numbers[group.Role]++
			n := Node{Name: m.config.Name + "-" + group.Role, Role: group.Role, Labels: maps.Clone(group.Labels)}
			if i := numbers[group.Role]; i > 1 {
				n.Name = fmt.Sprintf("%s%d", n.Name, i)
			}
			for _, t := range group.Taints {
				n.Taints = append(n.Taints, Taint(t))
			}
			var err error
			if n.IP, err = nth(subnet, len(m.nodes)+2); err != nil { // .1 is the engine's gateway
				return problem.SubnetClash.Wrapf("the node subnet is too small: %w", err)
			}
			if n.PodCIDR, err = nthSubnet(m.pods, 24, len(m.nodes)); err != nil {
				return problem.InvalidConfig.Wrapf("networking.podSubnet: %w", err)
			}
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Container = engine.ContainerSpec{Image: group.Image}
			if group.Role == RoleControlPlane {
				n.Labels["node-role.kubernetes.io/control-plane"] = ""
				n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
				if workers > 0 && group.Taints == nil {
					n.Taints = []Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
				}
			}
			m.nodes = append(m.nodes, n)
		}
	}
	m.endpoint = netip.AddrPortFrom(m.nodes[0].IP, apiPort)
	return nil
}

// nth returns the n-th address of an IPv4 prefix, not its broadcast address.
func nth(p netip.Prefix, n int) (netip.Addr, error) {
	size := 1 << (32 - p.Bits())
	if n < 0 || n >= size-1 {
		return netip.Addr{}, fmt.Errorf("%s has no address number %d", p, n)
	}
	return addTo(p.Masked().Addr(), n), nil
}

// nthSubnet returns the n-th subnet of the given length in an IPv4 prefix.
func nthSubnet(p netip.Prefix, bits, n int) (netip.Prefix, error) {
	if bits < p.Bits() || n >= 1<<(bits-p.Bits()) {
		return netip.Prefix{}, fmt.Errorf("%s has no room for a /%d of node number %d", p, bits, n+1)
	}
	return netip.PrefixFrom(addTo(p.Masked().Addr(), n<<(32-bits)), bits), nil
}

func addTo(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(n) //nolint:gosec // n is checked against the prefix's size
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
