// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// withRegistry adds a local registry to a plan, as plan.Make does.
func withRegistry(t *testing.T, p *plan.Plan, port uint16) *plan.Plan {
	t.Helper()
	r, err := plan.LocalRegistry(testImage, port)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Network.Subnet.Addr().As4()
	b[3] = 254
	r.Address = netip.AddrFrom4(b)
	n := plan.RegistryNetwork(0)
	p.Registries, p.RegistryNetwork = []plan.Registry{r}, &n
	p.Network.Labels[plan.LabelRegistries] = r.Name()
	return p
}

// registryEngine is a Fake whose registries say that they listen.
func registryEngine() *enginetest.Fake {
	f := enginetest.NewFake(testImage)
	f.InitFunc = func(ctx context.Context, s engine.ContainerSpec, out io.Writer) int {
		if s.Labels[plan.LabelRegistry] != "" {
			_, _ = fmt.Fprintln(out, `level=info msg="listening on [::]:5000"`)
		}
		<-ctx.Done()
		return 0
	}
	return f
}

func registryState(t *testing.T, f *enginetest.Fake) []string {
	t.Helper()
	list, err := Registries(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range list {
		out = append(out, fmt.Sprintf("%s %s %s %v attached to %d", r.Name, r.State, r.Address, r.Clusters, len(f.Attached(r.Name))))
	}
	return out
}

// createRetained creates a cluster up to where its API is waited for, and keeps it.
func createRetained(t *testing.T, f *enginetest.Fake, p *plan.Plan) {
	t.Helper()
	ctx, o := options(t)
	o.Retain = true
	if _, err := Create(ctx, f, p, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a cancelled create", err)
	}
}

// TestRegistryIsShared: clusters share one, it outlives them, and they go without it.
func TestRegistryIsShared(t *testing.T) {
	t.Parallel()
	f := registryEngine()
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(append([]string{}, want...), registryState(t, f)); diff != "" {
			t.Error(diff)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := Delete(t.Context(), f, name, DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil {
			t.Error(err)
		}
	}
	createRetained(t, f, withRegistry(t, testPlanAt(t, "one", 1, "10.111.0.0/24", 1), 5001))
	createRetained(t, f, withRegistry(t, testPlanAt(t, "two", 0, "10.112.0.0/24", 2), 5001))
	expect("rk-registry running localhost:5001 [one two] attached to 2")
	if diff := cmp.Diff(netip.MustParseAddr("10.112.0.254"), f.Attached("rk-registry")["rk-two"], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if err := DeleteRegistry(t.Context(), f, "rk-registry", false); !errors.Is(err, problem.RegistryInUse) || !strings.Contains(err.Error(), "one, two") {
		t.Errorf("got %v", err)
	}
	ctx, o := options(t)
	if _, err := Create(ctx, f, withRegistry(t, testPlanAt(t, "three", 0, "10.113.0.0/24", 3), 5002), o); !errors.Is(err, problem.RegistryDiffers) {
		t.Errorf("got %v", err)
	}
	remove("one")
	expect("rk-registry running localhost:5001 [two] attached to 1")
	if err := f.StopContainer(t.Context(), "rk-registry", time.Second); err != nil {
		t.Error(err)
	}
	createRetained(t, f, withRegistry(t, testPlanAt(t, "one", 0, "10.111.0.0/24", 1), 5001)) // which starts it again
	expect("rk-registry running localhost:5001 [one two] attached to 2")
	remove("one")
	if err := DeleteRegistry(t.Context(), f, "rk-registry", true); err != nil {
		t.Error(err)
	}
	remove("two")
	expect()
	if !f.Empty() {
		t.Errorf("left: %v", f.Leftovers())
	}
	if err := DeleteRegistry(t.Context(), f, "rk-registry", false); !errors.Is(err, problem.RegistryNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRegistryFaults: whatever goes wrong at whichever call, a create leaves nothing,
// and takes nothing from another cluster that uses the same registry.
func TestRegistryFaults(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		prepare := func(t *testing.T) *enginetest.Fake {
			t.Helper()
			f := registryEngine()
			t.Cleanup(func() { // a bubble ends when its goroutines have, and those of containers, too
				f.ClearHooks()
				ctx := context.WithoutCancel(t.Context())
				list, err := f.ListContainers(ctx, nil)
				for _, c := range list {
					err = errors.Join(err, f.RemoveContainer(ctx, c.ID))
				}
				if err != nil {
					t.Error(err)
				}
			})
			if shared {
				createRetained(t, f, withRegistry(t, testPlanAt(t, "other", 0, "10.112.0.0/24", 2), 5001))
			}
			return f
		}
		create := func(t *testing.T, f *enginetest.Fake, inject func(first int, cancel context.CancelFunc)) error {
			t.Helper()
			ctx, o := options(t)
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			inject(len(f.Calls())+1, cancel)
			_, err := Create(ctx, f, withRegistry(t, testPlan(t, "demo", 0), 5001), o)
			return err
		}
		// How many calls there are from the first to that which starts the node.
		var ops []string
		synctest.Test(t, func(t *testing.T) {
			f := prepare(t)
			first := 0
			if err := create(t, f, func(n int, _ context.CancelFunc) { first = n }); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want a cancelled create", err)
			}
			for _, c := range f.Calls()[first-1:] {
				ops = append(ops, c.Op)
				if c.Op == "StartContainer" && c.Target == "demo-control-plane" {
					break
				}
			}
		})
		if !slices.Contains(ops, "ConnectNetwork") {
			t.Fatalf("no registry was attached: %v", ops)
		}
		for i, op := range ops {
			for _, k := range faults {
				t.Run(fmt.Sprintf("%s/%02d-%s/%s", name, i, op, k.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f := prepare(t)
						before := registryState(t, f)
						left := f.Leftovers()
						err := create(t, f, func(first int, cancel context.CancelFunc) { k.inject(f, first+i, cancel) })
						if err == nil {
							t.Fatal("no error")
						}
						f.ClearHooks()
						if k.name == "engine gone" {
							if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil {
								t.Error(err)
							}
							if list := registryState(t, f); !shared && len(list) > 0 {
								if err := DeleteRegistry(t.Context(), f, "rk-registry", false); err != nil {
									t.Error(err)
								}
							}
							if !shared {
								if err := f.RemoveNetwork(t.Context(), plan.RegistryNetworkName); err != nil {
									t.Error(err)
								}
							}
						}
						if diff := cmp.Diff(left, f.Leftovers()); diff != "" {
							t.Errorf("(-before +after)\n%s\n%v", diff, err)
						}
						if diff := cmp.Diff(before, registryState(t, f)); diff != "" {
							t.Errorf("registries (-before +after)\n%s\n%v", diff, err)
						}
					})
				})
			}
		}
	}
}

// TestRegistryThatDoesNotServe is told with its own words, and removed.
func TestRegistryThatDoesNotServe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := enginetest.NewFake(testImage)
		f.InitFunc = func(_ context.Context, _ engine.ContainerSpec, out io.Writer) int {
			_, _ = fmt.Fprintln(out, "panic: no such thing")
			return 1
		}
		r, err := plan.LocalRegistry(testImage, 5001)
		if err != nil {
			t.Fatal(err)
		}
		err = CreateRegistry(t.Context(), f, r, plan.RegistryNetwork(0), step.Tee())
		if !errors.Is(err, problem.RegistryNotServing) || !strings.Contains(err.Error(), "no such thing") {
			t.Errorf("got %v", err)
		}
		if !f.Empty() {
			t.Errorf("left: %v", f.Leftovers())
		}
		f.Fail("StartContainer", "rk-registry", errors.New("crun: executable file `/usr/lib/rk/registry` not found"))
		err = CreateRegistry(t.Context(), f, r, plan.RegistryNetwork(0), step.Tee())
		if p, ok := problem.Of(err); !ok || !errors.Is(err, problem.RegistryNotServing) || !strings.Contains(p.Advice, "rk build node-image") {
			t.Errorf("an older node image: %v", err)
		}
		f.ClearHooks()
		f.TakePort(netip.MustParseAddrPort("127.0.0.1:5001"), "tcp")
		if err := CreateRegistry(t.Context(), f, r, plan.RegistryNetwork(0), step.Tee()); !errors.Is(err, problem.PortTaken) || !strings.Contains(err.Error(), "5001") {
			t.Errorf("got %v", err)
		}
	})
}

// TestRegistrySecrets: credentials of the hosts that are listed, and no others, are in
// files of mode 0600 when a container starts.
func TestRegistrySecrets(t *testing.T) {
	t.Parallel()
	auth := filepath.Join(t.TempDir(), "auth.json")
	write := func(password string) {
		t.Helper()
		text := fmt.Sprintf(`{"auths": {"registry.example.com": {"username": "user", "password": %q}, "other.example.com": {"username": "x", "password": "hunter3"}}}`, password)
		if err := os.WriteFile(auth, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hunter2")
	from := []plan.SecretFrom{{File: auth, Host: "registry.example.com"}}
	p := withRegistry(t, testPlan(t, "demo", 0), 5001)
	p.Registries[0].Secrets = []plan.Secret{{Path: "/etc/rk/registry/login.json", Format: plan.SecretLogin, From: from}}
	p.Nodes[0].Secrets = []plan.Secret{
		{Path: "/etc/rk/var/lib/kubelet/config.json", Format: plan.SecretDockerConfig, From: from},
		{Path: "/etc/containerd/certs.d/x/client.key", Format: plan.SecretCopy, From: []plan.SecretFrom{{File: auth}}},
	}
	f := registryEngine()
	createRetained(t, f, p)
	read := func(container, path string) string {
		t.Helper()
		h, data, err := f.File(container, path)
		if err != nil || h.Mode != 0o600 {
			t.Errorf("%s: mode %o, %v", path, h.Mode, err)
		}
		return string(data)
	}
	var login map[string]string
	if err := json.Unmarshal([]byte(read("rk-registry", "/etc/rk/registry/login.json")), &login); err != nil || login["Username"] != "user" || login["Secret"] != "hunter2" {
		t.Errorf("login %v, %v", login, err)
	}
	if got := read("demo-control-plane", "/etc/rk/var/lib/kubelet/config.json"); !strings.Contains(got, `"auth": "dXNlcjpodW50ZXIy"`) || strings.Contains(got, "other") {
		t.Errorf("config.json: %s", got)
	}
	if got := read("demo-control-plane", "/etc/containerd/certs.d/x/client.key"); !strings.Contains(got, "hunter3") {
		t.Errorf("client.key: %s", got)
	}
	// A registry that is there gets what has changed meanwhile.
	write("changed")
	again := withRegistry(t, testPlanAt(t, "two", 0, "10.112.0.0/24", 2), 5001)
	again.Registries[0].Secrets = p.Registries[0].Secrets
	createRetained(t, f, again)
	if got := read("rk-registry", "/etc/rk/registry/login.json"); !strings.Contains(got, "changed") {
		t.Errorf("login.json: %s", got)
	}
	// What has gone since the plan was made is told.
	if err := os.Remove(auth); err != nil {
		t.Fatal(err)
	}
	third := testPlanAt(t, "three", 0, "10.113.0.0/24", 3)
	third.Nodes[0].Secrets = p.Nodes[0].Secrets
	ctx, o := options(t)
	if _, err := Create(ctx, f, third, o); !errors.Is(err, problem.InvalidConfig) {
		t.Errorf("got %v", err)
	}
}

// TestRegistryMadeTwiceAtOnce: two that want the same registry get the one.
func TestRegistryMadeTwiceAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := registryEngine()
		r, err := plan.LocalRegistry(testImage, 5001)
		if err != nil {
			t.Fatal(err)
		}
		made := make(chan error, 2)
		f.Before(func(_ context.Context, c enginetest.Call) error {
			if c.Op == "StartContainer" { // long enough for the other to find one that does not run
				time.Sleep(time.Second)
			}
			return nil
		})
		for range 2 {
			go func() { made <- CreateRegistry(t.Context(), f, r, plan.RegistryNetwork(0), step.Tee()) }()
		}
		for range 2 {
			if err := <-made; err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff([]string{"rk-registry running localhost:5001 [] attached to 0"}, registryState(t, f)); diff != "" {
			t.Error(diff)
		}
		if err := DeleteRegistry(t.Context(), f, "rk-registry", false); err != nil || !f.Empty() {
			t.Errorf("%v, left: %v", err, f.Leftovers())
		}
	})
}

// TestRegistryLeftByKilledCreate: one that was made and never got its files is completed.
func TestRegistryLeftByKilledCreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := registryEngine()
		r, err := plan.LocalRegistry(testImage, 5001)
		if err == nil {
			err = f.CreateNetwork(t.Context(), plan.RegistryNetwork(0))
		}
		if err == nil {
			_, err = f.CreateContainer(t.Context(), r.Container)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := CreateRegistry(t.Context(), f, r, plan.RegistryNetwork(0), step.Tee()); err != nil {
			t.Error(err)
		}
		if _, _, err := f.File("rk-registry", "/etc/rk/registry/config.yaml"); err != nil {
			t.Error(err)
		}
		if err := DeleteRegistry(t.Context(), f, "rk-registry", false); err != nil {
			t.Error(err)
		}
	})
}
