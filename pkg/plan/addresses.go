// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (m *maker) addresses() error {
	net := m.config.Networking
	var err error
	if m.pods, err = config.Subnets(net.PodSubnet); err != nil {
		return problem.InvalidConfig.Wrapf("networking.podSubnet: %w", err)
	}
	if m.services, err = config.Subnets(net.ServiceSubnet); err != nil {
		return problem.InvalidConfig.Wrapf("networking.serviceSubnet: %w", err)
	}
	subnets := []netip.Prefix{m.facts.Subnet.Masked()}
	if m.ipv6() {
		subnets = append(subnets, m.facts.IPv6Subnet.Masked())
	}
	for _, subnet := range subnets {
		for _, other := range []struct {
			name string
			list []netip.Prefix
		}{{"pod", m.pods}, {"service", m.services}} {
			for _, p := range other.list {
				if subnet.Overlaps(p) {
					return problem.SubnetClash.Wrapf("the node subnet %s overlaps the %s subnet %s", subnet, other.name, p)
				}
			}
		}
	}
	if m.dns, err = nth(m.services[0], 10); err != nil {
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
	if err := m.placeNodes(); err != nil {
		return err
	}
	return m.placePorts()
}

// place is a node's place in the configuration.
type place struct {
	name  string
	group int // in config.Nodes
}

// places are the nodes in the order of the plan: control planes first.
func places(c config.Cluster) []place {
	order := make([]int, len(c.Nodes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(c.Nodes[a].Role, c.Nodes[b].Role) })
	numbers := map[string]int{}
	var out []place
	for _, i := range order {
		role := c.Nodes[i].Role
		for range max(c.Nodes[i].Count, 1) {
			numbers[role]++
			name := c.Name + "-" + role
			if n := numbers[role]; n > 1 {
				name = fmt.Sprintf("%s%d", name, n)
			}
			out = append(out, place{name: name, group: i})
		}
	}
	return out
}

func (m *maker) placeNodes() error {
	list := places(m.config)
	workers := slices.ContainsFunc(list, func(p place) bool { return m.config.Nodes[p.group].Role == RoleWorker })
	if len(list) > 1 && m.config.Nodes[list[1].group].Role == RoleControlPlane {
		if err := m.placeLoadBalancer(); err != nil {
			return err
		}
	}
	for i, p := range list {
		group := m.config.Nodes[p.group]
		n := Node{Name: p.name, Role: group.Role, Labels: maps.Clone(group.Labels), Container: engine.ContainerSpec{Image: group.Image}}
		for _, t := range group.Taints {
			n.Taints = append(n.Taints, Taint(t))
		}
		if err := m.address(i, &n); err != nil {
			return err
		}
		if group.Role == RoleControlPlane && workers && group.Taints == nil {
			n.Taints = []Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
		}
		m.nodes, m.groups = append(m.nodes, n), append(m.groups, p.group)
	}
	endpoint := m.nodes[0].IP
	if m.balancer != nil {
		endpoint = m.balancer.ips(m.pods[0].Addr().Is6())[0]
	}
	m.endpoint = netip.AddrPortFrom(endpoint, APIPort)
	return nil
}

// placeLoadBalancer gives the load balancer the first address; nodes have those after it.
func (m *maker) placeLoadBalancer() error {
	m.balancer = &LoadBalancer{Name: m.config.Name + "-" + RoleLoadBalancer}
	return m.containerAddresses(0, &m.balancer.Container)
}

// containerAddresses gives the i-th container its addresses in the network.
func (m *maker) containerAddresses(i int, c *engine.ContainerSpec) (err error) {
	if c.IP, err = nth(m.facts.Subnet.Masked(), i+2); err != nil { // .1 is the engine's gateway
		return problem.SubnetClash.Wrapf("the node subnet is too small: %w", err)
	}
	if m.ipv6() {
		if c.IPv6, err = nth(m.facts.IPv6Subnet.Masked(), i+2); err != nil {
			return problem.SubnetClash.Wrapf("the node subnet is too small: %w", err)
		}
	}
	return nil
}

// address gives the i-th node its addresses.
func (m *maker) address(i int, n *Node) error {
	at := i
	if m.balancer != nil {
		at++
	}
	if err := m.containerAddresses(at, &n.Container); err != nil {
		return err
	}
	for j, pods := range m.pods {
		bits, ip := 24, n.Container.IP
		if pods.Addr().Is6() {
			bits, ip = 64, n.Container.IPv6
		}
		cidr, err := nthSubnet(pods, bits, i)
		if err != nil {
			return problem.InvalidConfig.Wrapf("networking.podSubnet: %w", err)
		}
		if j == 0 {
			n.IP, n.PodCIDR = ip, cidr
		} else {
			n.SecondaryIP, n.SecondaryPodCIDR = ip, cidr
		}
	}
	return nil
}

// HostPort is a port of the host that a cluster will publish.
type HostPort struct {
	Field    string // of the configuration
	Address  netip.Addr
	Protocol string // "tcp" or "udp"
	Port     uint16 // 0: any that is free
}

// HostPorts are the ports of the host that a defaulted and validated
// configuration asks for, beside that of the API and those that the engine picks.
func HostPorts(c config.Cluster) []HostPort {
	var out []HostPort
	for _, place := range places(c) {
		for j, p := range c.Nodes[place.group].Ports {
			if p.HostPort == config.HostPortOfEngine {
				continue
			}
			addr, _ := netip.ParseAddr(p.Address(c.Networking.IPFamily)) // validated
			out = append(out, HostPort{
				Field: fmt.Sprintf("nodes[%d].ports[%d].hostPort", place.group, j), Address: addr, Protocol: strings.ToLower(p.Protocol),
				Port: uint16(p.HostPort), //nolint:gosec // validated to be a port
			})
		}
	}
	return out
}

// placePorts gives each node the ports that it publishes.
func (m *maker) placePorts() error {
	if want := len(HostPorts(m.config)); len(m.facts.HostPorts) != want {
		return fmt.Errorf("plan: the facts have %d host ports, but the configuration asks for %d", len(m.facts.HostPorts), want)
	}
	next := 0
	m.ports = make([][]engine.PortMapping, len(m.nodes))
	for i := range m.nodes {
		for _, p := range m.config.Nodes[m.groups[i]].Ports {
			addr, err := netip.ParseAddr(p.Address(m.config.Networking.IPFamily))
			if err != nil {
				return problem.InvalidConfig.Wrapf("nodes[%d].ports: %w", m.groups[i], err)
			}
			mapping := engine.PortMapping{HostIP: addr, ContainerPort: uint16(p.ContainerPort), Protocol: strings.ToLower(p.Protocol)} //nolint:gosec // validated
			if p.HostPort != config.HostPortOfEngine {
				mapping.HostPort = m.facts.HostPorts[next]
				next++
			}
			m.ports[i] = append(m.ports[i], mapping)
		}
	}
	return nil
}

// nth returns the n-th address of a prefix, not an IPv4 prefix's broadcast address.
func nth(p netip.Prefix, n int) (netip.Addr, error) {
	host := p.Addr().BitLen() - p.Bits()
	if n < 0 || host < 31 && n >= 1<<host-1 {
		return netip.Addr{}, fmt.Errorf("%s has no address number %d", p, n)
	}
	return addTo(p.Masked().Addr(), n), nil
}

// nthSubnet returns the n-th subnet of the given length in a prefix.
func nthSubnet(p netip.Prefix, bits, n int) (netip.Prefix, error) {
	if bits < p.Bits() || bits-p.Bits() < 31 && n >= 1<<(bits-p.Bits()) {
		return netip.Prefix{}, fmt.Errorf("%s has no room for a /%d of node number %d", p, bits, n+1)
	}
	base := p.Masked().Addr()
	if base.Is4() {
		return netip.PrefixFrom(addTo(base, n<<(32-bits)), bits), nil
	}
	b := base.As16()
	// The upper half holds every prefix of up to 64 bits.
	binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+uint64(n)<<(64-bits)) //nolint:gosec // n is checked against the prefix's size
	return netip.PrefixFrom(netip.AddrFrom16(b), bits), nil
}

// addTo adds to the lower half of an address.
func addTo(a netip.Addr, n int) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+uint64(n)) //nolint:gosec // n is checked against the prefix's size
	if a.Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}
