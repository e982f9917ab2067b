// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/patch"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func mergePatch(t *testing.T, kind, text string) config.KubeadmPatch {
	t.Helper()
	doc, err := patch.YAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return config.KubeadmPatch{Kind: kind, Merge: doc}
}

// prepared is a configuration as the command line hands it over.
func prepared(t *testing.T, change func(*config.Cluster)) config.Cluster {
	t.Helper()
	c := config.Cluster{Name: "demo", Nodes: []config.Node{{Role: RoleControlPlane}, {Role: RoleWorker, Count: 2}}}
	change(&c)
	c = config.Default(c)
	if err := config.Validate(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Feature gates reach every component of every node.
func TestFeatureGatesReachEveryComponent(t *testing.T) {
	t.Parallel()
	p, err := Make(prepared(t, func(c *config.Cluster) {
		c.FeatureGates = map[string]bool{"B": false, "A": true}
		c.RuntimeConfig = map[string]string{"api/alpha": "true"}
	}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		want(t, name, flags(t, p, name), map[string]string{"feature-gates": "A=true,B=false"})
	}
	want(t, "kube-apiserver", flags(t, p, "kube-apiserver"), map[string]string{"runtime-config": "api/alpha=true"})
	want(t, "etcd", flags(t, p, "etcd"), map[string]string{"feature-gates": ""})
	gates := map[string]bool{"A": true, "B": false, "KubeletInUserNamespace": true}
	for _, n := range p.Nodes {
		k := decode[struct{ FeatureGates map[string]bool }](t, n.Name, fileOf(t, n, kubeletConfig))
		if diff := cmp.Diff(gates, k.FeatureGates); diff != "" {
			t.Errorf("kubelet of %s (-want +got):\n%s", n.Name, diff)
		}
	}
	proxy := decode[struct{ FeatureGates map[string]bool }](t, "kube-proxy", objects(t, p, "ConfigMap", "kube-proxy")[0].Data["config.conf"])
	if diff := cmp.Diff(map[string]bool{"A": true, "B": false}, proxy.FeatureGates); diff != "" {
		t.Errorf("kube-proxy (-want +got):\n%s", diff)
	}
	cluster := objects(t, p, "ConfigMap", "kubeadm-config")[0].Data["ClusterConfiguration"]
	if strings.Count(cluster, "A=true,B=false") != 3 || !strings.Contains(cluster, "api/alpha=true") {
		t.Errorf("kubeadm-config:\n%s", cluster)
	}
}

// Patches of the kubelet's configuration hold on every node, those of one node
// there alone, and the first also for nodes that join with kubeadm.
func TestKubeletPatches(t *testing.T) {
	t.Parallel()
	p, err := Make(prepared(t, func(c *config.Cluster) {
		c.KubeadmPatches = []config.KubeadmPatch{mergePatch(t, config.KubeletConfiguration, "{maxPods: 100, podPidsLimit: 50}")}
		c.Nodes = []config.Node{
			{Role: RoleControlPlane}, {Role: RoleWorker, Count: 2},
			{Role: RoleWorker, KubeadmPatches: []config.KubeadmPatch{mergePatch(t, config.KubeletConfiguration, "{maxPods: 7}")}},
		}
	}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	type kubelet struct{ MaxPods, PodPidsLimit int }
	var got []kubelet
	for _, n := range p.Nodes {
		got = append(got, decode[kubelet](t, n.Name, fileOf(t, n, kubeletConfig)))
	}
	all := objects(t, p, "ConfigMap", "kubelet-config")[0].Data["kubelet"]
	got = append(got, decode[kubelet](t, "kubelet-config", all))
	if diff := cmp.Diff([]kubelet{{100, 50}, {100, 50}, {100, 50}, {7, 50}, {100, 50}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(all, "tlsCertFile") {
		t.Errorf("kubelet-config has the certificate of one node:\n%s", all)
	}
}

// Patches that apply to other nodes, or to nothing, are told.
func TestPatchesWithoutEffect(t *testing.T) {
	t.Parallel()
	p, err := Make(prepared(t, func(c *config.Cluster) {
		c.Networking.KubeProxyMode = config.KubeProxyNone
		c.Nodes = []config.Node{{Role: RoleControlPlane, KubeadmPatches: []config.KubeadmPatch{mergePatch(t, config.JoinConfiguration, "{skipPhases: []}")}}}
		c.KubeadmPatches = []config.KubeadmPatch{
			mergePatch(t, config.KubeProxyConfiguration, "{mode: nftables}"), mergePatch(t, config.JoinConfiguration, "{timeouts: {}}"), mergePatch(t, config.InitConfiguration, "{skipPhases: [preflight]}"),
		}
	}), testFacts("cpu", "memory", "pids"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"nodes[0].kubeadmPatches[0]: JoinConfiguration has no effect: the first control plane does not join; write InitConfiguration",
		"kubeadmPatches[0]: KubeProxyConfiguration has no effect: networking.kubeProxyMode is none",
		"kubeadmPatches[1]: JoinConfiguration has no effect: the first control plane does not join; write InitConfiguration",
	}
	if diff := cmp.Diff(want, p.Warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.Addon(AddonKubeProxy) || !p.Addon(AddonCoreDNS) || !p.Addon(AddonFlannel) {
		t.Error("add-ons")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	refused := prepared(t, func(c *config.Cluster) {
		c.KubeadmPatches = []config.KubeadmPatch{mergePatch(t, config.KubeletConfiguration, "{failSwapOn: true}")}
		c.ContainerdPatches = []config.ContainerdPatch{{TOML: "root = '/x'"}, {TOML: "["}, {TOML: `plugins."io.containerd.cri.v1.runtime" = 1`}}
	})
	_, err := Check(refused)
	var errs config.Errors
	if !errors.As(err, &errs) || !errors.Is(err, problem.InvalidConfig) {
		t.Fatalf("error is %v", err)
	}
	var at []string
	for _, e := range errs {
		at = append(at, e.Path)
	}
	if want := []string{"kubeadmPatches[0].merge.failSwapOn", "containerdPatches[0]", "containerdPatches[1]", "containerdPatches[2]"}; !slices.Equal(at, want) {
		t.Errorf("errors at %v, want %v", at, want)
	}
	for _, mode := range []string{"auto", "delegated", "none"} {
		if _, err := Check(prepared(t, func(c *config.Cluster) { c.Cgroups = mode })); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if _, err := Check(prepared(t, func(c *config.Cluster) {
		c.Networking = config.Networking{IPFamily: config.DualStack, DisableDefaultCNI: true}
		c.Nodes[1].Ports = []config.Port{{ContainerPort: 80}}
	})); err != nil {
		t.Error(err)
	}
}

func TestHostPorts(t *testing.T) {
	t.Parallel()
	c := prepared(t, func(c *config.Cluster) {
		c.Nodes = []config.Node{
			{Role: RoleWorker, Count: 2, Ports: []config.Port{{ContainerPort: 80}, {ContainerPort: 81, HostPort: -1}}},
			{Role: RoleControlPlane, Ports: []config.Port{{ContainerPort: 53, HostPort: 5353, Protocol: config.UDP, ListenAddress: "127.0.0.1"}}},
		}
	})
	all := netip.MustParseAddr("0.0.0.0")
	want := []HostPort{
		{"nodes[1].ports[0].hostPort", netip.MustParseAddr("127.0.0.1"), "udp", 5353}, {"nodes[0].ports[0].hostPort", all, "tcp", 0}, {"nodes[0].ports[0].hostPort", all, "tcp", 0},
	}
	if diff := cmp.Diff(want, HostPorts(c), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	f := testFacts()
	if _, err := Make(c, f); err == nil {
		t.Error("facts without ports are accepted")
	}
	f.HostPorts = []uint16{5353, 27001, 27002}
	p, err := Make(c, f)
	if err != nil {
		t.Fatal(err)
	}
	for i, ports := range [][]uint16{{40123, 5353}, {27001, 0}, {27002, 0}} {
		var got []uint16
		for _, m := range p.Nodes[i].Container.Ports {
			got = append(got, m.HostPort)
		}
		if !slices.Equal(got, ports) {
			t.Errorf("%s publishes %v, want %v", p.Nodes[i].Name, got, ports)
		}
	}
	if got := p.Nodes[0].Container.Ports[1]; got != (engine.PortMapping{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 5353, ContainerPort: 53, Protocol: "udp"}) {
		t.Errorf("%+v", got)
	}
}

// What version 2 of containerd's configuration has in one plugin is moved to
// where version 3 has it.
func TestContainerdVersion2(t *testing.T) {
	t.Parallel()
	base := map[string]any{"version": int64(3), "plugins": map[string]any{criImages: map[string]any{"snapshotter": "overlayfs"}}}
	got, err := patchContainerd(base, config.ContainerdPatch{TOML: `
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "pause:1"
enable_cdi = true
max_concurrent_downloads = 5
stream_server_port = "10010"
device_ownership_from_security_context = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/x"
conf_dir = "/y"
[plugins."io.containerd.grpc.v1.cri".containerd]
discard_unpacked_layers = false
default_runtime_name = "z"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.z]
runtime_type = "io.containerd.z.v1"
[plugins."io.containerd.grpc.v1.cri".registry.configs."example.test".auth]
username = "u"
`})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"version": int64(3), "plugins": map[string]any{
		criImages: map[string]any{
			"snapshotter": "overlayfs", "discard_unpacked_layers": false, "max_concurrent_downloads": int64(5), "pinned_images": map[string]any{"sandbox": "pause:1"},
			"registry": map[string]any{"configs": map[string]any{"example.test": map[string]any{"auth": map[string]any{"username": "u"}}}},
		},
		criRuntime: map[string]any{
			"cni": map[string]any{"bin_dirs": []any{"/x"}, "conf_dir": "/y"}, "device_ownership_from_security_context": true,
			"containerd": map[string]any{"default_runtime_name": "z", "runtimes": map[string]any{"z": map[string]any{"runtime_type": "io.containerd.z.v1"}}},
		},
		criV2: map[string]any{"stream_server_port": "10010"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for pointer, want := range map[string]string{
		"/plugins/io.containerd.grpc.v1.cri/registry/config_path":               "/plugins/" + criImages + "/registry/config_path",
		"/plugins/io.containerd.grpc.v1.cri/sandbox_image":                      "/plugins/" + criImages + "/pinned_images/sandbox",
		"/plugins/io.containerd.grpc.v1.cri/containerd/discard_unpacked_layers": "/plugins/" + criImages + "/discard_unpacked_layers",
		"/plugins/io.containerd.grpc.v1.cri/containerd/runtimes/a~1b":           "/plugins/" + criRuntime + "/containerd/runtimes/a~1b",
		"/plugins/io.containerd.grpc.v1.cri/stream_idle_timeout":                "/plugins/" + criV2 + "/stream_idle_timeout",
		"/plugins/io.containerd.grpc.v1.cri/cni/max_conf_num":                   "/plugins/" + criRuntime + "/cni/max_conf_num",
		"/timeouts": "/timeouts", "": "",
	} {
		if got, err := movePointer(pointer); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", pointer, got, err, want)
		}
	}
	for _, pointer := range []string{"/plugins/io.containerd.grpc.v1.cri", "/plugins/io.containerd.grpc.v1.cri/containerd"} {
		if got, err := movePointer(pointer); err == nil {
			t.Errorf("%s: %s", pointer, got)
		}
	}
}

// Subnets of both families are cut up alike.
func TestSubnetsOfNodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix  string
		bits, n int
		want    string
	}{
		{"10.244.0.0/16", 24, 255, "10.244.255.0/24"}, {"10.0.0.0/8", 24, 256, "10.1.0.0/24"}, {"fd00:10:244::/56", 64, 255, "fd00:10:244:ff::/64"},
		{"fd00:10:244::/48", 64, 65535, "fd00:10:244:ffff::/64"}, {"fd00:10:244::/64", 64, 0, "fd00:10:244::/64"},
		{"10.244.0.0/16", 24, 256, ""}, {"fd00:10:244::/56", 64, 256, ""}, {"10.244.0.0/25", 24, 0, ""},
	} {
		got, err := nthSubnet(netip.MustParsePrefix(c.prefix), c.bits, c.n)
		if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
			t.Errorf("subnet %d of %s: %s, %v, want %s", c.n, c.prefix, got, err, c.want)
		}
	}
	for _, c := range []struct {
		prefix string
		n      int
		want   string
	}{
		{"10.89.0.0/24", 254, "10.89.0.254"}, {"10.96.0.0/16", 266, "10.96.1.10"}, {"fd00::/64", 2, "fd00::2"}, {"fd00::/112", 65534, "fd00::fffe"},
		{"10.89.0.0/24", 255, ""}, {"fd00::/120", 255, ""}, {"10.89.0.0/24", -1, ""},
	} {
		got, err := nth(netip.MustParsePrefix(c.prefix), c.n)
		if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
			t.Errorf("address %d of %s: %s, %v, want %s", c.n, c.prefix, got, err, c.want)
		}
	}
}

// A control plane whose cluster has other addresses in both families names all of them.
func TestDualStackPrimaryIPv6(t *testing.T) {
	t.Parallel()
	f := testFacts()
	f.IPv6Subnet = netip.MustParsePrefix("fd00:89::/64")
	p, err := Make(prepared(t, func(c *config.Cluster) {
		c.Networking = config.Networking{IPFamily: config.DualStack, PodSubnet: "fd00:10:244::/56,10.244.0.0/16", ServiceSubnet: "fd00:10:96::/112,10.96.0.0/16"}
	}), f)
	if err != nil {
		t.Fatal(err)
	}
	n := p.Nodes[1]
	if n.IP.String() != "fd00:89::3" || n.SecondaryIP.String() != "10.111.0.3" || n.PodCIDR.String() != "fd00:10:244:1::/64" || n.SecondaryPodCIDR.String() != "10.244.1.0/24" {
		t.Errorf("%+v", n)
	}
	want(t, "kube-apiserver", flags(t, p, "kube-apiserver"), map[string]string{"advertise-address": "fd00:89::2", "service-cluster-ip-range": "fd00:10:96::/112,10.96.0.0/16"})
	if args := fileOf(t, n, kubeletDir+"/kubeadm-flags.env"); !strings.Contains(args, "--node-ip=fd00:89::3,10.111.0.3") {
		t.Error(args)
	}
	checkYAML(t, p)
	f.IPv6Subnet = netip.MustParsePrefix("fd00:10:244:7::/64")
	if _, err := Make(prepared(t, func(c *config.Cluster) { c.Networking.IPFamily = config.DualStack }), f); !errors.Is(err, problem.SubnetClash) {
		t.Errorf("nodes within the pods' subnet: %v", err)
	}
}
