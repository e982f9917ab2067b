// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func testConfig(groups ...config.Node) config.Cluster {
	return config.Cluster{
		APIVersion: config.APIVersion, Kind: config.Kind, Name: "demo", Nodes: groups, Cgroups: "auto",
		Networking: config.Networking{
			PodSubnet: "10.244.0.0/16", ServiceSubnet: "10.96.0.0/16", APIServerAddress: "127.0.0.1", KubeProxyMode: "iptables",
		},
	}
}

func testFacts(controllers ...string) Facts {
	images := map[string]string{}
	for _, n := range requiredImages {
		images[n] = "localhost/rk/" + n + ":v0"
	}
	return Facts{
		Engine:  engine.Info{Name: "podman", Version: "5.4.2", Rootless: true, CgroupVersion: 2, Controllers: controllers},
		Subnet:  netip.MustParsePrefix("10.111.0.0/24"),
		APIPort: 40123,
		Image:   ImageFacts{Ref: "localhost/rk-node:v1.36.3", KubernetesVersion: "v1.36.3", Images: images},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	cp := config.Node{Role: RoleControlPlane}
	nft := testConfig(cp, config.Node{
		Role: RoleWorker, Image: "localhost/other:1",
		Labels: map[string]string{"disk": "ssd", "topology.kubernetes.io/zone": "a"},
		Taints: []config.Taint{{Key: "gpu", Value: "yes", Effect: "NoExecute"}},
	})
	nft.Networking.KubeProxyMode = "nftables"
	nft.Networking.APIServerPort = 7443
	nft.Networking.APIServerAddress = "127.0.0.2"
	small := testFacts()
	small.MTU = 1400
	for name, c := range map[string]struct {
		config config.Cluster
		facts  Facts
	}{
		"one-node":               {testConfig(cp), testFacts()},
		"three-nodes":            {testConfig(cp, config.Node{Role: RoleWorker, Count: 2}), testFacts("cpu", "memory", "pids")},
		"nftables-small-mtu":     {nft, small},
		"several-control-planes": {testConfig(config.Node{Role: RoleControlPlane, Count: 3}, config.Node{Role: RoleWorker}), testFacts()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Make(c.config, c.facts)
			if err != nil {
				t.Fatal(err)
			}
			checkYAML(t, p)
			got, err := yaml.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("plan differs from %s (rewrite with -update):\n%s", path, d)
			}
			again, _ := Make(c.config, c.facts)
			if b, _ := yaml.Marshal(again); !bytes.Equal(got, b) {
				t.Error("the same input gives another plan")
			}
		})
	}
}

// checkYAML decodes every rendered YAML file strictly enough to catch a bad indent.
func checkYAML(t *testing.T, p *Plan) {
	t.Helper()
	docs := map[string]string{}
	for _, n := range p.Nodes {
		for _, f := range n.Files {
			if strings.HasSuffix(f.Path, ".yaml") {
				docs[n.Name+":"+f.Path] = f.Content
			}
		}
	}
	for _, a := range p.Addons {
		docs["addon "+a.Name] = a.Manifest
	}
	for name, text := range docs {
		for i, doc := range strings.Split(text, "\n---\n") {
			var v map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &v); err != nil {
				t.Errorf("%s, document %d: %v", name, i, err)
			} else if len(v) > 0 && v["kind"] == nil {
				t.Errorf("%s, document %d has no kind:\n%s", name, i, doc)
			}
		}
	}
}

// TestSeveralControlPlanes: each is complete, knows all members of etcd, and is
// reached through the load balancer, whose address no node has.
func TestSeveralControlPlanes(t *testing.T) {
	t.Parallel()
	p, err := Make(testConfig(config.Node{Role: RoleWorker}, config.Node{Role: RoleControlPlane, Count: 3}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	l := p.LoadBalancer
	if l == nil || l.Name != "demo-external-load-balancer" || l.Container.Labels[LabelRole] != RoleLoadBalancer {
		t.Fatalf("load balancer: %+v", l)
	}
	if len(l.Container.Ports) != 1 || l.Container.Ports[0].HostPort != p.APIServer.Port() {
		t.Errorf("it publishes %v", l.Container.Ports)
	}
	endpoint := "https://" + l.Container.IP.String() + ":6443"
	for _, n := range p.Nodes {
		if n.Container.IP == l.Container.IP || len(n.Container.Ports) > 0 {
			t.Errorf("%s has %v and publishes %v", n.Name, n.Container.IP, n.Container.Ports)
		}
		for _, k := range n.Kubeconfigs {
			want := endpoint
			if strings.HasSuffix(k.Path, "/controller-manager.conf") || strings.HasSuffix(k.Path, "/scheduler.conf") {
				want = "https://" + n.IP.String() + ":6443"
			}
			if k.Server != want {
				t.Errorf("%s of %s asks %s", k.Path, n.Name, k.Server)
			}
		}
		if n.Role != RoleControlPlane {
			continue
		}
		server := "server " + n.Name + " " + n.IP.String() + ":6443\n"
		if !strings.Contains(l.Files[0].Content, server) {
			t.Errorf("the load balancer does not know %s", n.Name)
		}
		i := slices.IndexFunc(n.Files, func(f File) bool { return strings.HasSuffix(f.Path, "/etcd.yaml") })
		for _, other := range p.Nodes[:3] {
			if i < 0 || !strings.Contains(n.Files[i].Content, other.Name+"=https://"+other.IP.String()+":2380") {
				t.Errorf("etcd of %s does not know %s", n.Name, other.Name)
			}
		}
		i = slices.IndexFunc(n.Certificates, func(c pki.Certificate) bool { return c.CommonName == "kube-apiserver" })
		if i < 0 || !slices.Contains(n.Certificates[i].IPs, l.Container.IP.String()) || !slices.Contains(n.Certificates[i].IPs, n.IP.String()) {
			t.Errorf("the API server of %s has a certificate for other addresses", n.Name)
		}
	}
	for count, warned := range map[int]bool{1: false, 2: true, 3: false, 4: true} {
		p, err := Make(testConfig(config.Node{Role: RoleControlPlane, Count: count}), testFacts("cpu", "memory", "pids"))
		if err != nil || (len(p.Warnings) > 0) != warned || (p.LoadBalancer != nil) != (count > 1) {
			t.Errorf("%d control planes: %v, %v", count, p.Warnings, err)
		}
	}
}

func TestAddressesAreDistinct(t *testing.T) {
	t.Parallel()
	p, err := Make(testConfig(config.Node{Role: RoleWorker, Count: 30}, config.Node{Role: RoleControlPlane}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	if p.Nodes[0].Role != RoleControlPlane || p.Nodes[0].Name != "demo-control-plane" || p.Nodes[30].Name != "demo-worker30" {
		t.Errorf("order: first %s, last %s", p.Nodes[0].Name, p.Nodes[30].Name)
	}
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		for _, s := range []string{n.IP.String(), n.PodCIDR.String(), n.Name} {
			if seen[s] {
				t.Errorf("%s is used twice", s)
			}
			seen[s] = true
		}
		if !p.Network.Subnet.Contains(n.IP) || !p.PodSubnets[0].Contains(n.PodCIDR.Addr()) {
			t.Errorf("%s: %s or %s lies outside its subnet", n.Name, n.IP, n.PodCIDR)
		}
	}
}

func TestNoSecretInPlan(t *testing.T) {
	t.Parallel()
	p, err := Make(testConfig(config.Node{Role: RoleControlPlane}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	b, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"PRIVATE KEY", "client-key-data", "BEGIN"} {
		if strings.Contains(string(b), s) {
			t.Errorf("the plan contains %q", s)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cp := config.Node{Role: RoleControlPlane}
	with := func(change func(*config.Cluster, *Facts)) func() (config.Cluster, Facts) {
		return func() (config.Cluster, Facts) {
			c, f := testConfig(cp), testFacts()
			change(&c, &f)
			return c, f
		}
	}
	for name, c := range map[string]struct {
		input func() (config.Cluster, Facts)
		want  *problem.Problem
		text  string
	}{
		"image lacks an image": {with(func(_ *config.Cluster, f *Facts) { delete(f.Image.Images, "etcd") }), problem.NotNodeImage, `"etcd"`},
		"controllers missing": {with(func(c *config.Cluster, f *Facts) {
			c.Cgroups, f.Engine.Controllers = "delegated", []string{"memory"}
		}), problem.NotDelegated, "cpu, pids"},
		"cgroup v1": {with(func(c *config.Cluster, f *Facts) {
			c.Cgroups, f.Engine.CgroupVersion = "delegated", 1
		}), problem.NotDelegated, "cgroup v1"},
		"subnet overlaps pods": {with(func(_ *config.Cluster, f *Facts) { f.Subnet = netip.MustParsePrefix("10.244.3.0/24") }), problem.SubnetClash, "pod subnet"},
		"subnet too small": {with(func(c *config.Cluster, f *Facts) {
			f.Subnet = netip.MustParsePrefix("10.111.0.0/29")
			c.Nodes = append(c.Nodes, config.Node{Role: RoleWorker, Count: 8})
		}), problem.SubnetClash, "too small"},
		"pod subnet too small": {with(func(c *config.Cluster, _ *Facts) {
			c.Networking.PodSubnet = "10.244.0.0/24"
			c.Nodes = append(c.Nodes, config.Node{Role: RoleWorker})
		}), problem.InvalidConfig, "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Make(c.input())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %s with %q", err, c.want.Code, c.text)
			}
		})
	}
}

func TestCgroupModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want        string
		version     int
		controllers []string
		mode        CgroupMode
	}{
		{"auto", 2, []string{"cpu", "memory", "pids"}, CgroupDelegated},
		{"auto", 2, []string{"memory", "pids"}, CgroupNone},
		{"auto", 1, []string{"cpu", "memory", "pids"}, CgroupNone},
		{"none", 2, []string{"cpu", "memory", "pids"}, CgroupNone},
		{"delegated", 2, []string{"cpu", "memory", "pids"}, CgroupDelegated},
	} {
		got, err := cgroupMode(c.want, engine.Info{CgroupVersion: c.version, Controllers: c.controllers})
		if err != nil || got != c.mode {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
	}
}
