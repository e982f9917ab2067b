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
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/kubeadm"
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
	// APIPort is the port of the Kubernetes API in a control plane.
	APIPort = 6443
	// VarSeed is where files for /var lie in a node container before it
	// starts: /var itself is a volume, and the node copies them there at its first boot.
	VarSeed = "/etc/rk/var"
	// vxlanOverhead is what a VXLAN header over IPv4 takes of the MTU, in bytes (RFC 7348).
	vxlanOverhead     = 50
	vxlanOverheadIPv6 = 70
	defaultMTU        = 1500
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
	m := &maker{config: c, facts: f, mode: mode, mtu: defaultMTU, dnsDomain: "cluster.local", etcdDataDir: "/var/lib/etcd"}
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
		PodSubnets:     m.pods,
		ServiceSubnets: m.services,
		APIServer:      m.apiServer,
		ExternalCNI:    c.Networking.DisableDefaultCNI,
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
	if m.ipv6() {
		p.Network.IPv6Subnet = f.IPv6Subnet.Masked()
	}
	if err := m.settle(); err != nil {
		return nil, err
	}
	if err := m.options(); err != nil {
		return nil, err
	}
	if err := m.registries(); err != nil {
		return nil, err
	}
	if p.Registries = m.beside; len(p.Registries) > 0 {
		n := RegistryNetwork(f.MTU)
		p.RegistryNetwork = &n
		p.Network.Labels[LabelRegistries] = m.registryNames()
	}
	p.Warnings = append(p.Warnings, m.warnings...)
	if mode == CgroupNone {
		p.Warnings = append(p.Warnings, "no usable cgroup controllers (cpu, memory and pids) are delegated to this user: "+
			"resource limits of pods are not enforced (--cgroups=none)")
	}
	if n := len(m.controlPlanes()); n%2 == 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("with %d control planes, no more may fail than with %d: etcd needs more than half of its members; an odd number is better", n, n-1))
	}
	if addr := m.apiServer.Addr(); !addr.IsLoopback() {
		where := "the network of its address " + addr.String()
		if addr.IsUnspecified() {
			where = "every network of this host (" + addr.String() + ")"
		}
		p.Warnings = append(p.Warnings, "the Kubernetes API can be reached from "+where+": whoever gets hold of the kubeconfig controls the cluster, "+
			"and its nodes run privileged; leave networking.apiServerAddress out to keep it to this host")
	}
	for i, n := range m.nodes {
		node, err := m.node(i, n)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		p.Nodes = append(p.Nodes, node)
	}
	if err := m.checkFiles(); err != nil {
		return nil, err
	}
	p.Objects = f.Objects
	if p.LoadBalancer, err = m.loadBalancer(); err != nil {
		return nil, err
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
	pods      []netip.Prefix // one of each address family, the primary first
	services  []netip.Prefix
	dns       netip.Addr // the cluster DNS Service, the tenth address as kubeadm has it
	apiServer netip.AddrPort
	endpoint  netip.AddrPort // the API inside the cluster's network
	balancer  *LoadBalancer  // what has that address; nil with one control plane
	nodes     []Node         // name, role, addresses, labels and taints; no files yet
	groups    []int          // of each node, its place in config.Nodes
	ports     [][]engine.PortMapping
	beside    []Registry // the registries, the local one first

	// What patches may change.
	dnsDomain, etcdDataDir string
	kubeadm                []*kubeadm.Config // of each node
	kubelet                *kubeadm.Config   // of every node alike, for nodes that join later
	containerd             string            // its configuration file; empty: that of the image
	warnings               []string

	proxy proxyVariables
}

// ipv6 says that nodes have IPv6 addresses.
func (m *maker) ipv6() bool {
	return m.config.Networking.IPFamily != config.IPv4 && m.config.Networking.IPFamily != ""
}
