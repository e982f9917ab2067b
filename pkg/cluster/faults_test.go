// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

var errBoom = errors.New("boom")

// fault is one way in which an engine call goes wrong.
type fault struct {
	name   string
	inject func(f *enginetest.Fake, n int, cancel context.CancelFunc)
	want   error // what the first cause is
}

var faults = []fault{
	{"error", func(f *enginetest.Fake, n int, _ context.CancelFunc) { f.FailAt(n, errBoom) }, errBoom},
	{"lost reply", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		at(f.After, n, func(context.Context) error { return errBoom })
	}, errBoom},
	{"panic before", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		at(f.Before, n, func(context.Context) error { panic(errBoom) })
	}, errBoom},
	{"panic after", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		at(f.After, n, func(context.Context) error { panic(errBoom) })
	}, errBoom},
	{"cancel", func(f *enginetest.Fake, n int, cancel context.CancelFunc) {
		at(f.After, n, func(context.Context) error { cancel(); return nil })
	}, context.Canceled},
	{"cancel while it hangs", func(f *enginetest.Fake, n int, cancel context.CancelFunc) {
		at(f.Before, n, func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() })
	}, context.Canceled},
	{"time-out", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		at(f.Before, n, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	}, context.DeadlineExceeded},
	{"time-out of an answer", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		at(f.After, n, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	}, context.DeadlineExceeded},
	{"engine gone", func(f *enginetest.Fake, n int, _ context.CancelFunc) {
		f.Before(func(_ context.Context, c enginetest.Call) error {
			if c.N >= n {
				return fmt.Errorf("dial unix: %w", engine.ErrUnreachable)
			}
			return nil
		})
	}, problem.EngineUnreachable},
}

// at runs do at the n-th call.
func at(hook func(enginetest.Hook), n int, do func(context.Context) error) {
	hook(func(ctx context.Context, c enginetest.Call) error {
		if c.N == n {
			return do(ctx)
		}
		return nil
	})
}

// baseline is the engine calls of a create that is cancelled while it waits
// for the API, and the number of the last one before that.
func baseline(t *testing.T) (calls []enginetest.Call, last int) {
	t.Helper()
	f := enginetest.NewFake(testImage)
	ctx, o := options(t)
	if _, err := Create(ctx, f, testPlan(t, "demo", 2), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a cancelled create", err)
	}
	if !f.Empty() {
		t.Fatalf("left after a cancelled create: %v", f.Leftovers())
	}
	calls = f.Calls()
	for _, c := range calls {
		if c.Op == "StartContainer" {
			last = c.N
		}
	}
	if last < 10 || len(calls) < last+8 {
		t.Fatalf("%d calls before the roll-back and %d in all: %v", last, len(calls), calls)
	}
	return calls, last
}

// TestEveryFaultAtEveryEngineCall: whatever goes wrong at whichever call, the
// engine ends empty and the user reads the first cause. If the engine itself
// is gone, the user reads how to remove the rest, and that works once it is back.
func TestEveryFaultAtEveryEngineCall(t *testing.T) {
	t.Parallel()
	calls, last := baseline(t)
	for n := 1; n <= last; n++ {
		for _, k := range faults {
			t.Run(fmt.Sprintf("%02d-%s/%s", n, calls[n-1].Op, k.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := enginetest.NewFake(testImage)
					err := createWith(t, f, n, k)
					if err == nil {
						t.Fatal("no error")
					}
					if !isFirst(err, k.want) {
						t.Errorf("the first cause is not %v: %v", k.want, err)
					}
					checkEmpty(t, f, err, k.name == "engine gone")
				})
			})
		}
	}
}

// TestEveryFaultInTheRollBack: a second fault does not hide the first cause,
// and if something is left because of it, the user reads how to remove it.
func TestEveryFaultInTheRollBack(t *testing.T) {
	t.Parallel()
	calls, last := baseline(t)
	for n := last + 1; n <= len(calls); n++ {
		for _, k := range faults {
			t.Run(fmt.Sprintf("%02d/%s", n, k.name), func(t *testing.T) { // the evidence is collected in any order
				synctest.Test(t, func(t *testing.T) {
					f := enginetest.NewFake(testImage)
					err := createWith(t, f, n, k)
					if !isFirst(err, context.Canceled) {
						t.Errorf("the first cause is not that it was cancelled: %v", err)
					}
					checkEmpty(t, f, err, true)
				})
			})
		}
	}
}

// createWith creates a cluster with a fault at the n-th call. Creation is
// cancelled when it waits for the API, which never serves.
func createWith(t *testing.T, f *enginetest.Fake, n int, k fault) error {
	t.Helper()
	ctx, o := options(t)
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	k.inject(f, n, cancel)
	_, err := Create(ctx, f, testPlan(t, "demo", 2), o)
	return err
}

// isFirst reports whether the first of joined errors is want.
func isFirst(err, want error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		err = joined.Unwrap()[0]
	}
	return errors.Is(err, want)
}

// checkEmpty checks that nothing is left. If it may be, then err has to say
// how to delete it, and deleting has to work.
func checkEmpty(t *testing.T, f *enginetest.Fake, err error, mayLeave bool) {
	t.Helper()
	f.ClearHooks()
	left := f.Leftovers()
	if len(left) == 0 {
		return
	}
	if !mayLeave {
		t.Fatalf("left: %v", left)
	}
	if p := find(err, problem.LeftOver); p == nil || !strings.Contains(p.Advice, "rk delete cluster demo") {
		t.Errorf("%v is left, and the error does not say how to remove it: %v", left, err)
	}
	if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil {
		t.Errorf("delete what is left: %v", err)
	}
	if !f.Empty() {
		t.Errorf("left by delete: %v", f.Leftovers())
	}
}

// find looks for a problem anywhere in err.
func find(err error, want *problem.Problem) *problem.Problem {
	if p, ok := err.(*problem.Problem); ok && p.Code == want.Code { //nolint:errorlint // this is the walk
		return p
	}
	switch e := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if p := find(err, want); p != nil {
				return p
			}
		}
	case interface{ Unwrap() error }:
		return find(e.Unwrap(), want)
	}
	return nil
}

// stepTracker knows which step runs, and may be told to panic.
type stepTracker struct {
	mu      sync.Mutex
	current string
	panicAt string
	started []string
	onStart func(step string)
}

func (s *stepTracker) Report(e step.Event) {
	if e.State != step.Started {
		return
	}
	s.mu.Lock()
	s.current = e.Step
	s.started = append(s.started, e.Step)
	do, boom := s.onStart, s.panicAt == e.Step
	s.mu.Unlock()
	if boom {
		panic(errBoom)
	}
	if do != nil {
		do(e.Step)
	}
}

func (s *stepTracker) is(step string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == step
}

// TestCreateWithAPI creates a cluster on the Fake to its end: what the faults below are measured against.
func TestCreateWithAPI(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
	path := filepath.Join(t.TempDir(), "config")
	steps := &stepTracker{}
	made, err := Create(t.Context(), f, k.plan, CreateOptions{Reporter: steps, Wait: time.Minute, Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	if made.Kubeconfig != path || made.Context != "rk-demo" {
		t.Errorf("made %+v", made)
	}
	if want := []string{"network", "nodes", "api", "addons", "ready", "addons-ready", "kubeconfig"}; !slices.Equal(topLevel(steps.started), want) {
		t.Errorf("steps %v, want %v", topLevel(steps.started), want)
	}
	if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: path}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || !f.Empty() {
		t.Errorf("left: %v, kubeconfig %v", f.Leftovers(), err)
	}
}

func topLevel(steps []string) []string {
	return slices.DeleteFunc(slices.Clone(steps), func(s string) bool { return strings.HasPrefix(s, "node/") })
}

// TestFaultsOfTheAPI: the steps that talk to Kubernetes leave nothing either.
func TestFaultsOfTheAPI(t *testing.T) {
	t.Parallel()
	refuse := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,"message":"boom"}`)
		return true
	}
	hang := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	drop := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	for _, stepID := range []string{"network", "nodes", "node/demo-worker", "api", "addons", "ready", "addons-ready", "kubeconfig"} {
		type kind struct {
			name  string
			apply func(k *kubeAPI, f *enginetest.Fake, s *stepTracker, o *CreateOptions, cancel context.CancelFunc)
			want  error
		}
		kinds := []kind{
			{"cancel", func(_ *kubeAPI, _ *enginetest.Fake, s *stepTracker, _ *CreateOptions, cancel context.CancelFunc) {
				s.onStart = func(started string) {
					if started == stepID {
						cancel()
					}
				}
			}, context.Canceled},
			{"panic", func(_ *kubeAPI, _ *enginetest.Fake, s *stepTracker, _ *CreateOptions, _ context.CancelFunc) {
				s.panicAt = stepID
			}, errBoom},
		}
		during := func(s *stepTracker, do func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool { return s.is(stepID) && do(w, r) }
		}
		onAPI := func(name string, do func(http.ResponseWriter, *http.Request) bool, want error) {
			kinds = append(kinds, kind{name, func(k *kubeAPI, _ *enginetest.Fake, s *stepTracker, o *CreateOptions, _ context.CancelFunc) {
				k.setFault(during(s, do))
				o.Wait, o.apiTimeout = 300*time.Millisecond, 300*time.Millisecond
			}, want})
		}
		switch stepID {
		case "api":
			onAPI("error", refuse, problem.APINotServing)
			onAPI("no answer", hang, problem.APINotServing)
			onAPI("dropped connections", drop, problem.APINotServing)
		case "addons":
			onAPI("error", refuse, problem.AddonRejected)
			onAPI("no answer", hang, problem.AddonRejected)
			onAPI("dropped connections", drop, problem.AddonRejected)
		case "ready":
			onAPI("error", refuse, problem.NodesNotReady)
			onAPI("no answer", hang, problem.NodesNotReady)
			onAPI("dropped connections", drop, problem.NodesNotReady)
		case "addons-ready":
			onAPI("error", refuse, problem.AddonNotAvailable)
			onAPI("no answer", hang, problem.AddonNotAvailable)
			onAPI("dropped connections", drop, problem.AddonNotAvailable)
		case "kubeconfig":
			kinds = append(kinds, kind{"unwritable", func(_ *kubeAPI, _ *enginetest.Fake, _ *stepTracker, o *CreateOptions, _ context.CancelFunc) {
				o.Kubeconfig = "/dev/null/config"
			}, problem.KubeconfigUnwritable})
		}
		if slices.Contains([]string{"api", "addons", "ready", "addons-ready"}, stepID) {
			kinds = append(kinds, kind{"node stops", func(k *kubeAPI, f *enginetest.Fake, s *stepTracker, _ *CreateOptions, _ context.CancelFunc) {
				k.setFault(during(s, hang))
				s.onStart = func(started string) {
					if started == stepID {
						if err := f.StopContainer(t.Context(), "demo-worker", 0); err != nil {
							t.Error(err)
						}
					}
				}
			}, problem.NodeExited}, kind{"panic of the watch over nodes", func(k *kubeAPI, f *enginetest.Fake, s *stepTracker, _ *CreateOptions, _ context.CancelFunc) {
				k.setFault(during(s, hang))
				var once sync.Once
				f.Before(func(_ context.Context, c enginetest.Call) error {
					if c.Op == "ListContainers" && s.is(stepID) {
						once.Do(func() { panic(errBoom) })
					}
					return nil
				})
			}, errBoom})
		}
		for _, kind := range kinds {
			t.Run(stepID+"/"+kind.name, func(t *testing.T) {
				t.Parallel()
				f := enginetest.NewFake(testImage)
				k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
				path := filepath.Join(t.TempDir(), "config")
				s := &stepTracker{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				o := CreateOptions{Reporter: s, Wait: time.Minute, Kubeconfig: path, watchInterval: 50 * time.Millisecond}
				kind.apply(k, f, s, &o, cancel)
				_, err := Create(ctx, f, k.plan, o)
				if err == nil {
					t.Fatal("no error")
				}
				if !isFirst(err, kind.want) {
					t.Errorf("the first cause is not %v: %v", kind.want, err)
				}
				checkEmpty(t, f, err, false)
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a kubeconfig is left (%v)", err)
				}
			})
		}
	}
}

// TestTwoCreatesOfOneName: whatever the order, exactly one succeeds, and the
// other takes nothing away from it.
func TestTwoCreatesOfOneName(t *testing.T) {
	t.Parallel()
	// The second create begins when the first makes its n-th call, and runs to its end before that call takes effect.
	for n := 1; ; n++ {
		f := enginetest.NewFake(testImage)
		k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
		second := testPlanAt(t, "demo", 1, "10.112.0.0/24", 1)
		dir := t.TempDir()
		var secondErr error
		var secondRan bool
		var once sync.Once
		f.Before(func(_ context.Context, c enginetest.Call) error {
			if c.N == n {
				once.Do(func() {
					secondRan = true
					ctx, o := options(t)
					_, secondErr = Create(ctx, f, second, o)
				})
			}
			return nil
		})
		_, err := Create(t.Context(), f, k.plan, CreateOptions{Wait: time.Minute, Kubeconfig: filepath.Join(dir, "config")})
		if !secondRan {
			if err != nil {
				t.Fatal(err)
			}
			return // a call more than a create has
		}
		// The second one's API never serves: it gives up by itself, as soon as it waits for it.
		switch {
		case err == nil && !errors.Is(secondErr, problem.ClusterExists) && !errors.Is(secondErr, context.Canceled):
			t.Errorf("at call %d: the second create ends with %v", n, secondErr)
		case err != nil && !errors.Is(err, problem.ClusterExists):
			t.Errorf("at call %d: the first create ends with %v", n, err)
		case err == nil && len(f.Leftovers()) != 5: // two containers, their volumes, a network
			t.Errorf("at call %d: the first create succeeded, and there is %v", n, f.Leftovers())
		}
		if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: filepath.Join(dir, "config")}); err != nil || !f.Empty() {
			t.Errorf("at call %d: delete: %v, left %v", n, err, f.Leftovers())
		}
	}
}

// TestTwoCreatesAtOnce: of one name one succeeds; of two names both do, with
// one kubeconfig between them.
func TestTwoCreatesAtOnce(t *testing.T) {
	t.Parallel()
	for range 10 {
		f := enginetest.NewFake(testImage)
		path := filepath.Join(t.TempDir(), "config")
		var wg sync.WaitGroup
		names := []string{"one", "one", "two", "three"}
		errs := make([]error, len(names))
		for i, name := range names {
			k := newKubeAPI(t, f, name, 1, fmt.Sprintf("10.%d.0.0/24", 111+i))
			wg.Go(func() {
				_, errs[i] = Create(t.Context(), f, k.plan, CreateOptions{Wait: time.Minute, Kubeconfig: path})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[0], errs[1]), problem.ClusterExists) {
			t.Errorf("of two creates of one name: %v, %v", errs[0], errs[1])
		}
		if err := errors.Join(errs[2:]...); err != nil {
			t.Errorf("creates of other names: %v", err)
		}
		list, err := List(t.Context(), f)
		if err != nil || len(list) != 3 {
			t.Errorf("%d clusters: %v", len(list), err)
		}
		for _, c := range list {
			if c.Status != StatusRunning {
				t.Errorf("%s is %s", c.Name, c.Status)
			}
			if err := Delete(t.Context(), f, c.Name, DeleteOptions{Kubeconfig: path}); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || !f.Empty() {
			t.Errorf("left: %v, kubeconfig %v", f.Leftovers(), err)
		}
	}
}

// TestInterruptedDelete stops a delete at each of its calls, in each way, and repeats it.
func TestInterruptedDelete(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		calls := 0
		for _, k := range faults {
			if strings.HasPrefix(k.name, "time-out") {
				continue // delete has no time limit of its own
			}
			f := wreck(t, 3)
			before := len(f.Calls())
			ctx, cancel := context.WithCancel(t.Context())
			k.inject(f, before+n, cancel)
			err := group.Recovered(func() error { // as cli.Run does
				return Delete(ctx, f, "demo", DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")})
			})
			cancel()
			calls = len(f.Calls()) - before
			if err == nil && !f.Empty() {
				t.Errorf("call %d, %s: no error, and left %v", n, k.name, f.Leftovers())
			}
			f.ClearHooks()
			if err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil || !f.Empty() {
				t.Errorf("call %d, %s: repeated: %v, left %v", n, k.name, err, f.Leftovers())
			}
		}
		if n > 6 && calls < n {
			return
		}
	}
}

// wreck returns a Fake with a cluster "demo" of some nodes.
func wreck(t *testing.T, nodes int) *enginetest.Fake {
	t.Helper()
	f := enginetest.NewFake(testImage)
	ctx, o := options(t)
	o.Retain = true
	if _, err := Create(ctx, f, testPlan(t, "demo", nodes-1), o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return f
}

// TestDeleteRemovesWhatItCan: the image gone, half the nodes gone, one node
// that cannot be removed, a kubeconfig that cannot be written.
func TestDeleteRemovesWhatItCan(t *testing.T) {
	t.Parallel()
	const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: rk-demo, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: rk-demo, context: {cluster: rk-demo, user: rk-demo}}]
users: [{name: rk-demo, user: {token: x}}]
current-context: rk-demo
`
	for name, c := range map[string]struct {
		prepare func(t *testing.T, f *enginetest.Fake, kubeconfig string)
		want    error    // nil: none
		left    []string // of the engine
		entry   bool     // the kubeconfig entry is left
		advice  string
	}{
		"the image is gone": {prepare: func(t *testing.T, f *enginetest.Fake, _ string) {
			f.Fail("InspectImage", "", engine.ErrNotFound)
		}},
		"half the nodes are gone": {prepare: func(t *testing.T, f *enginetest.Fake, _ string) {
			for _, n := range []string{"demo-control-plane", "demo-worker2"} {
				if err := f.RemoveContainer(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
		}},
		"a node cannot be removed": {prepare: func(t *testing.T, f *enginetest.Fake, _ string) {
			f.Fail("RemoveContainer", "demo-control-plane", errBoom)
		}, want: problem.LeftOver, left: []string{"container demo-control-plane", "network rk-demo", "volume demo-control-plane:/var"},
			advice: "rk delete cluster demo"},
		"a node's storage cannot be removed": {prepare: func(t *testing.T, f *enginetest.Fake, _ string) {
			f.Fail("RemoveContainer", "demo-control-plane", engine.ErrStorageLeft)
		}, want: problem.StorageLeft, left: []string{"container demo-control-plane", "network rk-demo", "volume demo-control-plane:/var"},
			advice: "podman rm --force NAME"},
		"the kubeconfig is read-only": {prepare: func(t *testing.T, _ *enginetest.Fake, path string) {
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
		}, want: problem.KubeconfigUnwritable, entry: true, advice: "rk delete cluster demo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := wreck(t, 4)
			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
				t.Fatal(err)
			}
			c.prepare(t, f, path)
			err := Delete(t.Context(), f, "demo", DeleteOptions{Kubeconfig: path})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if p, ok := problem.Of(err); ok && !strings.Contains(p.Advice, c.advice) {
				t.Errorf("the advice is %q", p.Advice)
			}
			if !slices.Equal(f.Leftovers(), c.left) {
				t.Errorf("left %v, want %v", f.Leftovers(), c.left)
			}
			if _, err := os.Stat(path); (err == nil) != c.entry {
				t.Errorf("the kubeconfig: %v", err)
			}
		})
	}
}

// TestOwnership: everything that a create makes says which create it was, and
// no two are the same.
func TestOwnership(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2 {
		f := wreck(t, 2)
		containers, err := f.ListContainers(t.Context(), map[string]string{plan.LabelCluster: "demo"})
		if err != nil || len(containers) != 2 {
			t.Fatal(containers, err)
		}
		networks, err := f.ListNetworks(t.Context(), map[string]string{plan.LabelCluster: "demo"})
		if err != nil || len(networks) != 1 {
			t.Fatal(networks, err)
		}
		id := networks[0].Labels[plan.LabelCreation]
		if id == "" || seen[id] {
			t.Errorf("creation %q is not unique", id)
		}
		seen[id] = true
		for _, c := range containers {
			if c.Labels[plan.LabelCreation] != id {
				t.Errorf("%s belongs to creation %q, its network to %q", c.Name, c.Labels[plan.LabelCreation], id)
			}
		}
	}
}

// TestRollBackTakesOnlyWhatItMade: a create whose call to the engine gets no
// answer leaves alone what another create of the same name has just made.
func TestRollBackTakesOnlyWhatItMade(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	p := testPlan(t, "demo", 1)
	var other atomic.Bool // is creating its network, or has
	f.Before(func(ctx context.Context, c enginetest.Call) error {
		if c.Op != "CreateNetwork" || other.Swap(true) {
			return nil
		}
		spec := p.Network
		spec.Labels = map[string]string{plan.LabelCluster: "demo", plan.LabelCreation: "another"}
		if err := f.CreateNetwork(ctx, spec); err != nil {
			t.Error(err)
		}
		return errBoom
	})
	ctx, o := options(t)
	if _, err := Create(ctx, f, p, o); !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	if left := f.Leftovers(); !slices.Equal(left, []string{"network rk-demo"}) {
		t.Errorf("of the other create there is only %v", left)
	}
}
