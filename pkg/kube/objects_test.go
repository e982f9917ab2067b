// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"
)

// objectsOf makes objects of YAML documents.
func objectsOf(t *testing.T, docs ...string) []Object {
	t.Helper()
	out := make([]Object, len(docs))
	for i, d := range docs {
		data, err := yaml.YAMLToJSON([]byte(d))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = Object{Source: "f.yaml, document " + string(rune('1'+i)), JSON: data}
	}
	return out
}

const (
	gadget     = "{apiVersion: example.test/v1, kind: Gadget, metadata: {name: one}, spec: {size: 9007199254740993}}"
	definition = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: gadgets.example.test}, " +
		"spec: {group: example.test, names: {kind: Gadget}}}"
	definitionPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.example.test"
	webDeployment  = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: team}}"
	webhook        = "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: hook}}"
)

func gadgetsServed(api *fakeAPI) {
	api.put("/apis/example.test/v1", map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "resources": []any{
		map[string]any{"name": "gadgets/status", "kind": "Gadget"}, map[string]any{"name": "gadgets", "kind": "Gadget", "namespaced": false},
	}})
}

// Definitions and namespaces come first, and are waited for; then what others
// refer to, workloads, webhooks and objects of defined kinds.
func TestApplyObjectsInOrder(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	var asked atomic.Int32
	api.setFault(func(r *http.Request) (int, string) {
		switch {
		case r.Method == http.MethodPatch && r.URL.Query().Get("fieldValidation") != "Strict":
			t.Errorf("fields are not checked: %s", r.URL)
		case r.Method == http.MethodGet && r.URL.Path == definitionPath:
			if asked.Add(1) == 1 {
				return 0, ""
			}
			gadgetsServed(api)
			return 200, `{"status": {"conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]}}`
		}
		return 0, ""
	})
	objects := objectsOf(t, gadget, webhook, webDeployment, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: team}}",
		definition, "{apiVersion: v1, kind: Namespace, metadata: {name: team}}")
	if err := api.client().ApplyObjects(t.Context(), objects, nil); err != nil {
		t.Fatal(err)
	}
	var patched []string
	for _, r := range api.requests() {
		if p, ok := strings.CutPrefix(r, "PATCH "); ok {
			patched = append(patched, path.Base(p))
		}
	}
	slices.Sort(patched[:2])
	if want := []string{"gadgets.example.test", "team", "c", "web", "hook", "one"}; !slices.Equal(patched, want) {
		t.Errorf("applied were %v, want %v", patched, want)
	}
	if asked.Load() < 2 {
		t.Error("the definition was not waited for")
	}
}

func TestApplyObjectsKeepsWholeNumbers(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	gadgetsServed(api)
	body := make(chan string, 1)
	api.setFault(func(r *http.Request) (int, string) {
		if r.Method == http.MethodPatch {
			data := make([]byte, r.ContentLength)
			_, _ = r.Body.Read(data)
			body <- string(data)
			return 200, "{}"
		}
		return 0, ""
	})
	if err := api.client().ApplyObjects(t.Context(), objectsOf(t, gadget), nil); err != nil {
		t.Fatal(err)
	}
	if got := <-body; !strings.Contains(got, "9007199254740993") {
		t.Errorf("sent was %s", got)
	}
}

// What goes away is waited for, and the reason is reported.
func TestApplyObjectsRepeats(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		objects []string
		code    int
		message string
	}{
		"webhook":         {[]string{webhook}, 500, `failed calling webhook "x": dial tcp 10.96.0.9:443: connect: connection refused`},
		"service account": {[]string{"{apiVersion: v1, kind: Pod, metadata: {name: p}}"}, 403, `pods "p" is forbidden: error looking up service account default/default: serviceaccount "default" not found`},
		"busy":            {[]string{webhook}, 429, "too many requests"},
		"default":         {[]string{"{apiVersion: v1, kind: ConfigMap, metadata: {name: p}}"}, 404, `namespaces "default" not found`},
		"own namespace": {
			[]string{"{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: own}}", "{apiVersion: v1, kind: Namespace, metadata: {name: own}}"},
			404, `namespaces "own" not found`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t)
			api.put("/api/v1/namespaces/default", map[string]any{})
			var tries atomic.Int32
			api.setFault(func(r *http.Request) (int, string) {
				if path.Base(r.URL.Path) != "own" && tries.Add(1) < 3 {
					return c.code, statusBody(c.code, "x", c.message)
				}
				return 0, ""
			})
			var reported []string
			if err := api.client().ApplyObjects(t.Context(), objectsOf(t, c.objects...), func(s string) { reported = append(reported, s) }); err != nil {
				t.Fatal(err)
			}
			if len(reported) != 1 || !strings.HasPrefix(reported[0], "f.yaml, document 1: ") || !strings.Contains(reported[0], c.message) {
				t.Errorf("reported was %q", reported)
			}
		})
	}
}

// A kind that nothing defines yet is waited for if a workload may define it.
func TestApplyObjectsWaitsForKinds(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/apis/apps/v1/namespaces/team", map[string]any{})
	reported := make(chan string, 100)
	result := make(chan error, 1)
	go func() {
		result <- api.client().ApplyObjects(t.Context(), objectsOf(t, gadget, webDeployment), func(s string) { reported <- s })
	}()
	if got, want := <-reported, "f.yaml, document 1: Gadget one: the API server knows no kind Gadget in example.test/v1"; !strings.Contains(got, "knows no kind") {
		t.Errorf("reported was %q, want %q", got, want)
	}
	gadgetsServed(api)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// What is refused for good is told at once, everything of the same step, with its place.
func TestApplyObjectsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		objects []string
		code    int
		message string
		want    []string
	}{
		"unknown kind":       {[]string{gadget}, 0, "", []string{"f.yaml, document 1: Gadget one: the API server knows no kind Gadget in example.test/v1"}},
		"misspelt kind":      {[]string{webDeployment, "{apiVersion: apps/v1, kind: Deploymint, metadata: {name: web}}"}, 0, "", []string{"document 2: Deploymint web: the API server knows no kind Deploymint in apps/v1"}},
		"no namespace":       {[]string{"{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: gone}}"}, 0, "", []string{`ConfigMap gone/c: namespaces "gone" not found`}},
		"invalid":            {[]string{webDeployment, webDeployment}, 422, "spec is wrong", []string{"document 1: Deployment team/web: spec is wrong", "document 2: Deployment team/web: spec is wrong"}},
		"unknown field":      {[]string{webDeployment}, 500, "failed to create typed patch object (x): .dada: field not declared in schema", []string{"field not declared"}},
		"not allowed":        {[]string{webDeployment}, 403, `pods "p" is forbidden: no PriorityClass with name x was found`, []string{"no PriorityClass"}},
		"denied":             {[]string{webDeployment}, 400, "admission webhook denied the request", []string{"denied the request"}},
		"names not accepted": {[]string{definition}, 200, `{"status": {"conditions": [{"type": "NamesAccepted", "status": "False", "reason": "ListKindConflict", "message": "is in use"}]}}`, []string{"gadgets.example.test: its names are not accepted: ListKindConflict: is in use"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t)
			if c.code != 0 {
				api.setFault(func(*http.Request) (int, string) {
					if c.code == 200 {
						return 200, c.message
					}
					return c.code, statusBody(c.code, "x", c.message)
				})
			}
			err := api.client().ApplyObjects(t.Context(), objectsOf(t, c.objects...), nil)
			if err == nil {
				t.Fatal("it was applied")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want %q", err, want)
				}
			}
		})
	}
}

// One that is refused ends the repetitions of another, which is no news then.
func TestApplyObjectsGivesUp(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	repeated := make(chan struct{}, 1000)
	api.setFault(func(r *http.Request) (int, string) {
		if path.Base(r.URL.Path) == "web" {
			repeated <- struct{}{}
			return 503, statusBody(503, "x", "later")
		}
		<-repeated
		return 422, statusBody(422, "x", "is wrong")
	})
	err := api.client().ApplyObjects(t.Context(), objectsOf(t, webDeployment, strings.Replace(webDeployment, "web", "bad", 1)), nil)
	if err == nil || err.Error() != "f.yaml, document 2: Deployment team/bad: is wrong" {
		t.Errorf("error is %v", err)
	}
}

func TestApplyObjectsUntilTheTimeIsUp(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	api.setFault(func(*http.Request) (int, string) { return 503, statusBody(503, "x", "later") })
	err := api.client().ApplyObjects(ctx, objectsOf(t, webDeployment), func(string) { cancel() })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "f.yaml, document 1: Deployment team/web: later") {
		t.Errorf("error is %v", err)
	}
}

func TestWorkloadsAvailable(t *testing.T) {
	t.Parallel()
	conds := WorkloadsAvailable(objectsOf(t, webDeployment,
		"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}}",
		"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 1}}",
		"{apiVersion: batch/v1, kind: Job, metadata: {name: once}}",
		"{apiVersion: batch/v1, kind: Job, metadata: {name: later}, spec: {suspend: true}}",
		"{apiVersion: v1, kind: Pod, metadata: {name: p}}",
		"{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {suspend: 1}}",
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}",
	))
	var names []string
	for _, c := range conds {
		names = append(names, c.String())
	}
	want := []string{"deployment team/web", "daemonset default/agent", "statefulset default/db", "job default/once", "pod default/p"}
	if !slices.Equal(names, want) {
		t.Fatalf("conditions are %v, want %v", names, want)
	}

	api := newFakeAPI(t)
	next, done := waiting(t, api.client(), conds[1:]...)
	until(t, next, "daemonset default/agent: does not exist yet (and 3 more)")
	const apps, pods = "/apis/apps/v1/namespaces/default/", "/api/v1/namespaces/default/pods/"
	daemons := daemonObject(2, 1)
	api.put(apps+"daemonsets/agent", daemons)
	until(t, next, "daemonset default/agent: 1 of 2 pods are ready")
	api.put(apps+"daemonsets/agent", daemonObject(0, 0)) // no node for it is no reason to wait
	until(t, next, "statefulset default/db: does not exist yet")
	set := func(ready, updated int) map[string]any {
		o := daemonObject(0, 0)
		o["kind"] = "StatefulSet"
		o["spec"] = map[string]any{"replicas": 1, "selector": map[string]any{}, "updateStrategy": map[string]any{"type": "RollingUpdate"}}
		o["status"] = map[string]any{"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": updated}
		return o
	}
	api.put(apps+"statefulsets/db", set(0, 0))
	until(t, next, "statefulset default/db: 0 of 1 replicas are ready")
	api.put(apps+"statefulsets/db", set(1, 1))
	until(t, next, "job default/once: does not exist yet")
	job := func(active int, conditions ...any) map[string]any {
		return map[string]any{"apiVersion": "batch/v1", "kind": "Job", "spec": map[string]any{"selector": map[string]any{}}, "status": map[string]any{"active": active, "conditions": conditions}}
	}
	api.put("/apis/batch/v1/namespaces/default/jobs/once", job(1))
	until(t, next, "job default/once: 1 of its pods run, 0 have succeeded, 0 have failed")
	api.put("/apis/batch/v1/namespaces/default/jobs/once", job(0, map[string]any{"type": "Complete", "status": "True"}))
	until(t, next, "pod default/p: does not exist yet")
	api.put(pods+"p", podObject("p", "n", map[string]any{"phase": "Succeeded"}))
	if err := done(); err != nil {
		t.Error(err)
	}
}

// A job or pod that has failed is not waited for any longer.
func TestWorkloadsThatFailed(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/apis/batch/v1/namespaces/default/jobs/once", map[string]any{
		"spec":   map[string]any{"selector": map[string]any{}},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}}},
	})
	api.put("/api/v1/namespaces/default/pods/p", podObject("p", "n", map[string]any{
		"phase": "Failed", "containerStatuses": []any{map[string]any{"name": "c", "state": map[string]any{"terminated": map[string]any{"exitCode": 3, "reason": "Error"}}}},
	}))
	for doc, want := range map[string]string{
		"{apiVersion: batch/v1, kind: Job, metadata: {name: once}}": "job default/once: it failed: BackoffLimitExceeded: too often: pod p: container c ended with exit code 3: Error",
		"{apiVersion: v1, kind: Pod, metadata: {name: p}}":          "pod default/p: it failed: container c ended with exit code 3: Error",
	} {
		err := api.client().Wait(t.Context(), nil, WorkloadsAvailable(objectsOf(t, doc, webDeployment))...)
		var failed *WaitError
		if !errors.As(err, &failed) || err.Error() != want {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
