// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// registryCluster has a local registry, a cache with credentials, and a host
// with all that can be said of one.
func registryCluster() (config.Cluster, Facts) {
	c := testConfig(config.Node{Role: RoleControlPlane}, config.Node{Role: RoleWorker})
	c.Registries = config.Registries{Local: &config.LocalRegistry{}, Hosts: []config.RegistryHost{
		{Host: "registry.example.com:443", Server: "https://backend.example.com", Cache: true, CAFile: "/home/rk/ca.pem", AuthFile: config.AuthFileAuto},
		{
			Host: "private.example.com", Mirrors: []string{"http://mirror.example.com"}, CAFile: "/home/rk/ca2.pem", SkipVerify: true,
			ClientCertFile: "/home/rk/client.pem", ClientKeyFile: "/home/rk/client.key", AuthFile: "/home/rk/auth.json",
		},
	}}
	f := testFacts("cpu", "memory", "pids")
	f.RegistryPort = 5007
	f.RegistryHosts = []RegistryHostFacts{
		{CA: "a CA\n", AuthFile: "/run/user/1000/containers/auth.json"},
		{CA: "another CA\n", ClientCert: "a certificate\n", AuthFile: "/home/rk/auth.json"},
	}
	return c, f
}

func TestRegistriesRoom(t *testing.T) {
	t.Parallel()
	c, f := registryCluster()
	f.Subnet = netip.MustParsePrefix("10.9.9.8/29") // 6 addresses: the gateway, two nodes, two registries
	p, err := Make(c, f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Registries {
		got = append(got, r.Name()+" "+r.Address.String())
	}
	if diff := cmp.Diff([]string{"rk-registry 10.9.9.14", "rk-cache-registry.example.com-443 10.9.9.13"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"rk-registry", "rk-cache-registry.example.com-443"}, RegistriesOf(p.Network.Labels)); diff != "" {
		t.Error(diff)
	}
	c.Nodes[1].Count = 3 // the last node would have an address of a registry
	if _, err := Make(c, f); !errors.Is(err, problem.SubnetClash) {
		t.Errorf("got %v", err)
	}
}

// Caches have the proxies of nodes, unless that would show a password.
func TestCachesBehindProxies(t *testing.T) {
	t.Parallel()
	for proxy, want := range map[string]string{"http://proxy.example.com:3128": "http://proxy.example.com:3128", "http://u:hunter2@proxy.example.com:3128": ""} {
		c, f := registryCluster()
		c.Proxy.HTTPS = proxy
		p, err := Make(c, f)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Registries[1].Container.Env["HTTPS_PROXY"]; got != want {
			t.Errorf("%s: HTTPS_PROXY is %q, want %q", proxy, got, want)
		}
		if got := p.Registries[0].Container.Env["HTTPS_PROXY"]; got != "" {
			t.Errorf("the local registry has HTTPS_PROXY=%s", got)
		}
		warned := slices.ContainsFunc(p.Warnings, func(w string) bool {
			return strings.Contains(w, "the cache of registry.example.com:443 does not use the proxies")
		})
		if warned != (want == "") {
			t.Errorf("%s: warnings %q", proxy, p.Warnings)
		}
	}
}

// Registries belong to no cluster, and a cluster without any has no trace of them.
func TestRegistriesBelongToNoCluster(t *testing.T) {
	t.Parallel()
	c, f := registryCluster()
	p, err := Make(c, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Registries {
		if r.Container.Labels[LabelRegistry] == "" || r.Container.Labels[LabelCluster] != "" || r.Container.Privileged {
			t.Errorf("container %+v", r.Container)
		}
	}
	if p.RegistryNetwork == nil || p.RegistryNetwork.Labels[LabelRegistry] == "" || p.RegistryNetwork.Labels[LabelCluster] != "" {
		t.Errorf("network %+v", p.RegistryNetwork)
	}
	c.Registries = config.Registries{}
	if p, err = Make(c, f); err != nil {
		t.Fatal(err)
	}
	if _, labelled := p.Network.Labels[LabelRegistries]; labelled || p.RegistryNetwork != nil || len(p.Registries) > 0 || p.Addon(AddonRegistry) {
		t.Errorf("network %+v, registries %+v", p.Network, p.Registries)
	}
	for _, n := range p.Nodes {
		if i := slices.IndexFunc(n.Files, func(f File) bool { return strings.HasPrefix(f.Path, certsDir) }); i >= 0 || len(n.Secrets) > 0 {
			t.Errorf("%s has files of registries", n.Name)
		}
	}
}

// A patch may not hide what rk writes for registries.
func TestRegistriesAndContainerdPatches(t *testing.T) {
	t.Parallel()
	for toml, fine := range map[string]bool{
		`config_path = "/etc/containerd/certs.d"`:                        true,
		`config_path = "/etc/mine:/etc/containerd/certs.d"`:              true,
		`config_path = "/etc/mine"`:                                      false,
		`mirrors."registry.example.com".endpoint = ["https://10.0.0.1"]`: false,
	} {
		c, f := registryCluster()
		c.ContainerdPatches = []config.ContainerdPatch{{TOML: "[plugins.\"io.containerd.cri.v1.images\".registry]\n" + toml}}
		if _, err := Make(c, f); (err == nil) != fine {
			t.Errorf("%s: %v", toml, err)
		}
		c.Registries = config.Registries{}
		if _, err := Make(c, f); err != nil {
			t.Errorf("%s without registries: %v", toml, err)
		}
	}
}

// TestRegistriesGolden pins what a plan has because of registries.
func TestRegistriesGolden(t *testing.T) {
	t.Parallel()
	p, err := Make(registryCluster())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{"registries": p.Registries, "registryNetwork": p.RegistryNetwork, "network": p.Network, "secrets": p.Nodes[1].Secrets}
	var files []File
	for _, f := range p.Nodes[1].Files {
		if strings.HasPrefix(f.Path, certsDir) {
			files = append(files, f)
			if _, err := patch.TOML(f.Content); strings.HasSuffix(f.Path, ".toml") && err != nil {
				t.Errorf("%s: %v", f.Path, err)
			}
		}
	}
	out["files"] = files
	for _, a := range p.Addons {
		if a.Name == AddonRegistry {
			out["addon"] = a
		}
	}
	checkYAML(t, p)
	got, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/registries.golden.yaml"
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
		t.Errorf("differs from %s (rewrite with -update):\n%s", path, d)
	}
}
