// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

const testImage = "localhost/rk-node:v1.36.3"

// testPlan plans a cluster whose API never serves.
func testPlan(t *testing.T, name string, workers int) *plan.Plan {
	t.Helper()
	return testPlanAt(t, name, workers, "10.111.0.0/24", 1)
}

var testNetworking = config.Networking{
	PodSubnet: "10.244.0.0/16", ServiceSubnet: "10.96.0.0/16", APIServerAddress: "127.0.0.1", KubeProxyMode: "iptables",
}

func testPlanAt(t *testing.T, name string, workers int, subnet string, port uint16) *plan.Plan {
	t.Helper()
	c := config.Cluster{Name: name, Nodes: []config.Node{{Role: plan.RoleControlPlane}}, Networking: testNetworking}
	if workers > 0 {
		c.Nodes = append(c.Nodes, config.Node{Role: plan.RoleWorker, Count: workers})
	}
	return planOf(t, c, subnet, port)
}

func planOf(t *testing.T, c config.Cluster, subnet string, port uint16) *plan.Plan {
	t.Helper()
	images := map[string]string{}
	for _, n := range []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
		"flannel", "coredns", "pause", "local-path-provisioner", "busybox",
	} {
		images[n] = "localhost/rk/" + n + ":v0"
	}
	p, err := plan.Make(c, plan.Facts{
		Engine: engine.Info{CgroupVersion: 2}, Subnet: netip.MustParsePrefix(subnet), APIPort: port,
		Image: plan.ImageFacts{Ref: testImage, KubernetesVersion: "v1.36.3", Images: images},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// cancelAt is a reporter that cancels when a step starts.
type cancelAt struct {
	step   string
	cancel context.CancelFunc
}

func (r cancelAt) Report(e step.Event) {
	if e.Step == r.step && e.State == step.Started {
		r.cancel()
	}
}

// options has a home of its own, and cancels when the control plane is waited for: nothing serves there.
func options(t *testing.T) (context.Context, CreateOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	home := t.TempDir()
	return ctx, CreateOptions{Reporter: cancelAt{"api", cancel}, Env: func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}}
}

// TestFilesAreInBeforeStart: a node boots with everything that it needs.
func TestFilesAreInBeforeStart(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	missing := map[string][]string{}
	want := map[string][]string{
		"demo-control-plane": {
			"/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/pki/etcd/server.crt",
			"/etc/kubernetes/admin.conf", "/etc/kubernetes/kubelet.conf", "/etc/rk/var/lib/kubelet/config.yaml", "/etc/rk/node.env",
		},
		"demo-worker": {"/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/etc/rk/node.env"},
	}
	f.Before(func(_ context.Context, c enginetest.Call) error {
		if c.Op == "StartContainer" {
			for _, name := range want[c.Target] {
				if _, _, err := f.File(c.Target, name); err != nil {
					missing[c.Target] = append(missing[c.Target], name)
				}
			}
			if _, _, err := f.File("demo-worker", "/etc/kubernetes/pki/ca.key"); err == nil {
				t.Error("a worker has the CA's key")
			}
		}
		return nil
	})
	ctx, o := options(t)
	o.Retain = true
	if _, err := Create(ctx, f, testPlan(t, "demo", 1), o); err == nil {
		t.Fatal("no error")
	}
	if len(missing) > 0 {
		t.Errorf("not there at the start: %v", missing)
	}
	h, _, err := f.File("demo-control-plane", "/etc/kubernetes/admin.conf")
	if err != nil || h.Mode != 0o600 {
		t.Errorf("admin.conf: mode %o, %v", h.Mode, err)
	}
	if f.Empty() {
		t.Error("Retain did not keep the nodes")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*testing.T, *enginetest.Fake)
		want    *problem.Problem
	}{
		"the cluster exists": {func(t *testing.T, f *enginetest.Fake) {
			ctx, o := options(t)
			o.Retain = true
			if _, err := Create(ctx, f, testPlan(t, "demo", 0), o); err == nil {
				t.Fatal("no error")
			}
		}, problem.ClusterExists},
		"a container of that name is somebody else's": {func(t *testing.T, f *enginetest.Fake) {
			if _, err := f.CreateContainer(t.Context(), engine.ContainerSpec{Name: "demo-control-plane", Image: testImage}); err != nil {
				t.Fatal(err)
			}
		}, problem.ClusterExists},
		"storage without a container has that name": {func(_ *testing.T, f *enginetest.Fake) {
			f.Fail("CreateContainer", "", fmt.Errorf("%w: %w", engine.ErrStorageLeft, engine.ErrConflict))
		}, problem.StorageLeft},
		"the subnet is taken": {func(t *testing.T, f *enginetest.Fake) {
			if err := f.CreateNetwork(t.Context(), engine.NetworkSpec{Name: "x", Subnet: netip.MustParsePrefix("10.111.0.0/24")}); err != nil {
				t.Fatal(err)
			}
		}, problem.SubnetClash},
		"the port is taken": {func(_ *testing.T, f *enginetest.Fake) {
			f.TakePort(netip.MustParseAddrPort("127.0.0.1:1"), "tcp")
		}, problem.PortTaken},
		"the engine is gone": {func(_ *testing.T, f *enginetest.Fake) { f.Fail("", "", engine.ErrUnreachable) }, problem.EngineUnreachable},
		"the disk is full": {func(_ *testing.T, f *enginetest.Fake) {
			f.Fail("CopyIn", "", errors.New("write /etc/x: no space left on device"))
		}, problem.DiskFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := enginetest.NewFake(testImage)
			c.prepare(t, f)
			before := f.Leftovers()
			ctx, o := options(t)
			_, err := Create(ctx, f, testPlan(t, "demo", 0), o)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want.Code)
			}
			if d := cmp.Diff(before, f.Leftovers()); d != "" {
				t.Errorf("the engine changed:\n%s", d)
			}
		})
	}
}

// TestNodeExits: a node whose container ends is the cause, with its last words.
func TestNodeExits(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	f.After(func(ctx context.Context, c enginetest.Call) error {
		if c.Op == "StartContainer" {
			return f.StopContainer(ctx, "demo-control-plane", 0)
		}
		return nil
	})
	_, o := options(t)
	o.Reporter = nil
	_, err := Create(t.Context(), f, testPlan(t, "demo", 0), o)
	if !errors.Is(err, problem.NodeExited) || !strings.Contains(err.Error(), "demo-control-plane") {
		t.Errorf("got %v, want %s", err, problem.NodeExited.Code)
	}
	if !f.Empty() {
		t.Errorf("left: %v", f.Leftovers())
	}
}

// haPlan has three control planes and a worker.
func haPlan(t *testing.T) *plan.Plan {
	t.Helper()
	return planOf(t, config.Cluster{Name: "demo", Nodes: []config.Node{
		{Role: plan.RoleControlPlane, Count: 3}, {Role: plan.RoleWorker},
	}, Networking: testNetworking}, "10.111.0.0/24", 6443)
}

// TestLoadBalancer: it is made with the nodes, has the CA and no key, carries the API's address, and goes with the cluster.
func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	ctx, o := options(t)
	o.Retain = true
	if _, err := Create(ctx, f, haPlan(t), o); err == nil { // no API serves
		t.Fatal("no error")
	}
	c, err := Find(t.Context(), f, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if c.APIServer != "127.0.0.1:6443" || c.Status != StatusRunning || len(c.Nodes) != 5 {
		t.Errorf("%+v", c)
	}
	const name = "demo-external-load-balancer"
	files, err := f.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	for file := range files {
		if strings.Contains(file, ".key") || strings.Contains(file, "admin.conf") {
			t.Errorf("it has %s", file)
		}
	}
	if files["/etc/rk/haproxy.cfg"] == "" || files["/etc/kubernetes/pki/ca.crt"] == "" {
		t.Errorf("it has %v", slices.Sorted(maps.Keys(files)))
	}
	// Its log is what its container printed.
	var out bytes.Buffer
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Name == name })
	if err := NodeLogs(t.Context(), f, c.Nodes[i:i+1], LogOptions{Tail: -1}, &out); err != nil {
		t.Error(err)
	}
	if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil || !f.Empty() {
		t.Errorf("left %v, %v", f.Leftovers(), err)
	}
}

func TestListAndDelete(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	for _, name := range []string{"b", "a"} {
		ctx, o := options(t)
		o.Retain = true
		p := testPlan(t, name, 1)
		if name == "b" {
			p.Network.Subnet = netip.MustParsePrefix("10.112.0.0/24")
			for i := range p.Nodes {
				p.Nodes[i].Container.IP = netip.AddrFrom4([4]byte{10, 112, 0, byte(i + 2)})
				p.Nodes[i].Container.Ports = nil
			}
		}
		if _, err := Create(ctx, f, p, o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if err := f.CreateNetwork(t.Context(), engine.NetworkSpec{
		Name: "rk-c", Subnet: netip.MustParsePrefix("10.113.0.0/24"), Labels: map[string]string{plan.LabelCluster: "c"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := f.StopContainer(t.Context(), "b-worker", 0); err != nil {
		t.Fatal(err)
	}
	list, err := List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, c.Name+" "+c.Status)
	}
	if want := []string{"a running", "b partly running", "c incomplete"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if list[0].APIServer != "127.0.0.1:1" || list[0].Nodes[0].Name != "a-control-plane" || list[0].KubernetesVersion != "v1.36.3" {
		t.Errorf("details: %+v", list[0])
	}

	// A delete that is cut short can be repeated.
	boom := errors.New("boom")
	f.Fail("RemoveNetwork", "", boom)
	_, created := options(t)
	o := DeleteOptions{Env: created.Env}
	if err := Delete(t.Context(), f, "a", o); !errors.Is(err, problem.LeftOver) || !errors.Is(err, boom) {
		t.Errorf("got %v, want %s", err, problem.LeftOver.Code)
	}
	f.ClearHooks()
	for _, name := range []string{"a", "b", "c", "never-there"} {
		if err := Delete(t.Context(), f, name, o); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if !f.Empty() {
		t.Errorf("left: %v", f.Leftovers())
	}
}

func TestFindNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	if _, err := Find(t.Context(), f, "x"); !errors.Is(err, problem.ClusterNotFound) || !strings.Contains(err.Error(), "no clusters") {
		t.Errorf("got %v", err)
	}
	ctx, o := options(t)
	o.Retain = true
	_, _ = Create(ctx, f, testPlan(t, "demo", 0), o)
	if _, err := Find(t.Context(), f, "x"); err == nil || !strings.Contains(err.Error(), "there are: demo") {
		t.Errorf("got %v", err)
	}
}

func TestKubeconfigIsUntouchedByAFailure(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	ctx, o := options(t)
	path := filepath.Join(t.TempDir(), "config")
	const before = "apiVersion: v1\nkind: Config\ncurrent-context: other\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Kubeconfig = path
	if _, err := Create(ctx, f, testPlan(t, "demo", 0), o); err == nil {
		t.Fatal("no error")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != before {
		t.Errorf("the kubeconfig changed: %q, %v", after, err)
	}
}
