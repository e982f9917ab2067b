// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// optionsConfig asks for all that nodes can have of the host.
func optionsConfig() config.Cluster {
	c := testConfig(
		config.Node{Role: RoleControlPlane},
		config.Node{
			Role: RoleWorker, Count: 2, Env: map[string]string{"WHO": "a worker"},
			Hosts:     []config.HostEntry{{IP: "2001:db8::1", Names: []string{"six.example.com."}}},
			Resources: config.Resources{CPUs: "1500m", Memory: "2Gi"},
		},
	)
	c.Env = map[string]string{"WHO": "everybody", "TEXT": `"100%" \ $HOME`}
	c.Hosts = []config.HostEntry{{IP: "192.0.2.10", Names: []string{"one.example.com", "one"}}}
	c.Proxy = config.Proxy{
		HTTP: "http://proxy.example.com:3128", HTTPS: "http://somebody:s3cr%40t@127.0.0.1:3129", NoProxy: []string{".example.com", "localhost"},
		CAFiles: []string{"/ca.pem"},
	}
	return c
}

func optionsFacts(controllers ...string) Facts {
	f := testFacts(controllers...)
	f.Host = HostFacts{
		IP: netip.MustParseAddr("169.254.1.2"), Address: netip.MustParseAddr("192.0.2.9"), CPUs: 4, Memory: 8 << 30,
		ProxyPorts: []uint16{3129}, Authorities: []string{"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"},
	}
	return f
}

// shownOptions is what of a plan the options make.
func shownOptions(t *testing.T, p *Plan) string {
	t.Helper()
	type shown struct {
		Container engine.ContainerSpec `json:"container"`
		Files     []File               `json:"files"`
	}
	var out struct {
		Nodes    map[string]shown `json:"nodes"`
		Corefile string           `json:"corefile"`
		Warnings []string         `json:"warnings"`
	}
	out.Nodes, out.Warnings = map[string]shown{}, p.Warnings
	for _, n := range p.Nodes {
		c := n.Container
		s := shown{Container: engine.ContainerSpec{Env: c.Env, Hosts: c.Hosts, NanoCPUs: c.NanoCPUs, Memory: c.Memory}}
		for _, f := range n.Files {
			if slices.Contains([]string{environmentFile, withResources, resourcesDropIn, authoritiesDropIn, kubeletConfig}, f.Path) || strings.HasPrefix(f.Path, authoritiesDir) {
				s.Files = append(s.Files, f)
			}
		}
		out.Nodes[n.Name] = s
	}
	for _, a := range p.Addons {
		if a.Name == AddonCoreDNS {
			_, rest, _ := strings.Cut(a.Manifest, "Corefile: |\n")
			out.Corefile, _, _ = strings.Cut(rest, "\n---\n")
		}
	}
	got, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestOptionsGolden(t *testing.T) {
	t.Parallel()
	for name, facts := range map[string]Facts{"options-delegated": optionsFacts("cpu", "memory", "pids"), "options-none": optionsFacts()} {
		p, err := Make(optionsConfig(), facts)
		if err != nil {
			t.Fatal(err)
		}
		checkYAML(t, p)
		got := shownOptions(t, p)
		path := filepath.Join("testdata", name+".golden.yaml")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (rewrite with -update):\n%s", path, d)
		}
	}
}

// The password of a proxy is in one file of each node, and never printed.
func TestProxySecret(t *testing.T) {
	t.Parallel()
	c := optionsConfig()
	c.Proxy.HTTP = "http://e@proxy.example.com:3128" // a letter that is everywhere
	p, err := Make(c, optionsFacts())
	if err != nil {
		t.Fatal(err)
	}
	printed, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cr%40t", "s3cr%%40t", "s3cr@t", "somebody"} {
		if strings.Contains(string(printed), secret) {
			t.Errorf("the printed plan has %q", secret)
		}
	}
	for _, want := range []string{`DefaultEnvironment="HTTPS_PROXY=http://REDACTED@host.rk.internal:3129"`, `DefaultEnvironment="HTTP_PROXY=http://REDACTED@proxy.example.com:3128"`} {
		if !strings.Contains(string(printed), want) {
			t.Errorf("the printed plan does not have %s", want)
		}
	}
	for _, n := range p.Nodes {
		var in []string
		for _, f := range n.Files {
			if strings.Contains(f.Content, "s3cr") {
				in = append(in, f.Path)
			}
		}
		if !slices.Equal(in, []string{environmentFile}) {
			t.Errorf("%s has the password in %v", n.Name, in)
		}
		for k, v := range n.Container.Env {
			if strings.Contains(v, "s3cr") {
				t.Errorf("%s has the password in the variable %s of its container", n.Name, k)
			}
		}
	}
}

func TestLoopbackProxy(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		url    string
		change func(*Facts)
		want   string // HTTPS_PROXY
		warns  string
	}{
		"another host":      {"http://proxy.example.com:3128", nil, "http://proxy.example.com:3128", ""},
		"without a scheme":  {"proxy.example.com:3128", nil, "http://proxy.example.com:3128", ""},
		"reachable":         {"http://localhost:3129", nil, "http://host.rk.internal:3129", ""},
		"IPv6":              {"http://[::1]:3129", nil, "http://host.rk.internal:3129", ""},
		"loopback alone":    {"http://127.0.0.1:3130", nil, "", "nothing answers on port 3130 of 192.0.2.9"},
		"default port":      {"http://127.0.0.1", nil, "", "nothing answers on port 80 of"},
		"no way to a host":  {"http://127.0.0.1:3129", func(f *Facts) { f.Host.IP = netip.Addr{} }, "", "has no way to this host"},
		"no port by chance": {"socks5://127.0.0.2", func(f *Facts) { f.Host.ProxyPorts = []uint16{1080} }, "socks5://host.rk.internal:1080", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, f := testConfig(config.Node{Role: RoleControlPlane}), optionsFacts("cpu", "memory", "pids")
			c.Proxy.HTTPS = tc.url
			if tc.change != nil {
				tc.change(&f)
			}
			p, err := Make(c, f)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, file := range p.Nodes[0].Files {
				if file.Path == environmentFile {
					_, got, _ = strings.Cut(file.Content, `"HTTPS_PROXY=`)
					got, _, _ = strings.Cut(got, `"`)
				}
			}
			if got != tc.want {
				t.Errorf("HTTPS_PROXY is %q, want %q", got, tc.want)
			}
			if warned := strings.Join(p.Warnings, "\n"); (warned != "") != (tc.warns != "") || !strings.Contains(warned, tc.warns) {
				t.Errorf("warnings %q, want %q", warned, tc.warns)
			}
		})
	}
}

func TestResourcesOfTheHost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		resources config.Resources
		refused   string
		warns     string
	}{
		"as the host":       {config.Resources{CPUs: "4", Memory: "4Gi"}, "", ""},
		"more CPUs":         {config.Resources{CPUs: "4001m"}, `nodes[1].resources.cpus: "4001m" are more than this host has: 4`, ""},
		"more memory":       {config.Resources{Memory: "9Gi"}, `nodes[1].resources.memory: "9Gi" is more than this host has: 8192Mi`, ""},
		"together too much": {config.Resources{Memory: "5Gi"}, "", "the memory of all nodes together, 10240Mi, is more than this host has, 8192Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(config.Node{Role: RoleControlPlane}, config.Node{Role: RoleWorker, Count: 2, Resources: tc.resources})
			p, err := Make(c, optionsFacts("cpu", "memory", "pids"))
			if tc.refused != "" {
				var errs config.Errors
				if !errors.Is(err, problem.InvalidConfig) || !errors.As(err, &errs) || errs.Error() != tc.refused {
					t.Fatalf("error %v, want %s", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if warned := strings.Join(p.Warnings, "\n"); (warned != "") != (tc.warns != "") || !strings.Contains(warned, tc.warns) {
				t.Errorf("warnings %q, want %q", warned, tc.warns)
			}
		})
	}
}

// The user's address of the host counts, and pods with IPv6 alone do not get one of IPv4.
func TestHostName(t *testing.T) {
	t.Parallel()
	corefile := func(t *testing.T, change func(*config.Cluster, *Facts)) (node []engine.Host, dns string) {
		t.Helper()
		c, f := testConfig(config.Node{Role: RoleControlPlane}), optionsFacts()
		change(&c, &f)
		p, err := Make(c, f)
		if err != nil {
			t.Fatal(err)
		}
		return p.Nodes[0].Container.Hosts, shownOptions(t, p)
	}
	line := func(ip string) string { return ip + " " + config.HostName }
	node, dns := corefile(t, func(*config.Cluster, *Facts) {})
	if len(node) != 1 || node[0].IP.String() != "169.254.1.2" || !strings.Contains(dns, line("169.254.1.2")) {
		t.Errorf("nodes %v, DNS %s", node, dns)
	}
	node, dns = corefile(t, func(c *config.Cluster, _ *Facts) {
		c.Hosts = []config.HostEntry{{IP: "10.0.2.2", Names: []string{"HOST.rk.internal"}}}
	})
	if len(node) != 1 || node[0].IP.String() != "10.0.2.2" || strings.Contains(dns, "169.254.1.2") {
		t.Errorf("nodes %v, DNS %s", node, dns)
	}
	node, dns = corefile(t, func(_ *config.Cluster, f *Facts) { f.Host = HostFacts{} })
	if len(node) != 0 || strings.Contains(dns, config.HostName) || strings.Contains(dns, "hosts {") {
		t.Errorf("nodes %v, DNS %s", node, dns)
	}
	node, dns = corefile(t, func(c *config.Cluster, f *Facts) {
		c.Networking.IPFamily, c.Networking.PodSubnet, c.Networking.ServiceSubnet = config.IPv6, "fd00:10:244::/56", "fd00:10:96::/112"
		c.Networking.APIServerAddress = "::1"
		f.IPv6Subnet = netip.MustParsePrefix("fd00:111::/64")
	})
	if len(node) != 1 || strings.Contains(dns, config.HostName) && strings.Contains(dns, "hosts {") {
		t.Errorf("nodes %v, DNS %s", node, dns)
	}
}

// The kubelet is started with the command of its unit.
func TestKubeletCommand(t *testing.T) {
	t.Parallel()
	unit, err := nodeimagedata.Rootfs.ReadFile("rootfs/usr/lib/systemd/system/kubelet.service")
	if err != nil {
		t.Fatal(err)
	}
	_, command, ok := strings.Cut(string(unit), "\nExecStart=")
	command, _, _ = strings.Cut(command, "\n")
	p, err := Make(optionsConfig(), optionsFacts())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for _, f := range p.Nodes[1].Files {
		if f.Path == resourcesDropIn {
			if want := "ExecStart=\nExecStart=" + withResources + " " + command + "\n"; !strings.HasSuffix(f.Content, want) {
				t.Errorf("%s does not end in %q:\n%s", f.Path, want, f.Content)
			}
			return
		}
	}
	t.Errorf("no %s", resourcesDropIn)
}
