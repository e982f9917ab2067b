// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// withObjects gives a plan an object that is only applied, and one that runs.
func withObjects(k *kubeAPI) {
	k.plan.Objects = []plan.Object{
		{Source: "a.yaml, document 1", JSON: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`)},
		{Source: "a.yaml, document 2", JSON: []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"coredns"}}`)},
	}
}

// The objects of the user are applied after everything else, and what they run is waited for if anything is.
func TestManifestsAreApplied(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration][]string{
		time.Minute: {"network", "nodes", "api", "addons", "ready", "addons-ready", "manifests", "manifests-ready", "kubeconfig"},
		0:           {"network", "nodes", "api", "addons", "manifests", "kubeconfig"},
	} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			f := enginetest.NewFake(testImage)
			k := newKubeAPI(t, f, "demo", 0, "10.111.0.0/24")
			withObjects(k)
			var mu sync.Mutex
			var applied []string
			k.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodPatch {
					applied = append(applied, r.URL.Path)
				}
				return false
			})
			steps := &stepTracker{}
			if _, err := Create(t.Context(), f, k.plan, CreateOptions{Reporter: steps, Wait: wait, Kubeconfig: filepath.Join(t.TempDir(), "config")}); err != nil {
				t.Fatal(err)
			}
			if got := topLevel(steps.started); !slices.Equal(got, want) {
				t.Errorf("steps %v, want %v", got, want)
			}
			last := applied[len(applied)-2:]
			if want := []string{"/api/v1/namespaces/default/configmaps/c", "/apis/apps/v1/namespaces/default/deployments/coredns"}; !slices.Equal(last, want) {
				t.Errorf("applied last were %v, want %v", last, want)
			}
		})
	}
}

// A manifest that is refused, or does not come up, fails the creation, and nothing is left.
func TestManifestsThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step   string
		answer string
		want   error
		text   string
	}{
		"refused": {
			"manifests", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"data is wrong"}`,
			problem.ManifestRejected, "a.yaml, document 1: ConfigMap default/c: data is wrong",
		},
		"not available": {
			"manifests-ready", `{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"coredns"},"spec":{"selector":{}}}]}`,
			problem.ManifestNotAvailable, "deployment default/coredns: 0 of 1 replicas are available",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := enginetest.NewFake(testImage)
			k := newKubeAPI(t, f, "demo", 0, "10.111.0.0/24")
			withObjects(k)
			steps := &stepTracker{}
			k.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				if !steps.is(c.step) || r.URL.Query().Get("watch") != "" || !strings.HasSuffix(r.URL.Path, "/configmaps/c") && !strings.HasSuffix(r.URL.Path, "/deployments") {
					return false
				}
				if c.want == problem.ManifestRejected { //nolint:errorlint // a value of the table
					w.WriteHeader(http.StatusUnprocessableEntity)
				}
				fmt.Fprint(w, c.answer)
				return true
			})
			_, err := Create(t.Context(), f, k.plan, CreateOptions{Reporter: steps, Wait: 2 * time.Second, Kubeconfig: filepath.Join(t.TempDir(), "config")})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error is %v, want %q", err, c.text)
			}
			if !f.Empty() {
				t.Errorf("left: %v", f.Leftovers())
			}
		})
	}
}

// Files of the configuration are in before a node starts, with their owners.
func TestGivenFiles(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	ctx, o := options(t)
	o.Retain = true
	p := testPlan(t, "demo", 0)
	p.Nodes[0].Files = append(p.Nodes[0].Files, plan.File{Path: "/etc/app/key", Mode: 0o400, Content: "a\x00\xff", UID: 1000, GID: 2000, Given: true})
	if _, err := Create(ctx, f, p, o); err == nil {
		t.Fatal("no error")
	}
	h, data, err := f.File("demo-control-plane", "/etc/app/key")
	if err != nil || h.Mode != 0o400 || h.Uid != 1000 || h.Gid != 2000 || string(data) != "a\x00\xff" {
		t.Errorf("%+v, %q, %v", h, data, err)
	}
}

// What rootless Docker cannot do has a fix of its own.
func TestReadOnlyMountOfDocker(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	f.Before(func(_ context.Context, c enginetest.Call) error {
		if c.Op == "CopyIn" {
			return errors.New("copy to x:/: remount-ro /merged/mnt/shared, flags: 0x1021: operation not permitted")
		}
		return nil
	})
	ctx, o := options(t)
	_, err := Create(ctx, f, testPlan(t, "demo", 0), o)
	if p, ok := problem.Of(err); !ok || p.Code != problem.EngineFailed.Code || !strings.Contains(p.Advice, "nosuid") {
		t.Errorf("error is %v", err)
	}
}
