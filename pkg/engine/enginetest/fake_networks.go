// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
		if !n.Subnet.IsValid() || n.Subnet != n.Subnet.Masked() {
			return fmt.Errorf("network %s: %w %s", n.Name, errBadSubnet, n.Subnet)
		}
		if _, ok := f.networks[n.Name]; ok {
			return fmt.Errorf("network %s: %w", n.Name, engine.ErrConflict)
		}
		for _, other := range f.networks {
			if slices.ContainsFunc(other.Subnets, n.Subnet.Overlaps) {
				return fmt.Errorf("network %s: subnet %s is used by network %s: %w", n.Name, n.Subnet, other.Name, engine.ErrConflict)
			}
		}
		f.networks[n.Name] = engine.Network{Name: n.Name, Subnets: []netip.Prefix{n.Subnet}, Labels: cloneMap(n.Labels)}
		return nil
	}))
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
			if c.spec.Network == name {
				return fmt.Errorf("network %s: %w by container %s", name, errInUse, c.spec.Name)
			}
		}
		delete(f.networks, name)
		return nil
	}))
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
	subnet := f.networks[c.spec.Network].Subnets[0]
	taken := map[netip.Addr]bool{}
	for _, other := range f.containers {
		if other.spec.Network == c.spec.Network && other.state == engine.StateRunning {
			taken[other.ip] = true
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
