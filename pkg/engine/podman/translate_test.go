// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/domain/entities/types"
	"github.com/google/go-cmp/cmp"
	nettypes "go.podman.io/common/libnetwork/types"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares v as JSON, which is what the API service is sent, with a file.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s (-update writes it): %s", file, cmp.Diff(string(want), string(got)))
	}
}

func ptr[T any](v T) *T { return &v }

var nodeSpec = engine.ContainerSpec{
	Name: "rk-demo-control-plane", Image: "localhost/rk/node:v1.36.3", Hostname: "rk-demo-control-plane",
	Labels:     map[string]string{"io.rk.cluster": "demo", "io.rk.role": "control-plane"},
	Env:        map[string]string{"container": "podman"},
	Privileged: true, Systemd: true, CgroupNS: "private", PidsLimit: ptr(int64(0)),
	Tmpfs: map[string]string{"/tmp": "", "/run": "mode=755,size=64m"}, Volumes: []string{"/var"}, Devices: []string{"/dev/fuse"},
	Network: "rk-demo", IP: netip.MustParseAddr("10.200.0.2"), Aliases: []string{"control-plane"},
	Ports:      []engine.PortMapping{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 41231, ContainerPort: 6443, Protocol: "tcp"}},
	StopSignal: "SIGRTMIN+3", RestartPolicy: "unless-stopped",
}

func TestContainerSpec(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]engine.ContainerSpec{
		"container-minimal": {Name: "a", Image: "localhost/image:v1"},
		"container-node":    nodeSpec,
		"container-host": {
			Name: "c", Image: "localhost/image:v1", DNSSearch: []string{},
			Mounts: []engine.BindMount{
				{Source: "/a", Target: "/b", Slave: true}, {Source: "/c", Target: "/d", ReadOnly: true, Relabel: true},
				{Source: "/e", Target: "/f", ReadOnly: true, Slave: true, Relabel: true},
			},
			Network: "n", IP: netip.MustParseAddr("10.200.0.2"), IPv6: netip.MustParseAddr("fd00::2"),
			Ports: []engine.PortMapping{
				{HostIP: netip.MustParseAddr("::1"), HostPort: 80, ContainerPort: 80, Protocol: "tcp"},
				{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: 53, ContainerPort: 53, Protocol: "udp"},
				{ContainerPort: 9, Protocol: "sctp"},
			},
		},
		"container-limits": {
			Name: "e", Image: "localhost/image:v1", NanoCPUs: 1_500_000_000, Memory: 2 << 30,
			Hosts: []engine.Host{{IP: netip.MustParseAddr("192.0.2.1"), Names: []string{"a.example.com", "a"}}, {IP: netip.MustParseAddr("2001:db8::1"), Names: []string{"a"}}},
		},
		"container-search": {Name: "d", Image: "localhost/image:v1", DNSSearch: []string{"example.org"}},
		"container-rest": {
			Name: "b", Image: "localhost/image:v1", Entrypoint: []string{"/bin/sh", "-c"}, Command: []string{"exit 3"},
			CgroupNS: "host", PidsLimit: ptr(int64(-1)), Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
			Mounts:  []engine.BindMount{{Source: "/a", Target: "/b"}, {Source: "/c", Target: "/d", ReadOnly: true}},
			Network: "n", IP: netip.MustParseAddr("fd00::2"),
			Ports:   []engine.PortMapping{{ContainerPort: 53, Protocol: "udp"}},
			Volumes: []string{"/v", "/w"}, EmptyVolumes: true,
			StopSignal: "SIGINT",
		},
	} {
		g, err := containerSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, g)
	}
}

func TestParseSignal(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"SIGTERM": 15, "SIGRTMIN+3": 37, "SIGRTMIN+0": 34, "SIGRTMIN+30": 64} {
		if got, err := parseSignal(name); int(got) != want || err != nil {
			t.Errorf("%s: got %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "TERM", "SIGRTMIN", "SIGRTMIN+31", "SIGRTMIN+-1", "SIGRTMIN+x", "9"} {
		if got, err := parseSignal(name); err == nil {
			t.Errorf("%q: got %d", name, got)
		}
	}
	if _, err := containerSpec(engine.ContainerSpec{StopSignal: "SIGNONE"}); err == nil {
		t.Error("a container with an unknown signal")
	}
}

func TestNetworkSpec(t *testing.T) {
	t.Parallel()
	golden(t, "network", networkSpec(engine.NetworkSpec{
		Name: "rk-demo", Subnet: netip.MustParsePrefix("10.200.0.0/24"), Labels: map[string]string{"io.rk.cluster": "demo"}, MTU: 1400,
	}))
	golden(t, "network-dual", networkSpec(engine.NetworkSpec{
		Name: "dual", Subnet: netip.MustParsePrefix("10.200.0.0/24"), IPv6Subnet: netip.MustParsePrefix("fd00:1::/64"),
	}))
	golden(t, "network-ipv6", networkSpec(engine.NetworkSpec{Name: "six", Subnet: netip.MustParsePrefix("fd00:1::/64")}))
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var prefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestNetwork(t *testing.T) {
	t.Parallel()
	n := networkSpec(engine.NetworkSpec{Name: "n", Subnet: netip.MustParsePrefix("10.1.2.0/24"), Labels: map[string]string{"a": "b"}})
	n.Subnets = append(n.Subnets, networkSpec(engine.NetworkSpec{Subnet: netip.MustParsePrefix("fd00:1::/64")}).Subnets...)
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var back nettypes.Network
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	want := engine.Network{
		Name: "n", Labels: map[string]string{"a": "b"},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::/64")},
	}
	if diff := cmp.Diff(want, network(back), prefixes); diff != "" {
		t.Error(diff)
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	got := container(types.ListContainer{
		ID: "abc", Names: []string{"a", "b"}, Image: "i", Labels: map[string]string{"k": "v"}, State: "exited", ExitCode: 137, Created: created,
		Ports: []nettypes.PortMapping{
			{HostIP: "127.0.0.1", HostPort: 8000, ContainerPort: 80, Protocol: "tcp", Range: 1},
			{HostPort: 9000, ContainerPort: 90, Protocol: "tcp,udp", Range: 2},
		},
	})
	local := netip.MustParseAddr("127.0.0.1")
	want := engine.Container{
		ID: "abc", Name: "a", Image: "i", Labels: map[string]string{"k": "v"}, State: engine.StateExited, ExitCode: 137, Created: created,
		Ports: []engine.PortMapping{
			{HostIP: local, HostPort: 8000, ContainerPort: 80, Protocol: "tcp"},
			{HostPort: 9000, ContainerPort: 90, Protocol: "tcp"},
			{HostPort: 9001, ContainerPort: 91, Protocol: "tcp"},
			{HostPort: 9000, ContainerPort: 90, Protocol: "udp"},
			{HostPort: 9001, ContainerPort: 91, Protocol: "udp"},
		},
	}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Error(diff)
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]engine.State{
		"created": engine.StateCreated, "configured": engine.StateCreated, "initialized": engine.StateCreated,
		"running": engine.StateRunning, "exited": engine.StateExited, "stopped": engine.StateExited,
		"paused": engine.StateOther, "removing": engine.StateOther, "stopping": engine.StateOther, "": engine.StateOther,
	} {
		if got := state(s); got != want {
			t.Errorf("%s: got %s", s, got)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	if n, ok := userNetwork(types.ListContainer{Networks: []string{"podman", "mine", "other"}}); n != "mine" || !ok {
		t.Errorf("network %q", n)
	}
	if n, ok := userNetwork(types.ListContainer{Networks: []string{"podman"}}); ok {
		t.Errorf("network %q", n)
	}
	four := &define.InspectAdditionalNetwork{}
	four.IPAddress = "10.1.2.3"
	six := &define.InspectAdditionalNetwork{}
	six.GlobalIPv6Address = "fd00::1"
	d := &define.InspectContainerData{NetworkSettings: &define.InspectNetworkSettings{Networks: map[string]*define.InspectAdditionalNetwork{
		"four": four, "six": six, "none": {},
	}}}
	for network, want := range map[string]netip.Addr{"four": netip.MustParseAddr("10.1.2.3"), "six": netip.MustParseAddr("fd00::1"), "none": {}, "absent": {}} {
		if got := address(d, network); got != want {
			t.Errorf("%s: got %v", network, got)
		}
	}
	if got := address(&define.InspectContainerData{}, "four"); got.IsValid() {
		t.Errorf("got %v", got)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	delegated := []string{"cpu", "memory", "pids"}
	for _, c := range []struct {
		name   string
		change func(i *define.Info)
		want   func(i *engine.Info)
	}{
		{"native overlay", func(*define.Info) {}, func(*engine.Info) {}},
		{"fuse-overlayfs", func(i *define.Info) {
			i.Store.GraphOptions["overlay.mount_program"] = map[string]any{"Executable": "/usr/bin/fuse-overlayfs"}
		}, func(i *engine.Info) { i.NativeOverlay = false }},
		{"vfs", func(i *define.Info) { i.Store.GraphDriverName = "vfs" }, func(i *engine.Info) { i.StorageDriver, i.NativeOverlay = "vfs", false }},
		{"cgroup v1", func(i *define.Info) { i.Host.CgroupsVersion = "v1" }, func(i *engine.Info) { i.CgroupVersion, i.Controllers = 1, nil }},
		{"nothing delegated", func(i *define.Info) { i.Host.CgroupControllers = nil }, func(i *engine.Info) { i.Controllers = nil }},
		{"rootful", func(i *define.Info) { i.Host.Security.Rootless = false }, func(i *engine.Info) { i.Rootless = false }},
	} {
		in := &define.Info{
			Host: &define.HostInfo{
				CgroupManager: "systemd", CgroupsVersion: "v2", CgroupControllers: []string{"memory", "pids", "cpu"},
				OCIRuntime: &define.OCIRuntimeInfo{Name: "crun"}, Security: define.SecurityInfo{Rootless: true},
			},
			Store:   &define.StoreInfo{GraphDriverName: "overlay", GraphRoot: "/home/u/storage", GraphOptions: map[string]any{}},
			Version: define.Version{Version: "4.3.1"},
		}
		want := engine.Info{
			Name: "podman", Version: "4.3.1", Rootless: true, CgroupVersion: 2, CgroupManager: "systemd", Controllers: delegated,
			OCIRuntime: "crun", StorageDriver: "overlay", GraphRoot: "/home/u/storage", NativeOverlay: true, Socket: "unix:///s",
		}
		c.change(in)
		c.want(&want)
		if diff := cmp.Diff(want, info(in, "unix:///s")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestLabelFilters(t *testing.T) {
	t.Parallel()
	want := map[string][]string{"label": {"a=1", "b"}}
	if diff := cmp.Diff(want, labelFilters(map[string]string{"b": "", "a": "1"})); diff != "" {
		t.Error(diff)
	}
	if got := labelFilters(nil); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		patterns []pattern
		text     string
		want     error
	}{
		{creating, "localhost/x:v1: image not known", engine.ErrNotFound},
		{creating, "unable to find network with name or ID n: network not found", engine.ErrNotFound},
		{creating, `creating container storage: the container name "a" is already in use by 9d25. You have to remove that container to be able to reuse that name: that name is already in use`, engine.ErrConflict},
		{creating, "crun: something else", nil},
		{starting, "rootlessport listen tcp 127.0.0.1:41231: bind: address already in use", engine.ErrPortInUse},
		{starting, "rootlessport listen udp 0.0.0.0:53: bind: address already in use", engine.ErrPortInUse},
		{starting, "IPAM error: requested ip address 10.211.1.77 is already allocated to container ID abc", nil},
		{starting, "netavark: failed to start aardvark-dns: failed to bind udp listener on 10.89.0.1:53: IO error: Address already in use (os error 98)", nil},
		{networking, "network name rk-demo already used: network already exists", engine.ErrConflict},
		{networking, "subnet 10.211.1.0/24 is already used on the host or by another config", engine.ErrConflict},
		{networking, "invalid subnet", nil},
	} {
		err := classify(&apiError{text: c.text}, c.patterns)
		var e *apiError
		if !errors.As(err, &e) || e.kind != c.want || err.Error() != c.text { //nolint:errorlint // exactly this kind
			t.Errorf("%s: got %v, want %v", c.text, e.kind, c.want)
		}
	}
}
