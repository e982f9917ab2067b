// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"hash/fnv"
	"net/netip"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// pools are where free subnets are looked for, in this order: 10.89.0.0/16 is
// also where Podman takes its own from (default_subnet_pools of containers.conf),
// the others are for hosts whose VPN routes all of 10.0.0.0/8.
var pools = []netip.Prefix{
	netip.MustParsePrefix("10.89.0.0/16"),
	netip.MustParsePrefix("172.30.0.0/16"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("10.200.0.0/16"),
}

// subnetsPerPool is how many /24 a /16 has.
const subnetsPerPool = 256

// occupied is everything that a cluster's network must not overlap.
func occupied(networks []engine.Network, h host) []taken {
	var out []taken
	for _, n := range networks {
		for _, p := range n.Subnets {
			out = append(out, taken{p.Masked(), "the engine's network " + n.Name})
		}
	}
	return append(out, h.Taken()...)
}

// subnet returns the configured node subnet, or a free /24. The search begins
// at a place that depends on the cluster's name, so that clusters which are
// created at the same time do not choose the same.
func subnet(c config.Cluster, used []taken) (netip.Prefix, error) {
	p, fixed, err := nodeSubnet(c, false)
	if err != nil {
		return p, err
	}
	if fixed {
		if t, clash := overlapping(p, used); clash {
			return p, problem.SubnetClash.
				With("Choose another networking.nodeSubnet, or leave it out to have a free one chosen.").
				Wrapf("networking.nodeSubnet %s overlaps %s of %s", p, t.prefix, t.by)
		}
		return p, nil
	}
	for path, s := range map[string]string{"podSubnet": c.Networking.PodSubnet, "serviceSubnet": c.Networking.ServiceSubnet} {
		list, err := config.Subnets(s)
		if err != nil {
			return p, problem.InvalidConfig.Wrapf("networking.%s: %w", path, err)
		}
		for _, p := range list {
			used = append(used, taken{p, path})
		}
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(c.Name)) // never fails
	start := int(hash.Sum32() % subnetsPerPool)
	for _, pool := range pools {
		base := pool.Addr().As4()
		for i := range subnetsPerPool {
			base[2] = byte((start + i) % subnetsPerPool) //nolint:gosec // below 256
			p := netip.PrefixFrom(netip.AddrFrom4(base), 24)
			if _, clash := overlapping(p, used); !clash {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, problem.SubnetClash.Wrapf("every /24 of %v overlaps a network of the engine or a route of the host", pools)
}

func overlapping(p netip.Prefix, used []taken) (taken, bool) {
	for _, t := range used {
		if p.Overlaps(t.prefix) {
			return t, true
		}
	}
	return taken{}, false
}

// apiPort returns the port for the Kubernetes API on the host: want, or a
// free one if that is 0.
func apiPort(ctx context.Context, h host, addr netip.Addr, want int) (uint16, error) {
	port, err := h.FreePort(ctx, "tcp", addr, uint16(want)) //nolint:gosec // validated to be a port
	switch {
	case err == nil:
		return port, nil
	case errors.Is(err, syscall.EADDRINUSE) && want != 0:
		return 0, problem.PortTaken.Wrapf("networking.apiServerPort %d: %w", want, err)
	case errors.Is(err, syscall.EACCES):
		return 0, problem.InvalidConfig.
			With("Take a port of 1024 or above, or let ordinary users have low ports: 'sudo sysctl net.ipv4.ip_unprivileged_port_start=80'.").
			Wrapf("networking.apiServerPort %d: this user may not listen on it: %w", want, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return 0, problem.InvalidConfig.
			With("'ip addr' lists the addresses of this host; 127.0.0.1 is the default, 0.0.0.0 is all of them.").
			Wrapf("networking.apiServerAddress %s is not an address of this host: %w", addr, err)
	}
	return 0, problem.PortTaken.Wrapf("no port of %s can be listened on: %w", addr, err)
}
