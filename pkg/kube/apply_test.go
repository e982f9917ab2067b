// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const manifest = `
# comment only
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec: {replicas: 2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: in-default}
---
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: role}
- apiVersion: storage.k8s.io/v1
  kind: StorageClass
  metadata: {name: standard}
`

func TestApply(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/api/v1/namespaces/default", map[string]any{})
	var bad []string
	var mu sync.Mutex
	api.setFault(func(r *http.Request) (int, string) {
		q := r.URL.Query()
		if q.Get("fieldManager") != "rk" || q.Get("force") != "true" || r.Header.Get("Content-Type") != "application/apply-patch+yaml" {
			mu.Lock()
			bad = append(bad, r.URL.String())
			mu.Unlock()
		}
		return 0, ""
	})
	if err := api.client().Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	if len(bad) > 0 {
		t.Errorf("not server-side apply: %v", bad)
	}
	seen := api.requests()
	if seen[0] != "PATCH /api/v1/namespaces/demo" {
		t.Errorf("the namespace is not first: %v", seen)
	}
	slices.Sort(seen)
	want := []string{
		"PATCH /api/v1/namespaces/default/configmaps/in-default",
		"PATCH /api/v1/namespaces/demo",
		"PATCH /apis/apps/v1/namespaces/demo/deployments/web",
		"PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/role",
		"PATCH /apis/storage.k8s.io/v1/storageclasses/standard",
	}
	if !slices.Equal(seen, want) { // in particular: no discovery, no second try
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	spec := api.object("/apis/apps/v1/namespaces/demo/deployments/web")["spec"].(map[string]any)
	if spec["replicas"] != float64(2) {
		t.Errorf("got %v", spec)
	}
}

func TestApplyRetriesWhatIsExpectedToWorkSoon(t *testing.T) {
	t.Parallel()
	const notInRange = "Service \"dns\" is invalid: spec.clusterIPs: Invalid value: []string{\"10.96.0.10\"}: failed to allocate IP 10.96.0.10: "
	for _, tc := range []struct {
		code         int
		reason, text string
	}{
		{401, "Unauthorized", "Unauthorized"},
		{403, "Forbidden", "user cannot patch resource: RBAC: clusterrole.rbac.authorization.k8s.io not found"},
		{404, "NotFound", "namespaces \"kube-system\" not found"},
		{409, "Conflict", "the object has been modified"},
		{422, "Invalid", notInRange + "the provided network does not match the current range"},
		{422, "Invalid", notInRange + "allocator not ready"},
		{422, "Invalid", notInRange + "provided IP is already allocated"},
		{429, "TooManyRequests", "too many requests"},
		{500, "InternalError", "failed calling webhook"},
		{503, "ServiceUnavailable", "please try again"},
	} {
		t.Run(fmt.Sprint(tc.code, tc.reason), func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t)
			var n atomic.Int32
			api.setFault(func(*http.Request) (int, string) {
				if n.Add(1) <= 3 {
					return tc.code, statusBody(tc.code, tc.reason, tc.text)
				}
				return 0, ""
			})
			if err := api.client().Apply(t.Context(), "{apiVersion: v1, kind: Namespace, metadata: {name: x}}"); err != nil {
				t.Error(err)
			}
			if n.Load() != 4 {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
}

func TestApplyStopsAtARefusal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code         int
		reason, text string
	}{
		{400, "BadRequest", "unknown field"},
		{500, "", "failed to create typed patch object (x/bad; v1, Kind=Service): .spec.ports: expected list, got map"},
		{422, "Invalid", "Service \"x\" is invalid: failed to allocate IP 10.0.0.1: the provided IP is not in the valid range"},
	} {
		t.Run(fmt.Sprint(tc.code), func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t)
			api.setFault(func(r *http.Request) (int, string) {
				if strings.HasSuffix(r.URL.Path, "/services/bad") {
					return tc.code, statusBody(tc.code, tc.reason, tc.text)
				}
				return 503, statusBody(503, "ServiceUnavailable", "later")
			})
			err := api.client().Apply(t.Context(), `
{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: x}}
---
{apiVersion: v1, kind: Secret, metadata: {name: waits}}`)
			if err == nil || err.Error() != "apply Service x/bad: "+tc.text {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestApplyNamesObjectAndLastCauseWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int32
	api.setFault(func(r *http.Request) (int, string) {
		if n.Add(1) > 5 {
			cancel()
		}
		return 503, statusBody(503, "ServiceUnavailable", "etcd is slow")
	})
	err := api.client().Apply(ctx, "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: standard}}")
	if err == nil || err.Error() != "apply StorageClass standard: etcd is slow" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestApplyCustomResources(t *testing.T) {
	t.Parallel()
	const cr = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, namespace: default}}"
	const crd = "\n---\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.example.com}, spec: {group: example.com, names: {kind: Widget}}}"
	api := newFakeAPI(t)
	api.put("/api/v1/namespaces/default", map[string]any{})
	var asked atomic.Int32
	api.setFault(func(r *http.Request) (int, string) {
		if r.URL.Path != "/apis/example.com/v1" {
			return 0, ""
		}
		if asked.Add(1) < 3 { // the definition is there, but not served yet
			return 404, "404 page not found"
		}
		return 200, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"example.com/v1","resources":[
			{"name":"widgets/status","kind":"Widget","namespaced":true},{"name":"widgets","kind":"Widget","namespaced":true}]}`
	})
	if err := api.client().Apply(t.Context(), cr+crd); err != nil {
		t.Fatal(err)
	}
	if api.object("/apis/example.com/v1/namespaces/default/widgets/w") == nil {
		t.Errorf("not created: %v", api.requests())
	}

	api.setFault(nil)
	err := api.client().Apply(t.Context(), cr)
	if err == nil || err.Error() != "apply Widget default/w: the API server knows no kind Widget in example.com/v1" {
		t.Errorf("got %v", err)
	}
}

func TestApplyRefusesBadManifests(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	err := api.client().Apply(t.Context(), `
kind: ConfigMap
metadata: {name: a}
---
apiVersion: v1
metadata: {name: a}
---
apiVersion: v1
kind: Secret
---
a: [
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Pod}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: twice}
data: {}
data: {}
`)
	if err == nil || len(api.requests()) > 0 {
		t.Fatalf("got %v, requests %v", err, api.requests())
	}
	for _, want := range []string{
		"manifest, document 1: apiVersion is missing",
		"manifest, document 2: kind is missing",
		"manifest, document 3: metadata.name of the Secret is missing",
		"manifest, document 4: error converting YAML to JSON",
		"manifest, document 5: item 1: metadata.name of the Pod is missing",
		"manifest, document 6: error converting YAML to JSON",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

// The plurals of the table are those of Kubernetes' own rule.
func TestBuiltinPlurals(t *testing.T) {
	t.Parallel()
	for group, kinds := range builtin {
		for kind, r := range kinds {
			plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: group, Kind: kind})
			if r.name != plural.Resource && kind != "Endpoints" {
				t.Errorf("%s %s is %q, want %q", group, kind, r.name, plural.Resource)
			}
		}
	}
}

// TestLive tries the package against a real API server: RK_TEST_KUBECONFIG names its kubeconfig.
func TestLive(t *testing.T) {
	t.Parallel()
	file := os.Getenv("RK_TEST_KUBECONFIG")
	if file == "" {
		t.Skip("RK_TEST_KUBECONFIG is not set")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.WaitServing(ctx); err != nil {
		t.Fatal(err)
	}
	err = c.Apply(ctx, `
apiVersion: v1
kind: Namespace
metadata: {name: rk-test}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: rk-test}
spec: {selector: {a: b}, ports: [{port: 53}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: early, namespace: kube-system}
data: {a: b}
`)
	if err != nil {
		t.Error(err)
	}
	if err := c.EnsureNode(ctx, "rk-test", []string{"10.244.77.0/24"}, map[string]string{"a": "b"}, Taint{"k", "v", "NoSchedule"}); err != nil {
		t.Error(err)
	}
	if err := c.EnsureNode(ctx, "rk-test", []string{"10.244.77.0/24"}, map[string]string{"a": "c"}); err != nil {
		t.Error(err)
	}
	if err := c.Wait(ctx, nil, APIReady()); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := c.Wait(short, nil, NodesReady("rk-test"), DeploymentAvailable("kube-system", "none")); err == nil {
		t.Error("a node without a kubelet is ready")
	} else {
		t.Log(err)
	}
}
