// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares v as JSON, which is what the daemon is sent, with a file.
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
	Env:        map[string]string{"B": "2", "A": "1"},
	Privileged: true, Systemd: true, CgroupNS: "private", PidsLimit: ptr(int64(0)),
	Tmpfs: map[string]string{"/tmp": "", "/run": "mode=755,size=64m"}, Volumes: []string{"/var"}, EmptyVolumes: true, Devices: []string{"/dev/fuse"},
	Network: "rk-demo", IP: netip.MustParseAddr("10.200.0.2"), Aliases: []string{"control-plane"},
	Ports:      []engine.PortMapping{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 21231, ContainerPort: 6443, Protocol: "tcp"}},
	StopSignal: "SIGRTMIN+3", RestartPolicy: "unless-stopped",
}

func TestCreateRequest(t *testing.T) {
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
			Systemd: true, Env: map[string]string{"container": "mine"},
			CgroupNS: "host", PidsLimit: ptr(int64(-1)), Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
			Mounts:  []engine.BindMount{{Source: "/a", Target: "/b"}, {Source: "/c", Target: "/d", ReadOnly: true}},
			Network: "n", IP: netip.MustParseAddr("fd00::2"),
			Ports:   []engine.PortMapping{{ContainerPort: 53, Protocol: "udp"}, {ContainerPort: 80}},
			Volumes: []string{"/v", "/w"}, StopSignal: "SIGINT",
		},
	} {
		golden(t, name, createRequest(s))
	}
}

func TestNetworkOptions(t *testing.T) {
	t.Parallel()
	golden(t, "network", networkOptions(engine.NetworkSpec{
		Name: "rk-demo", Subnet: netip.MustParsePrefix("10.200.0.0/24"), Labels: map[string]string{"io.rk.cluster": "demo"}, MTU: 1400,
	}))
	golden(t, "network-dual", networkOptions(engine.NetworkSpec{
		Name: "dual", Subnet: netip.MustParsePrefix("10.200.0.0/24"), IPv6Subnet: netip.MustParsePrefix("fd00:1::/64"),
	}))
	golden(t, "network-ipv6", networkOptions(engine.NetworkSpec{Name: "six", Subnet: netip.MustParsePrefix("fd00:1::/64")}))
}

var (
	addrs    = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	got := toNetwork(network.Summary{Name: "n", Labels: map[string]string{"a": "b"}, IPAM: network.IPAM{Config: []network.IPAMConfig{
		{Subnet: "10.1.2.0/24"}, {Subnet: "fd00:1::/64"}, {Subnet: ""},
	}}})
	want := engine.Network{
		Name: "n", Labels: map[string]string{"a": "b"},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::/64")},
	}
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Error(diff)
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	local := netip.MustParseAddr("127.0.0.1")
	got := toContainer(container.Summary{
		ID: "abc", Names: []string{"/a"}, Image: "i", Labels: map[string]string{"k": "v"}, State: "running", Created: 1764064800,
		Ports: []container.Port{
			{PrivatePort: 90, PublicPort: 9000, Type: "udp", IP: "0.0.0.0"},
			{PrivatePort: 80, PublicPort: 8000, Type: "tcp", IP: "127.0.0.1"},
			{PrivatePort: 70, Type: "tcp"},
		},
		NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{
			"bridge": {IPAddress: "172.17.0.2"}, "mine": {IPAddress: "10.1.2.3"},
		}},
	})
	want := engine.Container{
		ID: "abc", Name: "a", Image: "i", Labels: map[string]string{"k": "v"}, State: engine.StateRunning,
		Created: time.Date(2025, 11, 25, 10, 0, 0, 0, time.UTC), IP: netip.MustParseAddr("10.1.2.3"),
		Ports: []engine.PortMapping{
			{HostIP: local, HostPort: 8000, ContainerPort: 80, Protocol: "tcp"},
			{HostIP: netip.IPv4Unspecified(), HostPort: 9000, ContainerPort: 90, Protocol: "udp"},
		},
	}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Error(diff)
	}
	for s, want := range map[container.ContainerState]engine.State{
		"created": engine.StateCreated, "running": engine.StateRunning, "exited": engine.StateExited,
		"paused": engine.StateOther, "restarting": engine.StateOther, "removing": engine.StateOther, "dead": engine.StateOther,
	} {
		if got := state(s); got != want {
			t.Errorf("%s is %s", s, got)
		}
	}
}

func TestCompleteContainer(t *testing.T) {
	t.Parallel()
	c := engine.Container{State: engine.StateExited}
	complete(&c, container.InspectResponse{})
	complete(&c, container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{
		State: &container.State{ExitCode: 137},
		HostConfig: &container.HostConfig{PortBindings: nat.PortMap{
			"6443/tcp": {{HostIP: "127.0.0.1", HostPort: "21231"}}, "53/udp": {{HostPort: ""}},
		}},
	}})
	want := engine.Container{State: engine.StateExited, ExitCode: 137, Ports: []engine.PortMapping{
		{ContainerPort: 53, Protocol: "udp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 21231, ContainerPort: 6443, Protocol: "tcp"},
	}}
	if diff := cmp.Diff(want, c, addrs); diff != "" {
		t.Error(diff)
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	var r dockerimage.InspectResponse
	if err := json.Unmarshal([]byte(`{"Id": "sha256:1", "Size": 7, "Architecture": "arm64", "Config": {"Labels": {"k": "v"}}}`), &r); err != nil {
		t.Fatal(err)
	}
	want := engine.Image{ID: "sha256:1", Size: 7, Arch: "arm64", Labels: map[string]string{"k": "v"}}
	if diff := cmp.Diff(want, toImage(r)); diff != "" {
		t.Error(diff)
	}
	if got := toImage(dockerimage.InspectResponse{}); got.Labels != nil {
		t.Errorf("got %+v", got)
	}
}

func TestRootlessKit(t *testing.T) {
	t.Parallel()
	v := types.Version{Components: []types.ComponentVersion{
		{Name: "Engine", Version: "28.5.2"},
		{Name: "rootlesskit", Version: "2.3.6", Details: map[string]string{"NetworkDriver": "pasta", "PortDriver": "implicit"}},
	}}
	want := engine.Info{Name: "docker", RootlessKit: "2.3.6", NetworkDriver: "pasta", PortDriver: "implicit"}
	if diff := cmp.Diff(want, withRootlessKit(engine.Info{Name: "docker"}, v)); diff != "" {
		t.Error(diff)
	}
	if got := withRootlessKit(engine.Info{}, types.Version{}); got.RootlessKit != "" {
		t.Errorf("got %+v", got)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	full := system.Info{
		ServerVersion: "26.1.5", Driver: "overlay2", DockerRootDir: "/home/u/.local/share/docker", DefaultRuntime: "runc",
		CgroupDriver: "systemd", CgroupVersion: "2", SecurityOptions: []string{"name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"},
		CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, MemoryLimit: true, PidsLimit: true,
	}
	want := engine.Info{
		Name: "docker", Version: "26.1.5", Rootless: true, CgroupVersion: 2, CgroupManager: "systemd", Controllers: []string{"cpu", "memory", "pids"},
		OCIRuntime: "runc", StorageDriver: "overlay2", GraphRoot: "/home/u/.local/share/docker", NativeOverlay: true, Socket: "unix:///s",
	}
	if diff := cmp.Diff(want, toInfo(full, "unix:///s")); diff != "" {
		t.Error(diff)
	}
	bare := toInfo(system.Info{Driver: "fuse-overlayfs", CgroupDriver: "none", CgroupVersion: "2", SecurityOptions: []string{"name=seccomp,profile=name=rootless-not"}}, "")
	if bare.Rootless || bare.NativeOverlay || bare.CgroupManager != "" || len(bare.Controllers) > 0 {
		t.Errorf("got %+v", bare)
	}
	if old := toInfo(system.Info{CgroupVersion: "1", MemoryLimit: true}, ""); old.CgroupVersion != 1 || old.Controllers != nil {
		t.Errorf("got %+v", old)
	}
}
