// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

func (s *suite) images() {
	s.test("Load", func(s *suite) {
		if refs := s.load(s.archive); !slices.Equal(refs, []string{ImageRef}) {
			s.Errorf("loaded %v, want %s", refs, ImageRef)
		}
		img, err := s.InspectImage(s.Context(), ImageRef)
		s.must(err)
		equal(s, "label", img.Labels[imageLabel], "docker")
		equal(s, "architecture", img.Arch, runtime.GOARCH)
		if img.ID == "" || img.Size < int64(len(s.Binary)) {
			s.Errorf("image %+v", img)
		}
	})
	s.test("OCI", func(s *suite) {
		archive, err := OCIArchive(s.Binary)
		s.must(err)
		if refs := s.load(archive); !slices.Equal(refs, []string{OCIRef}) {
			s.Errorf("loaded %v, want %s", refs, OCIRef)
		}
		img, err := s.InspectImage(s.Context(), OCIRef)
		s.must(err)
		equal(s, "label", img.Labels[imageLabel], "oci")
		spec := s.spec("echo", "runs")
		spec.Image = OCIRef
		id := s.create(spec)
		s.fails(s.RemoveImage(s.Context(), OCIRef)) // it is in use
		s.must(s.StartContainer(s.Context(), id))
		s.awaitLog(id, "runs\n")
		s.must(s.RemoveContainer(s.Context(), id))
		s.must(s.RemoveImage(s.Context(), OCIRef))
		_, err = s.InspectImage(s.Context(), OCIRef)
		s.is(err, engine.ErrNotFound)
		s.must(s.RemoveImage(s.Context(), OCIRef))
	})
	s.test("Save", (*suite).save)
	s.test("List", func(s *suite) {
		refs, err := s.ListImages(s.Context())
		s.must(err)
		if !slices.Contains(refs, ImageRef) || !slices.IsSorted(refs) {
			s.Errorf("images %v", refs)
		}
	})
	s.test("Errors", func(s *suite) {
		_, err := s.InspectImage(s.Context(), "localhost/rk-enginetest-absent:v1")
		s.is(err, engine.ErrNotFound)
		s.must(s.RemoveImage(s.Context(), "localhost/rk-enginetest-absent:v1"))
		_, err = s.LoadImage(s.Context(), strings.NewReader(strings.Repeat("this is no archive", 1000)))
		s.fails(err)
		_, err = s.LoadImage(s.Context(), io.MultiReader(bytes.NewReader(s.archive[:1000]), iotestReader{errFull}))
		s.is(err, errFull)
		s.fails(s.PullImage(s.Context(), "localhost/rk-enginetest-absent:v1"))
	})
}

// save saves two images in one archive, in the format of "docker save", which
// an engine that lost one of them loads again.
func (s *suite) save() {
	oci, err := OCIArchive(s.Binary)
	s.must(err)
	s.load(oci)
	stream, err := s.SaveImages(s.Context(), []string{ImageRef, OCIRef})
	s.must(err)
	archive, err := io.ReadAll(stream)
	s.must(errors.Join(err, stream.Close()))
	files := tree{}
	s.must(files.unpack("/", bytes.NewReader(archive)))
	var saved []savedImage
	s.must(files.json("/manifest.json", &saved))
	var names []string
	for _, img := range saved {
		names = append(names, img.RepoTags...)
		if _, ok := files["/"+img.Config]; !ok || len(img.Layers) != 1 {
			s.Errorf("archive of %v: configuration %s, layers %v", img.RepoTags, img.Config, img.Layers)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{OCIRef, ImageRef}) {
		s.Errorf("images %v", names)
	}
	s.must(s.RemoveImage(s.Context(), OCIRef))
	stream, err = s.SaveImages(s.Context(), []string{ImageRef})
	s.must(err)
	s.must(stream.Close()) // before its end
	_, err = s.SaveImages(s.Context(), []string{ImageRef, OCIRef})
	s.is(err, engine.ErrNotFound)
}

func (s *suite) networks() {
	s.test("Lifecycle", func(s *suite) {
		ctx := s.Context()
		n := s.network()
		other := s.network()
		list, err := s.ListNetworks(ctx, s.labels())
		s.must(err)
		var names []string
		for _, l := range list {
			names = append(names, l.Name)
			if l.Name == n.Name {
				equal(s, "label", l.Labels[testLabel], s.label())
				if !slices.Equal(l.Subnets, []netip.Prefix{n.Subnet}) {
					s.Errorf("subnets %v, want %s", l.Subnets, n.Subnet)
				}
			}
		}
		want := []string{n.Name, other.Name}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			s.Errorf("networks %v, want %v", names, want)
		}
		labelled, err := s.ListNetworks(ctx, map[string]string{testLabel: ""})
		s.must(err)
		all, err := s.ListNetworks(ctx, nil)
		s.must(err)
		if len(labelled) < 2 || len(all) < len(labelled) {
			s.Errorf("%d networks with any value, %d without selector", len(labelled), len(all))
		}
		s.must(s.RemoveNetwork(ctx, n.Name))
		s.must(s.RemoveNetwork(ctx, n.Name))
		s.must(s.CreateNetwork(ctx, n)) // name and subnet are free again
	})
	s.test("Conflict", func(s *suite) {
		n := s.network()
		again := n
		again.Subnet = netip.MustParsePrefix("10.212.1.0/24")
		s.is(s.CreateNetwork(s.Context(), again), engine.ErrConflict)
		again = n
		again.Name = s.unique("n")
		s.is(s.CreateNetwork(s.Context(), again), engine.ErrConflict)
		again.Subnet = netip.PrefixFrom(n.Subnet.Addr().Next(), 25).Masked() // a part of it
		s.is(s.CreateNetwork(s.Context(), again), engine.ErrConflict)
		list, err := s.ListNetworks(s.Context(), s.labels())
		s.must(err)
		equal(s, "networks", len(list), 1)
	})
	s.test("InUse", func(s *suite) {
		n := s.network()
		spec := s.spec()
		spec.Network = n.Name
		id := s.run(spec)
		s.fails(s.RemoveNetwork(s.Context(), n.Name))
		if ip := s.get(id).IP; !n.Subnet.Contains(ip) {
			s.Errorf("address %s is not in %s", ip, n.Subnet)
		}
	})
	s.test("StaticIP", func(s *suite) {
		n := s.network()
		start := func(ip netip.Addr) error {
			spec := s.spec()
			spec.Network, spec.IP = n.Name, ip
			id, err := s.CreateContainer(s.Context(), spec)
			if err != nil {
				return err
			}
			return s.StartContainer(s.Context(), id)
		}
		ip := netip.AddrFrom4([4]byte{n.Subnet.Addr().As4()[0], n.Subnet.Addr().As4()[1], n.Subnet.Addr().As4()[2], 77})
		s.must(start(ip))
		s.fails(start(ip))
		s.fails(start(netip.MustParseAddr("10.213.0.2")))
	})
	s.test("Traffic", (*suite).traffic)
}

// traffic lets containers on one network reach each other by address and by
// name, and looks at the MTU.
func (s *suite) traffic() {
	if !s.Live {
		s.Skip("no network")
	}
	n := s.network()
	s.must(s.RemoveNetwork(s.Context(), n.Name))
	n.MTU = 1400
	s.must(s.CreateNetwork(s.Context(), n))
	server := s.spec("listen", "7000")
	server.Network, server.Hostname, server.Aliases = n.Name, "server", []string{"by-alias"}
	server.IP = n.Subnet.Addr().Next().Next().Next().Next()
	serverID := s.run(server)
	s.awaitLog(serverID, "listening on 7000\n")
	client := s.spec()
	client.Network = n.Name
	clientID := s.run(client)
	for _, host := range []string{server.IP.String(), server.Name, "by-alias"} {
		got := s.output(clientID, engine.Process{Argv: []string{program, "dial", net.JoinHostPort(host, "7000")}})
		equal(s, "said by "+host, got, "hello from server\n")
	}
	equal(s, "MTU", strings.TrimSpace(s.cat(clientID, "/sys/class/net/eth0/mtu")), "1400")
}

func (s *suite) ports() {
	loopback := netip.MustParseAddr("127.0.0.1")
	listener := func(s *suite, port uint16) engine.ContainerSpec {
		n := s.network()
		spec := s.spec("listen", "7000")
		spec.Network, spec.Hostname = n.Name, "server"
		spec.Ports = []engine.PortMapping{{HostIP: loopback, HostPort: port, ContainerPort: 7000, Protocol: "tcp"}}
		return spec
	}
	s.test("Published", func(s *suite) {
		id := s.run(listener(s, 0))
		ports := s.get(id).Ports
		if len(ports) != 1 || ports[0].HostIP != loopback || ports[0].HostPort == 0 || ports[0].ContainerPort != 7000 || ports[0].Protocol != "tcp" {
			s.Fatalf("ports %+v", ports)
		}
		if !s.Live {
			return
		}
		s.awaitLog(id, "listening on 7000\n")
		if !s.FollowedPorts {
			got, err := s.fetch(netip.AddrPortFrom(loopback, ports[0].HostPort))
			s.must(err)
			equal(s, "answer", got, "hello from server\n")
			return
		}
		s.must(s.RemoveContainer(s.Context(), id))
		const port = 21007 // not of the ephemeral range
		s.run(listener(s, port))
		var got string
		var err error
		s.eventually(func() bool {
			got, err = s.fetch(netip.AddrPortFrom(loopback, port))
			return got == "hello from server\n"
		}, func() string { return fmt.Sprintf("answer %q, error %v", got, err) })
	})
	s.test("TakenByContainer", func(s *suite) {
		port := s.get(s.run(listener(s, 0))).Ports[0].HostPort
		id := s.create(listener(s, port))
		s.is(s.StartContainer(s.Context(), id), engine.ErrPortInUse)
		if got := s.get(id).State; got == engine.StateRunning {
			s.Errorf("state %s", got)
		}
	})
	s.test("TakenByHost", func(s *suite) {
		if !s.Live {
			s.Skip("not the host's ports: see TakePort")
		}
		if s.FollowedPorts {
			s.Skip("the engine does not know of the host's ports")
		}
		l, err := new(net.ListenConfig).Listen(s.Context(), "tcp", "127.0.0.1:0")
		s.must(err)
		defer l.Close() //nolint:errcheck // done with
		id := s.create(listener(s, netip.MustParseAddrPort(l.Addr().String()).Port()))
		s.is(s.StartContainer(s.Context(), id), engine.ErrPortInUse)
		// Once it is free, the container starts.
		s.must(l.Close())
		s.must(s.StartContainer(s.Context(), id))
	})
}

// fetch returns what a server says to a new connection.
func (s *suite) fetch(addr netip.AddrPort) (string, error) {
	conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", addr.String())
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // all was read or has failed
	got, err := io.ReadAll(conn)
	return string(got), err
}

// cancelled checks that no operation begins with a context that has ended.
func (s *suite) cancelled() {
	n := s.network()
	id := s.run(s.spec())
	s.Cleanup(s.cleanUp)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	fresh := s.spec()
	for op, call := range map[string]func() error{
		"Info":             func() error { _, err := s.Info(ctx); return err },
		"CreateContainer":  func() error { _, err := s.CreateContainer(ctx, fresh); return err },
		"StartContainer":   func() error { return s.StartContainer(ctx, id) },
		"StopContainer":    func() error { return s.StopContainer(ctx, id, time.Second) },
		"RemoveContainer":  func() error { return s.RemoveContainer(ctx, id) },
		"ListContainers":   func() error { _, err := s.ListContainers(ctx, nil); return err },
		"InspectContainer": func() error { _, err := s.InspectContainer(ctx, id); return err },
		"ContainerLogs":    func() error { return s.ContainerLogs(ctx, id, io.Discard) },
		"Exec":             func() error { _, err := s.Exec(ctx, id, engine.Process{Argv: []string{program, "wait"}}); return err },
		"CopyIn": func() error {
			return s.CopyIn(ctx, id, "/", bytes.NewReader(archiveOf(s.T, map[string]string{"x": ""})))
		},
		"CopyOut":      func() error { _, err := s.CopyOut(ctx, id, "/etc"); return err },
		"InspectImage": func() error { _, err := s.InspectImage(ctx, ImageRef); return err },
		"LoadImage":    func() error { _, err := s.LoadImage(ctx, newReader(s.archive)); return err },
		"ListImages":   func() error { _, err := s.ListImages(ctx); return err },
		"SaveImages":   func() error { _, err := s.SaveImages(ctx, []string{ImageRef}); return err },
		"PullImage":    func() error { return s.PullImage(ctx, ImageRef) },
		"RemoveImage":  func() error { return s.RemoveImage(ctx, ImageRef) },
		"CreateNetwork": func() error {
			return s.CreateNetwork(ctx, engine.NetworkSpec{Name: s.unique("n"), Subnet: netip.MustParsePrefix("10.212.3.0/24")})
		},
		"ListNetworks":      func() error { _, err := s.ListNetworks(ctx, nil); return err },
		"RemoveNetwork":     func() error { return s.RemoveNetwork(ctx, n.Name) },
		"ConnectNetwork":    func() error { return s.ConnectNetwork(ctx, n.Name, id, far(n)) },
		"DisconnectNetwork": func() error { return s.DisconnectNetwork(ctx, n.Name, id) },
	} {
		if err := call(); err == nil || !strings.Contains(fmt.Sprint(err), context.Canceled.Error()) {
			s.Errorf("%s: %v, want %v", op, err, context.Canceled)
		} else {
			s.is(err, context.Canceled)
		}
	}
	equal(s, "state", s.get(id).State, engine.StateRunning)
	list, err := s.ListContainers(s.Context(), s.labels())
	s.must(err)
	equal(s, "containers", len(list), 1)
}
