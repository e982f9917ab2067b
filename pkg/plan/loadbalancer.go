// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/rootless-kubernetes/rk/node-image/templates"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

// RoleLoadBalancer is the role of the container in front of several control
// planes. The word is kind's, whose tools look for it.
const RoleLoadBalancer = "external-load-balancer"

const haproxyConfig = "/etc/rk/haproxy.cfg"

// LoadBalancer has the address of the API in the cluster's network, and on the
// host, when there are several control planes. It runs haproxy from the node
// image, and is no node of Kubernetes.
type LoadBalancer struct {
	Name      string               `json:"name"`
	Container engine.ContainerSpec `json:"container"`
	Files     []File               `json:"files"`
}

// ips are its addresses, of the primary family first.
func (l *LoadBalancer) ips(primary6 bool) []netip.Addr {
	list := []netip.Addr{l.Container.IP}
	if l.Container.IPv6.IsValid() {
		list = append(list, l.Container.IPv6)
	}
	if primary6 {
		slices.Reverse(list)
	}
	return list
}

// balanced is what the template of haproxy's configuration sees.
type balanced struct {
	Binds   []string
	CAFile  string
	Servers []struct{ Name, Address string }
}

// loadBalancer describes the load balancer; nil with one control plane.
func (m *maker) loadBalancer() (*LoadBalancer, error) {
	if m.balancer == nil {
		return nil, nil
	}
	v := balanced{CAFile: ClusterCAFile, Binds: []string{netip.AddrPortFrom(netip.IPv4Unspecified(), APIPort).String()}}
	if m.ipv6() {
		v.Binds = append(v.Binds, netip.AddrPortFrom(netip.IPv6Unspecified(), APIPort).String())
	}
	for _, n := range m.controlPlanes() {
		v.Servers = append(v.Servers, struct{ Name, Address string }{n.Name, netip.AddrPortFrom(n.IP, APIPort).String()})
	}
	content, err := render.File(templates.FS, "haproxy.cfg.tmpl", v)
	if err != nil {
		return nil, err
	}
	unlimited := int64(0)
	m.balancer.Files = []File{{Path: haproxyConfig, Mode: 0o644, Content: content}}
	m.balancer.Container = engine.ContainerSpec{
		Name: m.balancer.Name, Hostname: m.balancer.Name, Image: m.facts.Image.Ref,
		Labels: map[string]string{
			LabelCluster: m.config.Name, LabelRole: RoleLoadBalancer, LabelKubernetesVersion: m.facts.Image.KubernetesVersion,
		},
		Entrypoint: []string{"/usr/sbin/haproxy"}, Command: []string{"-W", "-db", "-f", haproxyConfig},
		PidsLimit: &unlimited,
		Network:   NetworkName(m.config.Name), IP: m.balancer.Container.IP, IPv6: m.balancer.Container.IPv6,
		Ports:      []engine.PortMapping{m.apiPort()},
		StopSignal: "SIGTERM", // at which haproxy ends at once; the image's is systemd's
	}
	return m.balancer, nil
}

// apiPort publishes the API on the host.
func (m *maker) apiPort() engine.PortMapping {
	return engine.PortMapping{HostIP: m.apiServer.Addr(), HostPort: m.apiServer.Port(), ContainerPort: APIPort, Protocol: "tcp"}
}

// controlPlanes are the nodes with that role; they come first.
func (m *maker) controlPlanes() []Node {
	i := slices.IndexFunc(m.nodes, func(n Node) bool { return n.Role != RoleControlPlane })
	if i < 0 {
		return m.nodes
	}
	return m.nodes[:i]
}
