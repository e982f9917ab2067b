// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

const defaultNetwork = "podman"

var (
	errInUse      = errors.New("in use")
	errIPTaken    = errors.New("address already in use")
	errIPOutside  = errors.New("address is not in the network's subnet")
	errNoNetwork  = errors.New("a static address needs a user-defined network")
	errSubnetFull = errors.New("no free address in the subnet")
	errBadSubnet  = errors.New("invalid subnet")
)

// CreateNetwork implements engine.Networks.
func (f *Fake) CreateNetwork(ctx context.Context, n engine.NetworkSpec) error {
	return f.do(ctx, Call{Op: "CreateNetwork", Target: n.Name}, f.locked(func() error {
		if !n.Subnet.IsValid() {
			n.Subnet = f.freeSubnet()
		}
		subnets := []netip.Prefix{n.Subnet}
		if n.IPv6Subnet != (netip.Prefix{}) {
			if subnets = append(subnets, n.IPv6Subnet); !n.IPv6Subnet.Addr().Is6() || n.Subnet.Addr().Is6() {
				return fmt.Errorf("network %s: %w %s", n.Name, errBadSubnet, n.IPv6Subnet)
			}
		}
		for _, p := range subnets {
			if !p.IsValid() || p != p.Masked() {
				return fmt.Errorf("network %s: %w %s", n.Name, errBadSubnet, p)
			}
		}
		if _, ok := f.networks[n.Name]; ok {
			return fmt.Errorf("network %s: %w", n.Name, engine.ErrConflict)
		}
		for _, other := range f.networks {
			for _, p := range subnets {
				if slices.ContainsFunc(other.Subnets, p.Overlaps) {
					return fmt.Errorf("network %s: subnet %s is used by network %s: %w", n.Name, p, other.Name, engine.ErrConflict)
				}
			}
		}
		f.networks[n.Name] = engine.Network{Name: n.Name, Subnets: subnets, Labels: cloneMap(n.Labels)}
		return nil
	}))
}

// freeSubnet is the first /24 from 10.89.0.0 on that no network has, as Podman picks.
func (f *Fake) freeSubnet() netip.Prefix {
	for i := byte(0); ; i++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 89, i, 0}), 24)
		taken := false
		for _, other := range f.networks {
			taken = taken || slices.ContainsFunc(other.Subnets, p.Overlaps)
		}
		if !taken {
			return p
		}
	}
}

// ListNetworks implements engine.Networks.
func (f *Fake) ListNetworks(ctx context.Context, sel map[string]string) ([]engine.Network, error) {
	list := []engine.Network{}
	err := f.do(ctx, Call{Op: "ListNetworks"}, f.locked(func() error {
		for _, n := range f.networks {
			if matches(n.Labels, sel) {
				n.Labels, n.Subnets = cloneMap(n.Labels), slices.Clone(n.Subnets)
				list = append(list, n)
			}
		}
		slices.SortFunc(list, func(a, b engine.Network) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return list, nil
}

// RemoveNetwork implements engine.Networks.
func (f *Fake) RemoveNetwork(ctx context.Context, name string) error {
	return f.do(ctx, Call{Op: "RemoveNetwork", Target: name}, f.locked(func() error {
		for _, c := range f.containers {
			if _, attached := c.attached[name]; attached || c.spec.Network == name {
				return fmt.Errorf("network %s: %w by container %s", name, errInUse, c.spec.Name)
			}
		}
		delete(f.networks, name)
		return nil
	}))
}

// ConnectNetwork implements engine.Networks.
func (f *Fake) ConnectNetwork(ctx context.Context, network, id string, ip netip.Addr) error {
	return f.do(ctx, Call{Op: "ConnectNetwork", Target: network + " " + f.name(id)}, f.locked(func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		n, ok := f.networks[network]
		if !ok {
			return fmt.Errorf("network %s: %w", network, engine.ErrNotFound)
		}
		if _, attached := c.attached[network]; attached || c.spec.Network == network {
			return fmt.Errorf("container %s in network %s: %w", c.spec.Name, network, engine.ErrConflict)
		}
		if c.spec.Network == "" {
			return fmt.Errorf("container %s: %w", c.spec.Name, errNoNetwork)
		}
		if !slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			return fmt.Errorf("%s: %w", ip, errIPOutside)
		}
		for _, other := range f.containers {
			if other.attached[network] == ip || other.spec.Network == network && other.ip == ip {
				return fmt.Errorf("%s: %w", ip, errIPTaken)
			}
		}
		if c.attached == nil {
			c.attached = map[string]netip.Addr{}
		}
		c.attached[network] = ip
		return nil
	}))
}

// DisconnectNetwork implements engine.Networks.
func (f *Fake) DisconnectNetwork(ctx context.Context, network, id string) error {
	return f.do(ctx, Call{Op: "DisconnectNetwork", Target: network + " " + f.name(id)}, f.locked(func() error {
		if c, err := f.find(id); err == nil {
			delete(c.attached, network)
		}
		return nil
	}))
}

// Attached returns the networks that a container was attached to after it was
// made, with its address in each.
func (f *Fake) Attached(nameOrID string) map[string]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(nameOrID)
	if err != nil {
		return nil
	}
	return maps.Clone(c.attached)
}

// assign picks the address of a container that is about to start: the static
// one, else the lowest that is free, from the second address of the subnet
// on, as the first is the gateway.
func (f *Fake) assign(c *fakeContainer) (netip.Addr, error) {
	want := c.spec.IP
	if c.spec.Network == "" {
		if want.IsValid() {
			return netip.Addr{}, errNoNetwork
		}
		return netip.Addr{}, nil
	}
	if err := f.checkIPv6(c); err != nil {
		return netip.Addr{}, err
	}
	subnet := f.networks[c.spec.Network].Subnets[0]
	taken := map[netip.Addr]bool{}
	for _, other := range f.containers {
		if other.spec.Network == c.spec.Network && other.state == engine.StateRunning {
			taken[other.ip] = true
		}
		if ip, ok := other.attached[c.spec.Network]; ok {
			taken[ip] = true
		}
	}
	switch gateway := subnet.Addr().Next(); {
	case !want.IsValid():
		for ip := gateway.Next(); subnet.Contains(ip); ip = ip.Next() {
			if !taken[ip] {
				return ip, nil
			}
		}
		return netip.Addr{}, fmt.Errorf("%w %s", errSubnetFull, subnet)
	case !subnet.Contains(want):
		return netip.Addr{}, fmt.Errorf("%s: %w %s", want, errIPOutside, subnet)
	case taken[want] || want == gateway || want == subnet.Addr():
		return netip.Addr{}, fmt.Errorf("%s: %w", want, errIPTaken)
	default:
		return want, nil
	}
}

// checkIPv6 refuses a second static address that lies outside of the network
// or that another running container has.
func (f *Fake) checkIPv6(c *fakeContainer) error {
	want := c.spec.IPv6
	if !want.IsValid() {
		return nil
	}
	if !slices.ContainsFunc(f.networks[c.spec.Network].Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() && p.Contains(want) }) {
		return fmt.Errorf("%s: %w", want, errIPOutside)
	}
	for _, other := range f.containers {
		if other != c && other.spec.Network == c.spec.Network && other.state == engine.StateRunning && other.spec.IPv6 == want {
			return fmt.Errorf("%s: %w", want, errIPTaken)
		}
	}
	return nil
}
