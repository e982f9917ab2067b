// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

const clusterDoc = `
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.3
apiServer: {certSANs: [demo-control-plane, 127.0.0.1], extraArgs: [{name: feature-gates, value: A=true}]}
controllerManager: {extraArgs: [{name: leader-elect, value: "false"}]}
scheduler: {extraArgs: [{name: leader-elect, value: "false"}]}
etcd: {local: {dataDir: /var/lib/etcd, imageTag: v0, extraArgs: [{name: unsafe-no-fsync, value: "true"}]}}
dns: {imageTag: v0}
proxy: {}
networking: {dnsDomain: cluster.local, podSubnet: "10.244.0.0/16,fd00::/56", serviceSubnet: 10.96.0.0/16}
`

const initDoc = `
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  name: demo-control-plane
  criSocket: unix:///run/containerd/containerd.sock
  taints: []
  kubeletExtraArgs: [{name: node-ip, value: 10.0.0.2}, {name: node-labels, value: a=b}]
`

const kubeletDoc = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
featureGates: {KubeletInUserNamespace: true}
tlsCertFile: /x.crt
tlsPrivateKeyFile: /x.key
`

const proxyDoc = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
conntrack: {maxPerCore: 0}
`

func pods(t *testing.T) []string {
	t.Helper()
	var out []string
	for name, flags := range map[string]string{
		"kube-apiserver": "--secure-port=6443, --authorization-mode=Node, --v=1", "kube-scheduler": "--bind-address=127.0.0.1, --leader-elect=false",
		"kube-controller-manager": "--leader-elect=false", "etcd": "--listen-metrics-urls=http://127.0.0.1:2381, --unsafe-no-fsync=true",
	} {
		out = append(out, "metadata: {name: "+name+"}\nspec: {containers: [{command: [await, "+name+", "+flags+"], livenessProbe: {httpGet: {host: 127.0.0.1, port: 1}}}], volumes: [{name: certs}]}\n")
	}
	return out
}

func node(t *testing.T) *Config {
	t.Helper()
	c, err := New([]string{clusterDoc, initDoc, kubeletDoc, proxyDoc}, pods(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func merge(t *testing.T, kind, text string) config.KubeadmPatch {
	t.Helper()
	doc, err := patch.YAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return config.KubeadmPatch{Kind: kind, Merge: doc}
}

func json(kind, version string, operations ...config.PatchOperation) config.KubeadmPatch {
	return config.KubeadmPatch{Kind: kind, APIVersion: version, JSON6902: operations}
}

// command returns the command of a static pod after patches.
func command(t *testing.T, c *Config, name string) string {
	t.Helper()
	for _, text := range pods(t) {
		if !strings.Contains(text, "name: "+name+"}") {
			continue
		}
		out, err := c.Pod(text)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePod(out)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(p.command(), " ")
	}
	t.Fatalf("no pod %s", name)
	return ""
}

func TestExtraArgs(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]config.KubeadmPatch{
		"a list":             merge(t, config.ClusterConfiguration, `{apiServer: {extraArgs: [{name: v, value: "4"}, {name: feature-gates, value: "B=false"}]}}`),
		"a mapping":          merge(t, config.ClusterConfiguration, `{apiServer: {extraArgs: {v: 4, feature-gates: "B=false"}}}`),
		"a list, JSON":       json(config.ClusterConfiguration, "", config.PatchOperation{Op: "add", Path: "/apiServer/extraArgs/-", Value: map[string]any{"name": "v", "value": "4"}}, config.PatchOperation{Op: "replace", Path: "/apiServer/extraArgs/0/value", Value: "A=true,B=false"}),
		"a mapping, JSON":    json(config.ClusterConfiguration, config.KubeadmV1Beta3, config.PatchOperation{Op: "add", Path: "/apiServer/extraArgs/v", Value: "4"}, config.PatchOperation{Op: "replace", Path: "/apiServer/extraArgs/feature-gates", Value: "A=true,B=false"}),
		"a mapping, v1beta2": json(config.ClusterConfiguration, config.KubeadmV1Beta2, config.PatchOperation{Op: "add", Path: "/apiServer/extraArgs", Value: map[string]any{"v": "4", "feature-gates": "A=true,B=false"}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := node(t)
			if errs := c.Patch("p", []config.KubeadmPatch{p}); len(errs) > 0 {
				t.Fatal(errs)
			}
			if got, want := command(t, c, "kube-apiserver"), "await kube-apiserver --authorization-mode=Node --feature-gates=A=true,B=false --secure-port=6443 --v=4"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if got, want := command(t, c, "kube-scheduler"), "await kube-scheduler --bind-address=127.0.0.1 --leader-elect=false"; got != want {
				t.Errorf("another component: got %s, want %s", got, want)
			}
		})
	}
}

func TestArgsAreTakenOutAndRepeated(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{
		merge(t, config.ClusterConfiguration, `{scheduler: {extraArgs: [{name: leader-elect, value: null}, {name: x, value: "1"}, {name: x, value: "2"}]}}`),
		merge(t, config.ClusterConfiguration, `{apiServer: {extraArgs: {authorization-config: /etc/a.yaml}}, controllerManager: {extraArgs: null}}`),
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for name, want := range map[string]string{
		"kube-scheduler":          "await kube-scheduler --bind-address=127.0.0.1 --x=1 --x=2",
		"kube-controller-manager": "await kube-controller-manager",
		"kube-apiserver":          "await kube-apiserver --authorization-config=/etc/a.yaml --feature-gates=A=true --secure-port=6443 --v=1",
	} {
		if got := command(t, c, name); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestVolumesEnvsAndProbes(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{merge(t, config.ClusterConfiguration, `
scheduler:
  extraArgs: {bind-address: 0.0.0.0, secure-port: "10260"}
  extraVolumes: [{name: more, hostPath: /a, mountPath: /b, readOnly: true, pathType: File}, {name: rw, hostPath: /c, mountPath: /d}]
  extraEnvs: [{name: A, value: b}]
etcd: {local: {extraArgs: {listen-metrics-urls: "http://192.0.2.1:9999"}}}
`)})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, text := range pods(t) {
		out, err := c.Pod(text)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePod(out)
		if err != nil {
			t.Fatal(err)
		}
		switch p.name() {
		case "kube-scheduler":
			want := map[string]any{
				"env": []any{map[string]any{"name": "A", "value": "b"}},
				"volumeMounts": []any{
					map[string]any{"name": "more", "mountPath": "/b", "readOnly": true}, map[string]any{"name": "rw", "mountPath": "/d"},
				},
				"livenessProbe": map[string]any{"httpGet": map[string]any{"host": "127.0.0.1", "port": int64(10260)}},
			}
			delete(p.container, "command")
			if diff := cmp.Diff(want, p.container); diff != "" {
				t.Errorf("container (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]any{
				map[string]any{"name": "certs"},
				map[string]any{"name": "more", "hostPath": map[string]any{"path": "/a", "type": "File"}},
				map[string]any{"name": "rw", "hostPath": map[string]any{"path": "/c"}},
			}, p.spec["volumes"]); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
		case "etcd":
			if got := patch.At(p.container, "livenessProbe", "httpGet"); !cmp.Equal(got, map[string]any{"host": "192.0.2.1", "port": int64(9999)}) {
				t.Errorf("etcd's probe asks %v", got)
			}
		case "kube-controller-manager":
			if out != text {
				t.Errorf("%s was touched:\n%s", p.name(), out)
			}
		}
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{
		merge(t, config.InitConfiguration, `
nodeRegistration:
  kubeletExtraArgs: {node-labels: "ingress-ready=true,c=", v: "2", register-with-taints: "k=v:NoExecute,gpu:NoSchedule"}
  taints: [{key: gpu, effect: NoSchedule}]
  ignorePreflightErrors: [all]
skipPhases: [addon/kube-proxy]
timeouts: {kubeletHealthCheck: 5m}
`),
		json(config.InitConfiguration, "", config.PatchOperation{Op: "add", Path: "/nodeRegistration/taints/-", Value: map[string]any{"key": "x", "value": "y", "effect": "PreferNoSchedule"}}),
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got, err := c.Registration()
	if err != nil {
		t.Fatal(err)
	}
	want := Registration{
		Labels:      map[string]string{"a": "b", "ingress-ready": "true", "c": ""},
		Taints:      []config.Taint{{Key: "gpu", Effect: "NoSchedule"}, {Key: "x", Value: "y", Effect: "PreferNoSchedule"}, {Key: "k", Value: "v", Effect: "NoExecute"}},
		KubeletArgs: []Arg{{"node-ip", "10.0.0.2"}, {"v", "2"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.KubeProxy() || !c.CoreDNS() {
		t.Errorf("kube-proxy %v, CoreDNS %v", c.KubeProxy(), c.CoreDNS())
	}
	var notes []string
	for _, n := range c.Notes() {
		notes = append(notes, n.Error())
	}
	if text := strings.Join(notes, "\n"); len(notes) != 2 || !strings.Contains(text, "p[0].merge.timeouts.kubeletHealthCheck: InitConfiguration.timeouts.kubeletHealthCheck has no effect: ") ||
		!strings.Contains(text, "ignorePreflightErrors has no effect: ") {
		t.Errorf("notes:\n%s", text)
	}
}

func TestKubeletAndCertificates(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{
		merge(t, config.KubeletConfiguration, `{serverTLSBootstrap: true, maxPods: 50, featureGates: {Other: true}, metadata: {name: config}}`),
		merge(t, config.ClusterConfiguration, `{apiServer: {certSANs: [example.test, 127.0.0.1]}, etcd: {local: {serverCertSANs: [a], peerCertSANs: [b], dataDir: /tmp/etcd/}}, networking: {dnsDomain: example.test}}`),
		merge(t, config.KubeProxyConfiguration, `{mode: nftables, conntrack: {maxPerCore: 0}}`),
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	kubelet, err := c.Kubelet()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"maxPods: 50": true, "Other: true": true, "KubeletInUserNamespace: true": true, "tls": false} {
		if strings.Contains(kubelet, text) != want {
			t.Errorf("%q in the kubelet's configuration, want %v:\n%s", text, want, kubelet)
		}
	}
	if diff := cmp.Diff([]string{"demo-control-plane", "127.0.0.1", "example.test"}, c.CertSANs()); diff != "" {
		t.Error(diff)
	}
	server, peer := c.EtcdSANs()
	if got := strings.Join(append(server, peer...), ","); got != "a,b" || c.EtcdDataDir() != "/tmp/etcd" || c.DNSDomain() != "example.test" {
		t.Errorf("%s, %s, %s", got, c.EtcdDataDir(), c.DNSDomain())
	}
}

// Whatever cannot be had is an error that names patch and field and says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, patch, at, why string }{
		{config.ClusterConfiguration, `{networking: {podSubnet: 10.0.0.0/16}}`, "merge.networking.podSubnet", "set by networking.podSubnet"},
		{config.ClusterConfiguration, `{kubernetesVersion: v1.30.0}`, "merge.kubernetesVersion", "node image"},
		{config.ClusterConfiguration, `{etcd: {external: {endpoints: [a]}}}`, "merge.etcd.external.endpoints", "rk runs etcd"},
		{config.ClusterConfiguration, `{etcd: {local: {imageTag: v9}}}`, "merge.etcd.local.imageTag", "images"},
		{config.ClusterConfiguration, `{featureGates: {A: true}}`, "merge.featureGates.A", "kubeadm's own"},
		{config.ClusterConfiguration, `{apiServer: {certSAN: [a]}}`, "merge.apiServer.certSAN", "known here: certSANs, extraArgs"},
		{config.ClusterConfiguration, `{apiserver: {certSANs: [a]}}`, "merge.apiserver.certSANs", "did you mean apiServer.certSANs"},
		{config.ClusterConfiguration, `{apiServer: {certSANs: a}}`, "merge.apiServer.certSANs", "list of names"},
		{config.ClusterConfiguration, `{apiServer: {extraArgs: a}}`, "merge.apiServer.extraArgs", "list of name and value"},
		{config.ClusterConfiguration, `{apiServer: {extraArgs: [{value: a}]}}`, "merge.apiServer.extraArgs", "list of name and value"},
		{config.ClusterConfiguration, `{apiServer: {extraArgs: {secure-port: "7443"}}}`, "merge.apiServer.extraArgs.secure-port", "fit together"},
		{config.ClusterConfiguration, `{apiServer: {extraArgs: {"--v": "4"}}}`, "merge.apiServer.extraArgs.--v", "without dashes"},
		{config.ClusterConfiguration, `{apiServer: {extraArgs: {feature-gates: KubeletInUserNamespace=false}}}`, "merge.apiServer.extraArgs.feature-gates", "user namespace"},
		{config.ClusterConfiguration, `{apiServer: {extraVolumes: [{name: a, hostPath: b, mountPath: /c}]}}`, "merge.apiServer.extraVolumes", "not absolute"},
		{config.ClusterConfiguration, `{apiServer: {extraVolumes: [{name: a, hostPath: /b}]}}`, "merge.apiServer.extraVolumes", "each with name, hostPath and mountPath"},
		{config.ClusterConfiguration, `{scheduler: {extraEnvs: [{value: a}]}}`, "merge.scheduler.extraEnvs", "environment variables"},
		{config.ClusterConfiguration, `{etcd: {local: {dataDir: etcd}}}`, "merge.etcd.local.dataDir", "absolute path"},
		{config.ClusterConfiguration, `{networking: {dnsDomain: "a b"}}`, "merge.networking.dnsDomain", "domain name"},
		{config.ClusterConfiguration, `{proxy: {disabled: "yes"}}`, "merge.proxy.disabled", "true or false"},
		{config.ClusterConfiguration, `{kind: Other}`, "merge.kind", "cannot be changed"},
		{config.InitConfiguration, `{nodeRegistration: {name: other}}`, "merge.nodeRegistration.name", "set name of the cluster"},
		{config.InitConfiguration, `{nodeRegistration: {taints: [{key: a, effect: Never}]}}`, "merge.nodeRegistration.taints", "NoSchedule"},
		{config.InitConfiguration, `{nodeRegistration: {kubeletExtraArgs: {node-ip: 10.0.0.3}}}`, "merge.nodeRegistration.kubeletExtraArgs.node-ip", "fit together"},
		{config.InitConfiguration, `{nodeRegistration: {kubeletExtraArgs: {x: "a b"}}}`, "merge.nodeRegistration.kubeletExtraArgs.x", "spaces"},
		{config.InitConfiguration, `{localAPIEndpoint: {bindPort: 7443}}`, "merge.localAPIEndpoint.bindPort", "is 6443"},
		{config.InitConfiguration, `{skipPhases: [certs]}`, "merge.skipPhases", "cannot be skipped"},
		{config.InitConfiguration, `{bootstrapTokens: [{token: x}]}`, "merge.bootstrapTokens", "need no tokens"},
		{config.InitConfiguration, `{patches: {directory: /x}}`, "merge.patches.directory", "kubeadmPatches"},
		{config.KubeletConfiguration, `{cgroupDriver: cgroupfs}`, "merge.cgroupDriver", "delegated"},
		{config.KubeletConfiguration, `{failSwapOn: true}`, "merge.failSwapOn", "swap belongs to the host"},
		{config.KubeletConfiguration, `{featureGates: {KubeletInUserNamespace: false}}`, "merge.featureGates.KubeletInUserNamespace", "user namespace"},
		{config.KubeletConfiguration, `{protectKernelDefaults: true}`, "merge.protectKernelDefaults", "host"},
		{config.KubeProxyConfiguration, `{mode: ipvs}`, "merge.mode", "IPVS"},
		{config.KubeProxyConfiguration, `{conntrack: {maxPerCore: 100}}`, "merge.conntrack.maxPerCore", "connection tracking"},
	} {
		t.Run(c.kind+c.patch, func(t *testing.T) {
			t.Parallel()
			errs := node(t).Patch("p", []config.KubeadmPatch{merge(t, c.kind, c.patch)})
			if len(errs) != 1 || errs[0].Path != "p[0]."+c.at || !strings.Contains(errs[0].Message, c.why) {
				t.Errorf("got %v, want p[0].%s with %q", errs, c.at, c.why)
			}
		})
	}
	for _, o := range []config.PatchOperation{
		{Op: "replace", Path: "/networking/podSubnet", Value: "10.0.0.0/16"}, {Op: "remove", Path: "/none"}, {Op: "replace", Path: "/apiServer/extraArgs", Value: "x"},
	} {
		if errs := node(t).Patch("p", []config.KubeadmPatch{json(config.ClusterConfiguration, "", o)}); len(errs) != 1 || errs[0].Path != "p[0].json6902" {
			t.Errorf("%+v: %v", o, errs)
		}
	}
}

// What kubelet and kube-proxy do not know is told, and left to them.
func TestUnfamiliarFields(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{
		merge(t, config.KubeletConfiguration, `{maxPod: 3, maxpods: 4, somethingElse: {a: 1}, maxPods: 5}`), merge(t, config.KubeProxyConfiguration, `{iptable: {}, iptables: {}}`),
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var got []string
	for _, n := range c.Notes() {
		_, hint, _ := strings.Cut(n.Message, "does not know")
		got = append(got, n.Path+hint)
	}
	want := []string{
		"p[0].merge.maxPod; did you mean maxPods?", "p[0].merge.maxpods; did you mean maxPods?", "p[0].merge.somethingElse.a", "p[1].merge.iptable; did you mean iptables?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if doc, err := c.Kubelet(); err != nil || !strings.Contains(doc, "maxPod: 3") {
		t.Errorf("%v\n%s", err, doc)
	}
	if errs := c.Patch("p", []config.KubeadmPatch{merge(t, config.KubeletConfiguration, `{featureGates: all}`)}); len(errs) != 1 || !strings.Contains(errs[0].Message, "mapping of fields") {
		t.Errorf("a scalar in place of a mapping: %v", errs)
	}
}

// What says what is so anyway is no error, and changes nothing.
func TestAsItIs(t *testing.T) {
	t.Parallel()
	c := node(t)
	errs := c.Patch("p", []config.KubeadmPatch{
		merge(t, config.ClusterConfiguration, `
metadata: {name: config}
apiServer: {extraArgs: {secure-port: "6443"}}
networking: {podSubnet: "10.244.0.0/16, fd00::/56", serviceSubnet: 10.96.0.0/16}
dns: {type: CoreDNS}
`),
		merge(t, config.InitConfiguration, `{nodeRegistration: {name: demo-control-plane, criSocket: /run/containerd/containerd.sock, kubeletExtraArgs: {fail-swap-on: "false"}}, localAPIEndpoint: {bindPort: 6443}}`),
		merge(t, config.KubeletConfiguration, `{failSwapOn: false, featureGates: {KubeletInUserNamespace: true}, cgroupDriver: systemd}`),
		merge(t, config.KubeProxyConfiguration, `{conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s}}`),
		merge(t, config.JoinConfiguration, `{nodeRegistration: {name: of another node}}`),
	})
	if len(errs) > 0 || len(c.Notes()) > 0 {
		t.Errorf("errors %v, notes %v", errs, c.Notes())
	}
	if got, want := command(t, c, "kube-apiserver"), "await kube-apiserver --authorization-mode=Node --feature-gates=A=true --secure-port=6443 --v=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if doc, err := c.Document(config.ClusterConfiguration); err != nil || strings.Contains(doc, "CoreDNS") || strings.Contains(doc, "metadata") {
		t.Errorf("%v, what the present version has not is still there:\n%s", err, doc)
	}
}

// Without delegated controllers, rk sets what depends on them.
func TestNoControllers(t *testing.T) {
	t.Parallel()
	const none = "kind: KubeletConfiguration\ncgroupsPerQOS: false\nenforceNodeAllocatable: [none]\n"
	for doc, want := range map[string]int{none: 2, kubeletDoc: 0} {
		c, err := New([]string{doc}, nil)
		if err != nil {
			t.Fatal(err)
		}
		errs := c.Patch("p", []config.KubeadmPatch{merge(t, config.KubeletConfiguration, `{cgroupsPerQOS: true, enforceNodeAllocatable: [pods]}`)})
		if len(errs) != want {
			t.Errorf("%d errors, want %d: %v", len(errs), want, errs)
		}
	}
}

func TestNewRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, docs := range [][]string{{"kind: ResetConfiguration"}, {kubeletDoc, kubeletDoc}, {"{"}} {
		if _, err := New(docs, nil); err == nil {
			t.Errorf("%q is accepted", docs)
		}
	}
	if _, err := New(nil, []string{"spec: {containers: []}"}); err == nil {
		t.Error("a pod without container is accepted")
	}
}
