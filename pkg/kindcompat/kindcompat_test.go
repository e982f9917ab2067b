// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/patch"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var releases = []string{"v1.36.3", "v1.35.4", "v1.34.4"}

func files(t *testing.T, dir string, least int) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/" + dir + "/*.yaml")
	if err != nil || len(list) < least {
		t.Fatalf("%d files in testdata/%s (%v)", len(list), dir, err)
	}
	return list
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func golden(t *testing.T, input, got string) {
	t.Helper()
	file := strings.TrimSuffix(input, ".yaml") + ".golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(read(t, file)), got); d != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, d)
	}
}

func facts(c config.Cluster) plan.Facts {
	f := plan.Facts{
		Engine: engine.Info{Name: "podman", Rootless: true, CgroupVersion: 2, Controllers: []string{"cpu", "memory", "pids"}},
		Subnet: netip.MustParsePrefix("10.89.0.0/24"), IPv6Subnet: netip.MustParsePrefix("fd00:89::/64"), APIPort: 26443,
		Image: plan.ImageFacts{Ref: "localhost/rk-node:v1.36.3", KubernetesVersion: "v1.36.3", Images: map[string]string{}},
	}
	for _, name := range []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "flannel", "coredns", "pause", "local-path-provisioner", "busybox",
	} {
		f.Image.Images[name] = "localhost/rk/" + name + ":v0"
	}
	for i, p := range plan.HostPorts(c) {
		port := p.Port
		if port == 0 {
			port = uint16(27000 + i) //nolint:gosec // few
		}
		f.HostPorts = append(f.HostPorts, port)
	}
	return f
}

func makePlan(t *testing.T, c config.Cluster) *plan.Plan {
	t.Helper()
	c = config.Default(c)
	if err := config.Validate(c); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(c, facts(c))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// text is a plan as it is read: files and manifests as they are.
func text(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var b strings.Builder
	section := func(title string, v any) {
		data, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "=== %s\n%s", title, data)
	}
	section("network", p.Network)
	section("subnets", map[string]any{"pods": p.PodSubnets, "services": p.ServiceSubnets})
	section("API server", p.APIServer)
	for _, n := range p.Nodes {
		section(n.Name, map[string]any{"labels": n.Labels, "taints": n.Taints, "ips": n.IPs(), "podCIDRs": n.PodCIDRs()})
		section(n.Name+" container", n.Container)
		section(n.Name+" certificates", n.Certificates)
		for _, f := range n.Files {
			content := f.Content
			if strings.HasSuffix(f.Path, ".yaml") { // in one form, patched or not
				doc, err := patch.YAML(content)
				if err != nil {
					t.Fatal(err)
				}
				if content, err = patch.FormatYAML(doc); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Fprintf(&b, "=== %s %s\n%s\n", n.Name, f.Path, strings.TrimSpace(content))
		}
	}
	for _, a := range p.Addons {
		fmt.Fprintf(&b, "=== add-on %s\n%s\n", a.Name, strings.TrimSpace(a.Manifest))
	}
	return b.String()
}

// plain is a cluster of the same nodes and nothing else.
func plain(c config.Cluster) config.Cluster {
	out := config.Cluster{APIVersion: config.APIVersion, Kind: config.Kind, Name: c.Name}
	for _, n := range c.Nodes {
		out.Nodes = append(out.Nodes, config.Node{Role: n.Role})
	}
	return out
}

// Every file of testdata/good, each like those that public projects use, is
// converted and planned as its golden says: the configuration of rk, what is
// noted and warned of, and what differs in the plan from one of a cluster of the same nodes.
func TestGood(t *testing.T) {
	t.Parallel()
	for _, file := range files(t, "good", 25) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data := read(t, file)
			if !Is(data) {
				t.Fatal("is not recognised")
			}
			f, err := Parse(data, releases)
			if err != nil {
				t.Fatal(err)
			}
			out, err := yaml.Marshal(f.Cluster)
			if err != nil {
				t.Fatal(err)
			}
			again, err := config.Load(out)
			if err != nil {
				t.Fatalf("what it is converted to is refused: %v\n%s", err, out)
			}
			if d := cmp.Diff(config.Default(f.Cluster), config.Default(again)); d != "" {
				t.Errorf("does not survive being written:\n%s", d)
			}
			if _, err := plan.Check(config.Default(f.Cluster)); err != nil {
				t.Errorf("check: %v", err)
			}
			p := makePlan(t, f.Cluster)
			checkPods(t, p)
			var warnings []string
			for _, w := range p.Warnings {
				warnings = append(warnings, f.Text(w))
			}
			golden(t, file, fmt.Sprintf("%s--- notes\n%s--- warnings\n%s--- plan\n%s", out, lines(f.Notes), lines(warnings),
				diff.Diff("plain", []byte(text(t, makePlan(t, plain(f.Cluster)))), "this", []byte(text(t, p)))))
		})
	}
}

// checkPods decodes every static pod as the kubelet does: a misplaced field is an error.
func checkPods(t *testing.T, p *plan.Plan) {
	t.Helper()
	found := 0
	for _, file := range p.Nodes[0].Files {
		if !strings.HasPrefix(file.Path, "/etc/kubernetes/manifests/") {
			continue
		}
		found++
		var pod corev1.Pod
		if err := yaml.UnmarshalStrict([]byte(file.Content), &pod); err != nil {
			t.Errorf("%s: %v", file.Path, err)
			continue
		}
		volumes := map[string]bool{}
		for _, v := range pod.Spec.Volumes {
			if volumes[v.Name] || v.HostPath == nil {
				t.Errorf("%s: volume %s is there twice, or is not of the host", file.Path, v.Name)
			}
			volumes[v.Name] = true
		}
		for _, m := range pod.Spec.Containers[0].VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", file.Path, m.Name)
			}
		}
	}
	if found != 4 {
		t.Errorf("%d static pods", found)
	}
}

func lines(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "\n") + "\n"
}

// Every file of testdata/bad is refused in the words and at the places of the file.
func TestBad(t *testing.T) {
	t.Parallel()
	for _, file := range files(t, "bad", 10) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			err := check(read(t, file))
			var errs config.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error is %T (%v), want config.Errors", err, err)
			}
			golden(t, file, errs.Error()+"\n")
		})
	}
}

func check(data []byte) error {
	f, err := Parse(data, releases)
	if err != nil {
		return err
	}
	c := config.Default(f.Cluster)
	err = config.Validate(c)
	if err == nil {
		_, err = plan.Check(c)
	}
	var errs config.Errors
	if errors.As(err, &errs) {
		return f.Errors(errs)
	}
	return err
}

func TestIs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"apiVersion: kind.x-k8s.io/v1alpha4":                   true,
		"kind: Cluster\napiVersion: kind.sigs.k8s.io/v1alpha3": true,
		`{"apiVersion": "kind.x-k8s.io/v1alpha5"}`:             true,
		"apiVersion: rk.io/v1alpha1\n# kind.x-k8s.io/v1alpha4": false,
		"":                                     false,
		"apiVersion: [kind.x-k8s.io/v1alpha4]": false,
		"{":                                    false,
	} {
		if got := Is([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		images                       []string
		version, image, node1, notes string
	}{
		{[]string{"kindest/node:v1.36.3"}, "v1.36.3", "", "", "becomes rk's node image"},
		{[]string{"docker.io/kindest/node:v1.34.0", "kindest/node:v1.34.0"}, "v1.34.4", "", "", "the v1.34 that this rk builds"},
		{[]string{"registry.example.test:5000/kindest/node:v1.20.1"}, "v1.20.1", "", "", "v1.20.1"},
		{[]string{"example.test/own:1", "example.test/own:1"}, "", "example.test/own:1", "", ""},
		{[]string{"", "example.test/own:1"}, "", "", "example.test/own:1", ""},
		{[]string{"kindest/node:latest", ""}, "", "", "", ""},
	} {
		text := "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n"
		for i, image := range c.images {
			text += fmt.Sprintf("- {role: %s, image: %q}\n", []string{"control-plane", "worker"}[min(i, 1)], image)
		}
		f, err := Parse([]byte(text), releases)
		if err != nil {
			t.Fatal(err)
		}
		node1 := ""
		if len(f.Cluster.Nodes) > 1 {
			node1 = f.Cluster.Nodes[1].Image
		}
		if f.Cluster.KubernetesVersion != c.version || f.Cluster.Image != c.image || node1 != c.node1 || !strings.Contains(strings.Join(f.Notes, "\n"), c.notes) {
			t.Errorf("%v: version %q, image %q, of node 1 %q, notes %q", c.images, f.Cluster.KubernetesVersion, f.Cluster.Image, node1, f.Notes)
		}
	}
}

// What a file asks for is where it has its effect.
func TestEffects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, section string
		want          []string
		not           string
	}{
		{"ingress-ports", "ingress-control-plane container", []string{"hostPort: 8080", "hostPort: 8443"}, ""},
		{"ingress-ports", "ingress-control-plane /etc/rk/var/lib/kubelet/kubeadm-flags.env", []string{"--node-labels=ingress-ready=true"}, ""},
		{"audit-log", "rk-control-plane /etc/kubernetes/manifests/kube-apiserver.yaml", []string{"--audit-policy-file=", "path: /etc/kubernetes/policies", "mountPath: /var/log/kubernetes"}, ""},
		{"feature-gates", "rk-control-plane /etc/kubernetes/manifests/kube-scheduler.yaml", []string{"--feature-gates=AllAlpha=false,DynamicResourceAllocation=true,InPlacePodVerticalScaling=true"}, ""},
		{"feature-gates", "rk-control-plane /etc/kubernetes/manifests/kube-apiserver.yaml", []string{"--runtime-config=api/alpha=true,resource.k8s.io/v1beta1=true"}, ""},
		{"feature-gates", "rk-control-plane /etc/rk/var/lib/kubelet/config.yaml", []string{"  DynamicResourceAllocation: true", "  KubeletInUserNamespace: true"}, ""},
		{"kubelet", "rk-worker /etc/rk/var/lib/kubelet/config.yaml", []string{"maxPods: 20", "imageMaximumGCAge: 24h", "memory.available: 100Mi"}, ""},
		{"kubelet", "rk-control-plane /etc/rk/var/lib/kubelet/config.yaml", []string{"maxPods: 250"}, "memory.available"},
		{"calico", "rk-worker /etc/rk/node.env", []string{"RK_CNI=none"}, "RK_POD_SUBNET"},
		{"cilium", "rk-worker", []string{"agent-not-ready"}, ""},
		{"dual-stack", "rk-worker /etc/cni/net.d/10-flannel.conflist", []string{`"subnet": "10.244.1.0/24"`, `"subnet": "fd00:10:244:1::/64"`, `"dst": "::/0"`}, ""},
		{"dual-stack", "rk-control-plane /etc/kubernetes/manifests/kube-controller-manager.yaml", []string{"--cluster-cidr=10.244.0.0/16,fd00:10:244::/56", "--node-cidr-mask-size-ipv6=64"}, "--node-cidr-mask-size=24"},
		{"ipv6", "rk-control-plane /etc/kubernetes/manifests/etcd.yaml", []string{"https://[fd00:89::2]:2379"}, ""},
		{"ipv6", "rk-worker /etc/rk/var/lib/kubelet/kubeadm-flags.env", []string{"--node-ip=fd00:89::3"}, "10.89."},
		{"local-registry", "rk-control-plane /etc/containerd/config.toml", []string{`config_path = "/etc/containerd/certs.d"`}, "grpc.v1.cri"},
		{"metrics-server", "rk-worker /etc/rk/var/lib/kubelet/config.yaml", []string{"serverTLSBootstrap: true"}, "tlsCertFile"},
		{"monitoring", "rk-control-plane /etc/kubernetes/manifests/etcd.yaml", []string{"--listen-metrics-urls=http://0.0.0.0:2381"}, ""},
		{"etcd-in-memory", "rk-control-plane /etc/kubernetes/manifests/etcd.yaml", []string{"--data-dir=/tmp/etcd", "path: /tmp/etcd", "--quota-backend-bytes=8589934592"}, "/var/lib/etcd"},
		{"dns-domain", "rk-control-plane /etc/rk/var/lib/kubelet/config.yaml", []string{"clusterDomain: cluster.example.test"}, ""},
		{"dns-domain", "add-on coredns", []string{"kubernetes cluster.example.test in-addr.arpa"}, "cluster.local"},
		{"remote-api", "rk-control-plane certificates", []string{"build.example.test", "192.0.2.17"}, ""},
		{"shared-folders", "rk-worker container", []string{"relabel: true", "slave: true", "target: /src"}, ""},
		{"tainted-workers", "rk-worker", []string{"accelerator: fake", "pool: gpu", "key: gpu"}, ""},
		{"tainted-workers", "rk-control-plane", []string{"taints: null"}, ""},
		{"no-search", "rk-control-plane container", []string{"dnsSearch: []"}, ""},
	} {
		t.Run(c.file+" "+c.section, func(t *testing.T) {
			t.Parallel()
			f, err := Parse(read(t, "testdata/good/"+c.file+".yaml"), releases)
			if err != nil {
				t.Fatal(err)
			}
			all := text(t, makePlan(t, f.Cluster))
			i := strings.Index(all, "=== "+c.section+"\n")
			if i < 0 {
				t.Fatalf("the plan has no %q", c.section)
			}
			got, _, _ := strings.Cut(all[i+4:], "\n=== ")
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q:\n%s", want, got)
				}
			}
			if c.not != "" && strings.Contains(got, c.not) {
				t.Errorf("has %q:\n%s", c.not, got)
			}
		})
	}
	for file, addons := range map[string][]string{
		"calico":          {"kubeadm", "kube-proxy", "coredns", "local-path-provisioner"},
		"cilium":          {"kubeadm", "coredns", "local-path-provisioner"},
		"skip-kube-proxy": {"kubeadm", "coredns", "local-path-provisioner"},
	} {
		f, err := Parse(read(t, "testdata/good/"+file+".yaml"), releases)
		if err != nil {
			t.Fatal(err)
		}
		p := makePlan(t, f.Cluster)
		var got []string
		for _, a := range p.Addons {
			got = append(got, a.Name)
		}
		if !slices.Equal(got, addons) || !p.ExternalCNI {
			t.Errorf("%s: add-ons %v, external CNI %v", file, got, p.ExternalCNI)
		}
	}
}
