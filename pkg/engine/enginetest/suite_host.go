// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// host tests what a container has of its host: files, UDP ports, a second
// address family, DNS search domains, names, limits.
func (s *suite) host() {
	s.test("Mounts", (*suite).hostMounts)
	s.test("UDP", (*suite).hostUDP)
	s.test("DualStack", (*suite).dualStack)
	s.test("DNSSearch", (*suite).dnsSearch)
	s.test("Hosts", (*suite).hosts)
	s.test("Limits", (*suite).limits)
}

func (s *suite) hostMounts() {
	dir := s.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of the host"), 0o644); err != nil { //nolint:gosec // read in a container
		s.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // as above
		s.Fatal(err)
	}
	spec := s.spec()
	spec.Mounts = []engine.BindMount{
		{Source: dir, Target: "/mnt/rw", Slave: true},
		{Source: dir, Target: "/mnt/ro", ReadOnly: true},
		{Source: filepath.Join(dir, "file"), Target: "/mnt/file", ReadOnly: true, Slave: true},
	}
	id := s.run(spec)
	if !s.Live {
		return
	}
	for _, name := range []string{"/mnt/rw/file", "/mnt/ro/file", "/mnt/file"} {
		equal(s, name, s.cat(id, name), "of the host")
	}
	found := map[string][2]string{} // target -> options of the mount, propagation
	for line := range strings.Lines(s.cat(id, "/proc/self/mountinfo")) {
		fields := strings.Fields(line)
		optional := fields[6:slices.Index(fields, "-")]
		found[fields[4]] = [2]string{fields[5], strings.Join(optional, " ")}
	}
	for target, readOnly := range map[string]bool{"/mnt/rw": false, "/mnt/ro": true, "/mnt/file": true} {
		m := found[target]
		if got := strings.Split(m[0], ",")[0]; (got == "ro") != readOnly {
			s.Errorf("%s is mounted %q, want read-only: %v", target, m[0], readOnly)
		}
		if strings.Contains(m[1], "shared:") {
			s.Errorf("%s is shared with the host: %s", target, m[1])
		}
		if target == "/mnt/ro" && strings.Contains(m[1], "master:") {
			s.Errorf("%s gets what the host mounts: %s", target, m[1])
		}
	}
	missing := s.spec()
	missing.Mounts = []engine.BindMount{{Source: filepath.Join(dir, "none"), Target: "/mnt/none"}}
	if id, err := s.CreateContainer(s.Context(), missing); err == nil { // some look when it starts
		s.fails(s.StartContainer(s.Context(), id))
	}
}

func (s *suite) hostUDP() {
	const port = 21053 // not of the ephemeral range: see FollowedPorts
	loopback := netip.MustParseAddr("127.0.0.1")
	spec := s.spec("answer", "7000")
	spec.Network, spec.Hostname = s.network().Name, "server"
	spec.Ports = []engine.PortMapping{
		{HostIP: loopback, HostPort: port, ContainerPort: 7000, Protocol: "udp"},
		{HostIP: loopback, HostPort: port, ContainerPort: 7001, Protocol: "tcp"}, // the same number, and no clash
	}
	id := s.run(spec)
	var protocols []string
	for _, p := range s.get(id).Ports {
		if p.HostIP == loopback && p.HostPort == port {
			protocols = append(protocols, p.Protocol)
		}
	}
	slices.Sort(protocols)
	equal(s, "published", strings.Join(protocols, " "), "tcp udp")
	if !s.Live {
		return
	}
	s.awaitLog(id, "answering on 7000\n")
	var got string
	s.eventually(func() bool {
		conn, err := new(net.Dialer).DialContext(s.Context(), "udp", netip.AddrPortFrom(loopback, port).String())
		s.must(err)
		defer conn.Close() //nolint:errcheck // done with
		s.must(conn.SetDeadline(time.Now().Add(time.Second)))
		if _, err := conn.Write([]byte("x")); err != nil {
			return false // nobody listens yet
		}
		answer := make([]byte, 64)
		n, err := conn.Read(answer)
		got = string(answer[:n])
		return err == nil
	}, func() string { return "no answer" })
	equal(s, "answer", got, "hello from server\n")
}

func (s *suite) dualStack() {
	n := s.network()
	s.must(s.RemoveNetwork(s.Context(), n.Name))
	n.IPv6Subnet = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x72, 0x6b, byte(serial.Add(1))}), 64)
	s.must(s.CreateNetwork(s.Context(), n))
	list, err := s.ListNetworks(s.Context(), s.labels())
	s.must(err)
	if len(list) != 1 || !slices.Contains(list[0].Subnets, n.Subnet) || !slices.Contains(list[0].Subnets, n.IPv6Subnet) {
		s.Fatalf("networks %+v, want one with %s and %s", list, n.Subnet, n.IPv6Subnet)
	}
	spec := s.spec("listen", "7000")
	spec.Network, spec.Hostname = n.Name, "server"
	spec.IP = n.Subnet.Addr().Next().Next().Next()
	spec.IPv6 = n.IPv6Subnet.Addr().Next().Next().Next()
	id := s.run(spec)
	equal(s, "address", s.get(id).IP, spec.IP)
	again := s.spec()
	again.Network, again.IPv6 = n.Name, spec.IPv6
	if id, err := s.CreateContainer(s.Context(), again); err == nil {
		s.fails(s.StartContainer(s.Context(), id)) // the address is taken
	}
	if !s.Live {
		return
	}
	s.awaitLog(id, "listening on 7000\n")
	client := s.spec()
	client.Network = n.Name
	clientID := s.run(client)
	for _, ip := range []netip.Addr{spec.IP, spec.IPv6} {
		got := s.output(clientID, engine.Process{Argv: []string{program, "dial", netip.AddrPortFrom(ip, 7000).String()}})
		equal(s, "said by "+ip.String(), got, "hello from server\n")
	}
}

func (s *suite) dnsSearch() {
	if !s.Live {
		s.Skip("no /etc/resolv.conf")
	}
	for _, search := range [][]string{{"one.test", "two.test"}, {}} {
		spec := s.spec()
		spec.Network, spec.DNSSearch = s.network().Name, search
		var got []string
		for line := range strings.Lines(s.cat(s.run(spec), "/etc/resolv.conf")) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "search" {
				got = append(got, fields[1:]...)
			}
		}
		// Podman adds the domain of its own resolver unless there is to be none.
		if got = slices.DeleteFunc(got, func(d string) bool { return d == "dns.podman" || d == "." }); !slices.Equal(got, search) {
			s.Errorf("search domains %v, want %v", got, search)
		}
	}
}

func (s *suite) hosts() {
	spec := s.spec()
	spec.Network = s.network().Name
	spec.Hosts = []engine.Host{
		{IP: netip.MustParseAddr("192.0.2.1"), Names: []string{"one.test", "two.test"}},
		{IP: netip.MustParseAddr("2001:db8::1"), Names: []string{"one.test"}},
	}
	id := s.run(spec)
	if !s.Live {
		return
	}
	check := func() {
		s.Helper()
		got := map[string][]string{}
		for line := range strings.Lines(s.cat(id, "/etc/hosts")) {
			fields := strings.Fields(line)
			for _, name := range fields[min(1, len(fields)):] {
				got[name] = append(got[name], fields[0])
			}
		}
		equal(s, "one.test", strings.Join(slices.Sorted(slices.Values(got["one.test"])), " "), "192.0.2.1 2001:db8::1")
		equal(s, "two.test", strings.Join(got["two.test"], " "), "192.0.2.1")
	}
	check()
	s.must(s.StopContainer(s.Context(), id, time.Second))
	s.must(s.StartContainer(s.Context(), id))
	check()
}

func (s *suite) limits() {
	info, err := s.Info(s.Context())
	s.must(err)
	if !slices.Contains(info.Controllers, "cpu") || !slices.Contains(info.Controllers, "memory") {
		s.Skip("no controllers")
	}
	spec := s.spec()
	spec.CgroupNS, spec.NanoCPUs, spec.Memory = "private", 500_000_000, 64<<20
	id := s.run(spec)
	if !s.Live {
		return
	}
	equal(s, "cpu.max", s.cat(id, "/sys/fs/cgroup/cpu.max"), "50000 100000\n")
	equal(s, "memory.max", s.cat(id, "/sys/fs/cgroup/memory.max"), "67108864\n")
	equal(s, "memory.swap.max", s.cat(id, "/sys/fs/cgroup/memory.swap.max"), "0\n")
}
