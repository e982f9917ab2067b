// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
)

// decode unmarshals a rendered document; fields that T has not are left out.
func decode[T any](t *testing.T, name, doc string) T {
	t.Helper()
	var v T
	if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func listenPlan(t *testing.T) *Plan {
	t.Helper()
	p, err := Make(testConfig(config.Node{Role: RoleControlPlane}, config.Node{Role: RoleWorker}), testFacts())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fileOf(t *testing.T, n Node, path string) string {
	t.Helper()
	for _, f := range n.Files {
		if f.Path == path {
			return f.Content
		}
	}
	t.Fatalf("%s has no %s", n.Name, path)
	return ""
}

type pod struct {
	Spec struct {
		HostNetwork bool
		Containers  []struct {
			Command []string
			Args    []string
			Ports   []struct{ HostPort int }
		}
	}
}

// flags returns the flags of a static pod of the control plane.
func flags(t *testing.T, p *Plan, name string) map[string]string {
	t.Helper()
	path := "/etc/kubernetes/manifests/" + name + ".yaml"
	c := decode[pod](t, name, fileOf(t, p.Nodes[0], path)).Spec.Containers
	if len(c) != 1 {
		t.Fatalf("%s has %d containers", name, len(c))
	}
	if len(c[0].Ports) > 0 {
		t.Errorf("%s asks for ports: %v", name, c[0].Ports)
	}
	out := map[string]string{}
	for _, arg := range append(c[0].Command, c[0].Args...) {
		if k, v, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "="); ok {
			out[k] = v
		}
	}
	return out
}

func want(t *testing.T, name string, got map[string]string, wants map[string]string) {
	t.Helper()
	for k, v := range wants {
		if g, ok := got[k]; !ok && v != "" || g != v {
			t.Errorf("%s: --%s is %q, want %q", name, k, g, v)
		}
	}
}

// TestControlPlaneListens: etcd is reached with a client certificate, through
// loopback or the node's own address, its metrics through loopback alone; the
// controller manager and the scheduler are reached through loopback alone.
func TestControlPlaneListens(t *testing.T) {
	t.Parallel()
	p := listenPlan(t)
	ip := p.Nodes[0].IP.String()

	etcd := flags(t, p, "etcd")
	want(t, "etcd", etcd, map[string]string{
		"client-cert-auth": "true", "peer-client-cert-auth": "true",
		"trusted-ca-file": "/etc/kubernetes/pki/etcd/ca.crt", "peer-trusted-ca-file": "/etc/kubernetes/pki/etcd/ca.crt",
	})
	for flag, allowed := range map[string][]string{
		"listen-client-urls": {"https://127.0.0.1", "https://" + ip}, "listen-peer-urls": {"https://" + ip}, "listen-metrics-urls": {"http://127.0.0.1"},
	} {
		if etcd[flag] == "" {
			t.Errorf("etcd: --%s is missing: its default may be every address", flag)
		}
		for _, s := range strings.Split(etcd[flag], ",") {
			u, err := url.Parse(s)
			if err != nil || !strings.Contains(strings.Join(allowed, " ")+" ", u.Scheme+"://"+u.Hostname()+" ") {
				t.Errorf("etcd: --%s has %q (%v), want only %v", flag, s, err, allowed)
			}
		}
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		want(t, name, flags(t, p, name), map[string]string{"bind-address": "127.0.0.1"})
	}
	// The API is for everybody in the cluster, who have to say who they are.
	want(t, "kube-apiserver", flags(t, p, "kube-apiserver"), map[string]string{
		"secure-port": "6443", "authorization-mode": "Node,RBAC", "client-ca-file": "/etc/kubernetes/pki/ca.crt", "insecure-port": "", "token-auth-file": "",
	})
	// What kubeadm would render again from its own configuration must not open more.
	for _, a := range p.Addons {
		if strings.Contains(a.Manifest, "bind-address") {
			t.Errorf("add-on %s sets a bind-address", a.Name)
		}
	}
}

// TestKubeletListens: the kubelet answers nobody without a client certificate
// or token that the API server allows, has no read-only port, and its health is for the node alone.
func TestKubeletListens(t *testing.T) {
	t.Parallel()
	type kubelet struct {
		ReadOnlyPort       *int
		HealthzBindAddress string
		Authentication     struct {
			Anonymous, Webhook struct{ Enabled *bool }
			X509               struct{ ClientCAFile string }
		}
		Authorization struct{ Mode string }
	}
	p := listenPlan(t)
	docs := map[string]string{}
	for _, n := range p.Nodes {
		docs[n.Name] = fileOf(t, n, kubeletDir+"/config.yaml")
	}
	for _, d := range objects(t, p, "ConfigMap", "kubelet-config") {
		docs["ConfigMap kubelet-config"] = d.Data["kubelet"]
	}
	if len(docs) != 3 {
		t.Fatalf("found %d kubelet configurations", len(docs))
	}
	for name, doc := range docs {
		k := decode[kubelet](t, name, doc)
		if k.ReadOnlyPort != nil && *k.ReadOnlyPort != 0 { // 0 is the default of the configuration file
			t.Errorf("%s: read-only port %d", name, *k.ReadOnlyPort)
		}
		if a := k.Authentication; a.Anonymous.Enabled == nil || *a.Anonymous.Enabled || a.Webhook.Enabled == nil || !*a.Webhook.Enabled ||
			a.X509.ClientCAFile != ClusterCAFile || k.Authorization.Mode != "Webhook" {
			t.Errorf("%s: who may ask is not checked:\n%s", name, doc)
		}
		if k.HealthzBindAddress != "127.0.0.1" {
			t.Errorf("%s: healthzBindAddress %q", name, k.HealthzBindAddress)
		}
	}
	for _, n := range p.Nodes {
		for _, flag := range []string{"read-only-port", "anonymous-auth", "authorization-mode", "address="} {
			if args := fileOf(t, n, kubeletDir+"/kubeadm-flags.env"); strings.Contains(args, "--"+flag) {
				t.Errorf("%s: a flag overrides the configuration: %s", n.Name, args)
			}
		}
	}
}

type clusterObject struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct{ Template pod }
}

// objects returns the objects of all add-ons of a kind and, unless it is "", a name.
func objects(t *testing.T, p *Plan, kind, name string) []clusterObject {
	t.Helper()
	var out []clusterObject
	for _, a := range p.Addons {
		for _, doc := range strings.Split(a.Manifest, "\n---\n") {
			if o := decode[struct{ Kind string }](t, a.Name, doc); o.Kind != kind {
				continue
			}
			if o := decode[clusterObject](t, a.Name, doc); name == "" || o.Metadata.Name == name {
				out = append(out, o)
			}
		}
	}
	return out
}

// TestAddonsListen: kube-proxy's metrics and Flannel's health are for their
// node alone. kube-proxy's health is for the node's network too, as the
// kubelet and load balancers ask for it there, and says nothing else. No pod
// opens a port of a node.
func TestAddonsListen(t *testing.T) {
	t.Parallel()
	p := listenPlan(t)
	type proxy struct{ MetricsBindAddress, HealthzBindAddress string }
	found := objects(t, p, "ConfigMap", "kube-proxy")
	if len(found) != 1 {
		t.Fatalf("%d ConfigMaps of kube-proxy", len(found))
	}
	got := decode[proxy](t, "kube-proxy", found[0].Data["config.conf"])
	if want := (proxy{"127.0.0.1:10249", "0.0.0.0:10256"}); got != want {
		t.Errorf("kube-proxy listens on %+v, want %+v", got, want)
	}
	daemons := objects(t, p, "DaemonSet", "")
	if len(daemons) != 2 {
		t.Fatalf("%d DaemonSets, want kube-proxy and flannel", len(daemons))
	}
	for _, o := range append(daemons, objects(t, p, "Deployment", "")...) {
		if len(o.Spec.Template.Spec.Containers) == 0 {
			t.Errorf("%s has no containers", o.Metadata.Name)
		}
		for _, c := range o.Spec.Template.Spec.Containers {
			for _, port := range c.Ports {
				if port.HostPort != 0 {
					t.Errorf("%s takes port %d of its node", o.Metadata.Name, port.HostPort)
				}
			}
			args := strings.Join(append(c.Command, c.Args...), " ") + " "
			if o.Metadata.Name == "kube-flannel-ds" && !strings.Contains(args, "--healthz-ip=127.0.0.1 ") {
				t.Errorf("flannel's health: %s", args)
			}
		}
		if o.Kind == "Deployment" && o.Spec.Template.Spec.HostNetwork {
			t.Errorf("%s is in its node's network", o.Metadata.Name)
		}
	}
}

// TestPublished: of all nodes the API alone is reached from the host, at the
// configured address; one that others can reach is warned of.
func TestPublished(t *testing.T) {
	t.Parallel()
	for addr, warns := range map[string]bool{"127.0.0.1": false, "127.8.9.1": false, "0.0.0.0": true, "192.0.2.7": true} {
		c := testConfig(config.Node{Role: RoleControlPlane}, config.Node{Role: RoleWorker, Count: 2})
		c.Networking.APIServerAddress = addr
		p, err := Make(c, testFacts("cpu", "memory", "pids"))
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range p.Nodes {
			switch ports := n.Container.Ports; {
			case i > 0 && len(ports) > 0:
				t.Errorf("%s publishes %v", n.Name, ports)
			case i == 0 && (len(ports) != 1 || ports[0].HostIP != netip.MustParseAddr(addr) || ports[0].ContainerPort != APIPort):
				t.Errorf("%s publishes %v, want the API at %s", n.Name, ports, addr)
			}
		}
		warnings := strings.Join(p.Warnings, "\n")
		if got := strings.Contains(warnings, "networking.apiServerAddress") && strings.Contains(warnings, addr); got != warns || !warns && warnings != "" {
			t.Errorf("%s: warnings %q, want one of the address: %v", addr, p.Warnings, warns)
		}
	}
}
