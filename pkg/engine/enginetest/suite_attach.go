// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"net"
	"net/netip"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// attach tests further networks of a container.
func (s *suite) attach() {
	s.test("Errors", (*suite).attachErrors)
	s.test("Stopped", (*suite).attachStopped)
	s.test("Traffic", (*suite).attachTraffic)
	s.test("AnySubnet", func(s *suite) {
		n := engine.NetworkSpec{Name: s.unique("n"), Labels: s.labels()}
		s.must(s.CreateNetwork(s.Context(), n))
		list, err := s.ListNetworks(s.Context(), s.labels())
		s.must(err)
		if len(list) != 1 || len(list[0].Subnets) == 0 || !list[0].Subnets[0].IsValid() {
			s.Errorf("networks %+v", list)
		}
	})
}

// far is an address of a network that no other container of the suite takes.
func far(n engine.NetworkSpec) netip.Addr {
	b := n.Subnet.Addr().As4()
	b[3] = 254
	return netip.AddrFrom4(b)
}

func (s *suite) attachErrors() {
	ctx := s.Context()
	home, away := s.network(), s.network()
	spec := s.spec()
	spec.Network = home.Name
	id := s.run(spec)
	s.is(s.ConnectNetwork(ctx, "rk-enginetest-absent", id, far(away)), engine.ErrNotFound)
	s.is(s.ConnectNetwork(ctx, away.Name, "rk-enginetest-absent", far(away)), engine.ErrNotFound)
	s.must(s.DisconnectNetwork(ctx, "rk-enginetest-absent", id))
	s.must(s.DisconnectNetwork(ctx, away.Name, "rk-enginetest-absent"))
	s.must(s.DisconnectNetwork(ctx, away.Name, id)) // which it is not attached to
	s.must(s.ConnectNetwork(ctx, away.Name, id, far(away)))
	s.is(s.ConnectNetwork(ctx, away.Name, id, far(away)), engine.ErrConflict)
	s.fails(s.RemoveNetwork(ctx, away.Name))
	other := s.spec()
	other.Network = home.Name
	s.fails(s.ConnectNetwork(ctx, away.Name, s.run(other), far(away))) // the address is taken
	s.must(s.DisconnectNetwork(ctx, away.Name, id))
	s.must(s.RemoveNetwork(ctx, away.Name))
	s.must(s.StopContainer(ctx, id, 0))
	s.must(s.StartContainer(ctx, id))
}

// attachStopped attaches a container that does not run.
func (s *suite) attachStopped() {
	ctx := s.Context()
	home, away := s.network(), s.network()
	spec := s.spec()
	spec.Network = home.Name
	id := s.create(spec)
	s.must(s.ConnectNetwork(ctx, away.Name, id, far(away)))
	s.must(s.StartContainer(ctx, id))
	s.must(s.StopContainer(ctx, id, 0))
	s.must(s.DisconnectNetwork(ctx, away.Name, id))
	s.must(s.RemoveNetwork(ctx, away.Name))
	s.must(s.StartContainer(ctx, id))
}

// attachTraffic lets a container be reached at its further address, at its
// published port all the while, and at neither address too much.
func (s *suite) attachTraffic() {
	if !s.Live {
		s.Skip("no network")
	}
	ctx := s.Context()
	loopback := netip.MustParseAddr("127.0.0.1")
	// Engines order networks by name, too.
	first, home, last := s.network(), s.network(), s.network()
	const port = 21017 // not of the ephemeral range: see FollowedPorts
	server := s.spec("listen", "7000")
	server.Network, server.Hostname = home.Name, "server"
	server.Ports = []engine.PortMapping{{HostIP: loopback, HostPort: port, ContainerPort: 7000, Protocol: "tcp"}}
	serverID := s.run(server)
	s.awaitLog(serverID, "listening on 7000\n")
	published := func() {
		s.Helper()
		var got string
		var err error
		s.eventually(func() bool {
			got, err = s.fetch(netip.AddrPortFrom(loopback, port))
			return got == "hello from server\n"
		}, func() string { return "published port: " + got })
		s.must(err)
	}
	published()
	for _, n := range []engine.NetworkSpec{first, last} {
		s.must(s.ConnectNetwork(ctx, n.Name, serverID, far(n)))
		client := s.spec()
		client.Network = n.Name
		got := s.output(s.run(client), engine.Process{Argv: []string{program, "dial", net.JoinHostPort(far(n).String(), "7000")}})
		equal(s, "said in "+n.Name, got, "hello from server\n")
		published()
	}
	// With its networks, and its addresses in them, it starts again.
	s.must(s.StopContainer(ctx, serverID, 0))
	s.must(s.StartContainer(ctx, serverID))
	published()
	s.must(s.DisconnectNetwork(ctx, first.Name, serverID))
	published()
	client := s.spec()
	client.Network = last.Name
	got := s.output(s.run(client), engine.Process{Argv: []string{program, "dial", net.JoinHostPort(far(last).String(), "7000")}})
	equal(s, "said after a restart", got, "hello from server\n")
}
