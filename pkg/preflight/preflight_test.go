// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const ref = "localhost/rk-node:v1.36.3"

// nodeImage is an image with the labels that package nodeimage sets, changed by f.
func nodeImage(f func(*engine.Image)) engine.Image {
	img := engine.Image{ID: "0123abcd", Arch: runtime.GOARCH, Labels: map[string]string{
		nodeimage.LabelFormat: nodeimage.Format, nodeimage.LabelKubernetes: "v1.36.3", nodeimage.LabelImages: `{"etcd":"localhost/rk/etcd:v3.6.8"}`,
	}}
	if f != nil {
		f(&img)
	}
	return img
}

func imageFacts() plan.ImageFacts {
	return plan.ImageFacts{Ref: ref, ID: "0123abcd", KubernetesVersion: "v1.36.3", Images: map[string]string{"etcd": "localhost/rk/etcd:v3.6.8"}}
}

func clusterConfig(change ...func(*config.Cluster)) config.Cluster {
	c := config.Default(config.Cluster{Name: "demo"})
	for _, f := range change {
		f(&c)
	}
	return c
}

func (h fakeHost) Own(context.Context) own {
	return own{address: netip.MustParseAddr("192.0.2.9"), cpus: 4, memory: 8 << 30, pasta: "20250503"}
}
func (fakeHost) Answers(_ context.Context, at netip.AddrPort) bool {
	return at == netip.MustParseAddrPort("192.0.2.9:3128")
}
func (fakeHost) ReadFile(path string) ([]byte, error) {
	if data, ok := fakeFiles[path]; ok {
		return []byte(data), nil
	}
	return nil, fs.ErrNotExist
}

// fakeHost has networks and, of all ports, 41000 free and 6443 in use.
type fakeHost struct{ taken []taken }

func (h fakeHost) Taken() []taken { return h.taken }
func (fakeHost) MTU() int         { return 1420 }
func (fakeHost) Exists(path string) error {
	if strings.HasPrefix(path, "/missing") {
		return fs.ErrNotExist
	}
	return nil
}
func (fakeHost) AuthFiles() []string { return nil }
func (h fakeHost) FreePort(_ context.Context, protocol string, addr netip.Addr, port uint16) (uint16, error) {
	switch {
	case protocol == "udp" && port == 6443:
		return port, nil
	case addr.String() == "192.0.2.1":
		return 0, fmt.Errorf("bind: %w", syscall.EADDRNOTAVAIL)
	case port == 443:
		return 0, fmt.Errorf("bind: %w", syscall.EACCES)
	case port == 6443:
		return 0, fmt.Errorf("bind: %w", syscall.EADDRINUSE)
	case port == 0:
		return 41000, nil
	}
	return port, nil
}

func TestImage(t *testing.T) {
	t.Parallel()
	label := func(key, value string) func(*engine.Image) {
		return func(i *engine.Image) { i.Labels[key] = value }
	}
	without := func(key string) func(*engine.Image) {
		return func(i *engine.Image) { delete(i.Labels, key) }
	}
	for name, tc := range map[string]struct {
		image engine.Image
		want  *problem.Problem
	}{
		"node image":       {nodeImage(nil), nil},
		"plain":            {engine.Image{Arch: runtime.GOARCH}, problem.NotNodeImage},
		"no version":       {nodeImage(without(nodeimage.LabelKubernetes)), problem.NotNodeImage},
		"no images":        {nodeImage(without(nodeimage.LabelImages)), problem.NotNodeImage},
		"images no object": {nodeImage(label(nodeimage.LabelImages, `["etcd"]`)), problem.NotNodeImage},
		"other format":     {nodeImage(label(nodeimage.LabelFormat, "0")), problem.NotNodeImage},
		"other processor":  {nodeImage(func(i *engine.Image) { i.Arch = "s390x" }), problem.ImageArch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eng := enginetest.NewFake()
			eng.AddImage(ref, tc.image)
			got, err := Image(t.Context(), eng, ref)
			if tc.want != nil {
				if !errors.Is(err, tc.want) {
					t.Fatalf("error is %v, want %s", err, tc.want.Code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(imageFacts(), got); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImageAbsentOrUnknown(t *testing.T) {
	t.Parallel()
	eng := enginetest.NewFake()
	_, err := Image(t.Context(), eng, ref)
	if !errors.Is(err, problem.ImageNotPresent) || !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("absent: error is %v, want ImageNotPresent and ErrNotFound", err)
	}
	broken := errors.New("broken")
	eng.Fail("InspectImage", ref, broken)
	if _, err := Image(t.Context(), eng, ref); !errors.Is(err, broken) || errors.Is(err, problem.ImageNotPresent) {
		t.Errorf("engine broken: error is %v", err)
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	eng := enginetest.NewFake()
	got, err := gather(t.Context(), eng, clusterConfig(), imageFacts(), fakeHost{})
	if err != nil {
		t.Fatal(err)
	}
	want := plan.Facts{Engine: eng.Engine, APIPort: 41000, MTU: 1420, Image: imageFacts(), Subnet: got.Subnet, Host: got.Host}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if got.Subnet.Bits() != 24 || !pools[0].Overlaps(got.Subnet) {
		t.Errorf("subnet is %s, want a /24 in %s", got.Subnet, pools[0])
	}
	again, err := gather(t.Context(), eng, clusterConfig(), imageFacts(), fakeHost{})
	if err != nil || again.Subnet != got.Subnet {
		t.Errorf("the second time, subnet is %s (%v), want %s", again.Subnet, err, got.Subnet)
	}
}

func TestGatherReportsTheEngine(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"Info", "ListNetworks"} {
		gone := enginetest.NewFake()
		gone.Fail(op, "", engine.ErrUnreachable)
		if _, err := gather(t.Context(), gone, clusterConfig(), imageFacts(), fakeHost{}); !errors.Is(err, problem.EngineUnreachable) {
			t.Errorf("%s, no engine: error is %v, want EngineUnreachable", op, err)
		}
		eng, broken := enginetest.NewFake(), errors.New("broken")
		eng.Fail(op, "", broken)
		if _, err := gather(t.Context(), eng, clusterConfig(), imageFacts(), fakeHost{}); !errors.Is(err, broken) || !errors.Is(err, problem.EngineFailed) {
			t.Errorf("%s: error is %v, want EngineFailed", op, err)
		}
	}
}

func TestGatherImagesOfNodes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		image engine.Image
		want  *problem.Problem
	}{
		"same":           {nodeImage(nil), nil},
		"other version":  {nodeImage(func(i *engine.Image) { i.Labels[nodeimage.LabelKubernetes] = "v1.35.4" }), problem.InvalidConfig},
		"other images":   {nodeImage(func(i *engine.Image) { i.Labels[nodeimage.LabelImages] = `{}` }), problem.InvalidConfig},
		"no node image":  {engine.Image{}, problem.NotNodeImage},
		"not there":      {engine.Image{ID: "absent"}, problem.ImageNotPresent},
		"other platform": {nodeImage(func(i *engine.Image) { i.Arch = "s390x" }), problem.ImageArch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eng := enginetest.NewFake()
			if tc.image.ID != "absent" {
				eng.AddImage("localhost/own:1", tc.image)
			}
			c := clusterConfig(func(c *config.Cluster) {
				c.Nodes = append(c.Nodes, config.Node{Role: config.RoleWorker, Count: 1, Image: "localhost/own:1"})
			})
			_, err := gather(t.Context(), eng, c, imageFacts(), fakeHost{})
			if tc.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "nodes[1].image") {
				t.Errorf("error is %v, want %s naming nodes[1].image", err, tc.want.Code)
			}
		})
	}
}

func TestGatherAvoidsWhatIsTaken(t *testing.T) {
	t.Parallel()
	free, err := gather(t.Context(), enginetest.NewFake(), clusterConfig(), imageFacts(), fakeHost{})
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		network netip.Prefix // of the engine
		host    netip.Prefix
		want    netip.Prefix // the subnet lies in it
	}{
		"engine's network": {free.Subnet, netip.Prefix{}, pools[0]},
		"host's address":   {netip.Prefix{}, netip.PrefixFrom(free.Subnet.Addr().Next(), 32), pools[0]},
		"host's route":     {netip.Prefix{}, prefix("10.0.0.0/8"), pools[1]},
		"both":             {prefix("10.0.0.0/8"), prefix("172.16.0.0/12"), pools[2]},
		"all private":      {prefix("10.89.0.0/16"), prefix("128.0.0.0/1"), pools[3]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eng, h := enginetest.NewFake(), fakeHost{}
			if tc.network.IsValid() {
				if err := eng.RemoveNetwork(t.Context(), "podman"); err != nil {
					t.Fatal(err)
				}
				if err := eng.CreateNetwork(t.Context(), engine.NetworkSpec{Name: "other", Subnet: tc.network}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.host.IsValid() {
				h.taken = []taken{{tc.host, "a test"}}
			}
			got, err := gather(t.Context(), eng, clusterConfig(), imageFacts(), h)
			if err != nil {
				t.Fatal(err)
			}
			if got.Subnet == free.Subnet || !tc.want.Overlaps(got.Subnet) {
				t.Errorf("subnet is %s, want another one than %s, in %s", got.Subnet, free.Subnet, tc.want)
			}
		})
	}
}

// Pod and service subnets count as taken; where everything is, that is a problem.
func TestGatherNoFreeSubnet(t *testing.T) {
	t.Parallel()
	c := clusterConfig(func(c *config.Cluster) {
		c.Networking.PodSubnet, c.Networking.ServiceSubnet = "10.0.0.0/8", "172.16.0.0/12"
	})
	got, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
	if err != nil || !pools[2].Overlaps(got.Subnet) {
		t.Errorf("subnet is %s (%v), want one in %s", got.Subnet, err, pools[2])
	}
	h := fakeHost{taken: []taken{{netip.MustParsePrefix("192.168.0.0/16"), "a test"}}}
	if _, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), h); !errors.Is(err, problem.SubnetClash) {
		t.Errorf("error is %v, want SubnetClash", err)
	}
}

func TestGatherConfiguredSubnet(t *testing.T) {
	t.Parallel()
	c := clusterConfig(func(c *config.Cluster) { c.Networking.NodeSubnet = "10.77.1.0/28" })
	got, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
	if err != nil || got.Subnet.String() != "10.77.1.0/28" {
		t.Errorf("subnet is %s (%v), want the configured one", got.Subnet, err)
	}
	h := fakeHost{taken: []taken{{netip.MustParsePrefix("10.77.0.0/16"), "a route through wg0"}}}
	_, err = gather(t.Context(), enginetest.NewFake(), c, imageFacts(), h)
	if !errors.Is(err, problem.SubnetClash) || !strings.Contains(err.Error(), "10.77.0.0/16 of a route through wg0") {
		t.Errorf("error is %v, want SubnetClash that names the route", err)
	}
	c.Networking.NodeSubnet = "10.88.3.0/24"
	_, err = gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
	if !errors.Is(err, problem.SubnetClash) || !strings.Contains(err.Error(), "the engine's network podman") {
		t.Errorf("error is %v, want SubnetClash that names the network", err)
	}
}

func TestGatherPort(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		addr string
		port int
		want *problem.Problem
		says string
	}{
		"fixed":       {"127.0.0.1", 16443, nil, ""},
		"in use":      {"127.0.0.1", 6443, problem.PortTaken, "6443"},
		"privileged":  {"127.0.0.1", 443, problem.InvalidConfig, "443"},
		"not of host": {"192.0.2.1", 0, problem.InvalidConfig, "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clusterConfig(func(c *config.Cluster) {
				c.Networking.APIServerAddress, c.Networking.APIServerPort = tc.addr, tc.port
			})
			got, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
			if tc.want == nil {
				if err != nil || int(got.APIPort) != tc.port {
					t.Errorf("port is %d (%v), want %d", got.APIPort, err, tc.port)
				}
				return
			}
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v, want %s that says %q", err, tc.want.Code, tc.says)
			}
		})
	}
}

// The real machine: a port that is listened on is seen to be in use, a free
// one can be listened on, and the loopback network is taken.
func TestLocalHost(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddr("127.0.0.1")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	used := l.Addr().(*net.TCPAddr).AddrPort().Port()
	if _, err := (localHost{}).FreePort(t.Context(), "tcp", loopback, used); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("port %d in use: error is %v, want EADDRINUSE", used, err)
	}
	if free, err := (localHost{}).FreePort(t.Context(), "tcp", loopback, 0); err != nil || free == 0 || free == used {
		t.Errorf("free port is %d (%v)", free, err)
	}
	if _, clash := overlapping(netip.MustParsePrefix("127.0.0.0/24"), localHost{}.Taken()); !clash {
		t.Errorf("the loopback network is not taken: %v", localHost{}.Taken())
	}
}

func TestParseRoutes(t *testing.T) {
	t.Parallel()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the sample is of a little-endian machine")
	}
	f, err := os.Open("testdata/route")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	got, err := parseRoutes(f)
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix
	want := []route{
		{"wlan0", prefix("0.0.0.0/0"), 600}, {"eth0", prefix("0.0.0.0/0"), 100},
		{"wg0", prefix("10.89.0.0/17"), 0}, {"eth0", prefix("192.168.178.0/24"), 100}, {"tun0", prefix("172.20.1.1/32"), 50},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(route{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if device, ok := defaultDevice(got); !ok || device != "eth0" {
		t.Errorf("default device is %q, want eth0, which has the lower metric", device)
	}
	vpn := slices.Concat(got, []route{{"tun0", prefix("0.0.0.0/1"), 999}, {"tun0", prefix("128.0.0.0/1"), 999}})
	if device, _ := defaultDevice(vpn); device != "tun0" {
		t.Errorf("default device is %q, want tun0, whose routes are more exact", device)
	}
	if device, ok := defaultDevice(got[2:]); ok {
		t.Errorf("without a default route, the device is %q", device)
	}
}

func TestParseRoutesMalformed(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"eth0 1", "eth0 XX 0 0 0 0 0 0", "eth0 00000000 0 0 0 0 0 X", "eth0 00000000 0 0 0 0 X 0", "eth0 0000 0 0 0 0 0 0"} {
		if got, err := parseRoutes(strings.NewReader("header\n" + line + "\n")); err == nil {
			t.Errorf("%q is accepted: %v", line, got)
		}
	}
}

// withNode is a change of the configuration's one node.
func withNode(change func(*config.Node)) func(*config.Cluster) {
	return func(c *config.Cluster) {
		change(&c.Nodes[0])
		*c = config.Default(*c)
	}
}

// Ports that nodes shall publish are found, and what cannot be had is refused
// before anything is made.
func TestGatherHostPorts(t *testing.T) {
	t.Parallel()
	ports := func(list ...config.Port) func(*config.Cluster) {
		return withNode(func(n *config.Node) { n.Ports = list })
	}
	for name, c := range map[string]struct {
		change func(*config.Cluster)
		want   []uint16
		err    string
	}{
		"none":                      {ports(), nil, ""},
		"given, free, the engine's": {ports(config.Port{ContainerPort: 1, HostPort: 80}, config.Port{ContainerPort: 2, Protocol: "UDP"}, config.Port{ContainerPort: 3, HostPort: -1}), []uint16{80, 41000}, ""},
		"UDP where TCP is taken":    {ports(config.Port{ContainerPort: 1, HostPort: 6443, Protocol: "UDP"}), []uint16{6443}, ""},
		"taken":                     {ports(config.Port{ContainerPort: 1, HostPort: 6443}), nil, "nodes[0].ports[0].hostPort 6443 (tcp)"},
		"not allowed":               {ports(config.Port{ContainerPort: 1, HostPort: 443}), nil, "may not listen"},
		"not of this host":          {ports(config.Port{ContainerPort: 1, HostPort: 80, ListenAddress: "192.0.2.1"}), nil, "is not an address"},
		"the API's":                 {ports(config.Port{ContainerPort: 1, HostPort: 41000}), nil, "published for something else"},
		"two free ones, one is had": {ports(config.Port{ContainerPort: 1}), nil, "no port of 0.0.0.0 is free"},
		"a folder that is there":    {withNode(func(n *config.Node) { n.Mounts = []config.Mount{{HostPath: "/a", ContainerPath: "/a"}} }), nil, ""},
		"a folder that is not":      {withNode(func(n *config.Node) { n.Mounts = []config.Mount{{HostPath: "/missing/a", ContainerPath: "/a"}} }), nil, "nodes[0].mounts[0].hostPath: /missing/a is not there"},
		"a relative path":           {withNode(func(n *config.Node) { n.Mounts = []config.Mount{{HostPath: "a", ContainerPath: "/a"}} }), nil, "not an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := gather(t.Context(), enginetest.NewFake(), clusterConfig(c.change), imageFacts(), fakeHost{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, f.HostPorts); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

// A cluster with IPv6 gets a /64 that nobody else has.
func TestGatherIPv6(t *testing.T) {
	t.Parallel()
	dual := func(c *config.Cluster) {
		*c = config.Default(config.Cluster{Name: "demo", Networking: config.Networking{IPFamily: config.DualStack, NodeSubnet: c.Networking.NodeSubnet}})
	}
	first, err := gather(t.Context(), enginetest.NewFake(), clusterConfig(dual), imageFacts(), fakeHost{})
	if err != nil {
		t.Fatal(err)
	}
	if p := first.IPv6Subnet; p.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(p.Addr()) || p != p.Masked() || !first.Subnet.Addr().Is4() {
		t.Errorf("subnets %s and %s", first.Subnet, p)
	}
	other, err := gather(t.Context(), enginetest.NewFake(), clusterConfig(dual), imageFacts(), fakeHost{taken: []taken{{first.IPv6Subnet, "another network"}}})
	if err != nil || other.IPv6Subnet == first.IPv6Subnet || !other.IPv6Subnet.IsValid() {
		t.Errorf("where it is taken: %s, %v", other.IPv6Subnet, err)
	}
	own := clusterConfig(func(c *config.Cluster) { c.Networking.NodeSubnet = "10.5.6.0/24,fd00:5::/64" }, dual)
	f, err := gather(t.Context(), enginetest.NewFake(), own, imageFacts(), fakeHost{})
	if err != nil || f.Subnet.String() != "10.5.6.0/24" || f.IPv6Subnet.String() != "fd00:5::/64" {
		t.Errorf("configured: %s and %s, %v", f.Subnet, f.IPv6Subnet, err)
	}
	_, err = gather(t.Context(), enginetest.NewFake(), own, imageFacts(), fakeHost{taken: []taken{{netip.MustParsePrefix("fd00:5::/60"), "a VPN"}}})
	if !errors.Is(err, problem.SubnetClash) {
		t.Errorf("configured and taken: %v", err)
	}
}

// Ports of UDP and of IPv6 are tried as what they are.
func TestLocalFreePort(t *testing.T) {
	t.Parallel()
	c, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // done with
	used := netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	loopback := netip.MustParseAddr("127.0.0.1")
	if _, err := (localHost{}).FreePort(t.Context(), "udp", loopback, used); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a used port of UDP: %v", err)
	}
	if free, err := (localHost{}).FreePort(t.Context(), "udp", loopback, 0); err != nil || free == 0 || free == used {
		t.Errorf("a free port of UDP: %d, %v", free, err)
	}
	if err := (localHost{}).Exists(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := (localHost{}).Exists(t.TempDir() + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
