// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// nodeSubnet returns the configured subnet of nodes of an address family; not
// ok if none is configured.
func nodeSubnet(c config.Cluster, is6 bool) (p netip.Prefix, ok bool, err error) {
	if c.Networking.NodeSubnet == "" {
		return p, false, nil
	}
	list, err := config.Subnets(c.Networking.NodeSubnet)
	if err != nil {
		return p, false, problem.InvalidConfig.Wrapf("networking.nodeSubnet: %w", err)
	}
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr().Is6() == is6 })
	if i < 0 {
		return p, false, problem.InvalidConfig.Wrapf("networking.nodeSubnet: %s has no subnet of that address family", c.Networking.NodeSubnet)
	}
	return list[i], true, nil
}

// ipv6Attempts is how many subnets are tried before none is found free.
const ipv6Attempts = 256

// ipv6Subnet returns the configured IPv6 subnet of nodes, or a free /64 of the
// unique local addresses (RFC 4193). As with IPv4, it depends on the cluster's name.
func ipv6Subnet(c config.Cluster, used []taken) (netip.Prefix, error) {
	p, fixed, err := nodeSubnet(c, true)
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
	for _, s := range []string{c.Networking.PodSubnet, c.Networking.ServiceSubnet} {
		list, err := config.Subnets(s)
		if err != nil {
			return p, problem.InvalidConfig.Wrapf("networking: %w", err)
		}
		for _, other := range list {
			used = append(used, taken{other, "networking"})
		}
	}
	for i := range ipv6Attempts {
		hash := fnv.New64a()
		_, _ = fmt.Fprintf(hash, "%s/%d", c.Name, i) // never fails
		b := [16]byte{0xfd}
		copy(b[1:8], hash.Sum(nil)) // global id and subnet id
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if _, clash := overlapping(p, used); !clash {
			return p, nil
		}
	}
	return netip.Prefix{}, problem.SubnetClash.Wrapf("no IPv6 subnet was found that the host and the engine do not use")
}

// hostPorts finds out that each port that nodes shall publish can be had, and
// a free one where none is asked for. api is the API's.
func hostPorts(ctx context.Context, h host, c config.Cluster, api plan.HostPort) ([]uint16, error) {
	used := []plan.HostPort{api}
	var out []uint16
	for _, want := range plan.HostPorts(c) {
		got, err := hostPort(ctx, h, want, used)
		if err != nil {
			return nil, err
		}
		want.Port = got
		used, out = append(used, want), append(out, got)
	}
	return out, nil
}

func hostPort(ctx context.Context, h host, want plan.HostPort, used []plan.HostPort) (uint16, error) {
	for range portAttempts {
		got, err := h.FreePort(ctx, want.Protocol, want.Address, want.Port)
		switch {
		case errors.Is(err, syscall.EADDRINUSE) && want.Port != 0:
			return 0, problem.PortTaken.Wrapf("%s %d (%s): %w", want.Field, want.Port, want.Protocol, err)
		case errors.Is(err, syscall.EACCES):
			return 0, problem.InvalidConfig.
				With(fmt.Sprintf("Take a port of 1024 or above, or let ordinary users have low ports: 'sudo sysctl net.ipv4.ip_unprivileged_port_start=%d'.", want.Port)).
				Wrapf("%s %d: this user may not listen on it: %w", want.Field, want.Port, err)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return 0, problem.InvalidConfig.
				With("'ip addr' lists the addresses of this host; without listenAddress, a port is published on all of them.").
				Wrapf("%s: %s is not an address of this host: %w", want.Field, want.Address, err)
		case err != nil:
			return 0, problem.PortTaken.Wrapf("%s: no port of %s can be listened on: %w", want.Field, want.Address, err)
		}
		clash := slices.ContainsFunc(used, func(u plan.HostPort) bool {
			return u.Port == got && u.Protocol == want.Protocol && (u.Address == want.Address || u.Address.IsUnspecified() || want.Address.IsUnspecified())
		})
		switch {
		case !clash:
			return got, nil
		case want.Port != 0:
			return 0, problem.InvalidConfig.With("Give one of them another port.").Wrapf("%s: port %d (%s) is published for something else of this cluster already", want.Field, got, want.Protocol)
		}
	}
	return 0, problem.PortTaken.Wrapf("%s: no port of %s is free", want.Field, want.Address)
}

// hostPaths finds out that what nodes shall mount is there: an engine may make
// an empty folder of what is not.
func hostPaths(h host, c config.Cluster) error {
	for i, n := range c.Nodes {
		for j, m := range n.Mounts {
			field := fmt.Sprintf("nodes[%d].mounts[%d].hostPath", i, j)
			if !filepath.IsAbs(m.HostPath) {
				return problem.InvalidConfig.Wrapf("%s: %s is not an absolute path", field, m.HostPath)
			}
			switch err := h.Exists(m.HostPath); {
			case errors.Is(err, fs.ErrNotExist):
				return problem.InvalidConfig.With(fmt.Sprintf("Make the folder that nodes shall see, 'mkdir -p %s', or correct the path.", m.HostPath)).
					Wrapf("%s: %s is not there", field, m.HostPath)
			case err != nil:
				return problem.InvalidConfig.Wrapf("%s: %w", field, err)
			}
		}
	}
	return nil
}
