// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeAPI is a Kubernetes API server as far as this package needs one: GET,
// POST, PATCH, lists and watches of any resource, over TLS and HTTP/2.
type fakeAPI struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	objects map[string]map[string]any // by path
	log     []fakeEvent               // index is the resource version - 1
	wake    chan struct{}             // closed at each event
	drop    chan struct{}             // closed to end all watches
	watches int                       // watches that run
	seen    []string                  // "METHOD path" of every request
	// fault may answer a request in the server's place; nil or 0 lets it pass.
	fault func(r *http.Request) (code int, body string)
}

type fakeEvent struct {
	kind   string // ADDED, MODIFIED or DELETED
	path   string
	object map[string]any
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{t: t, objects: map[string]map[string]any{}, wake: make(chan struct{}), drop: make(chan struct{})}
	f.Server = httptest.NewUnstartedServer(f)
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPI) client() *Client {
	f.t.Helper()
	c, err := Connect(f.kubeconfig(f.URL))
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fakeAPI) kubeconfig(server string) []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: %q, certificate-authority-data: %s, tls-server-name: example.com}
users:
- name: u
  user: {token: secret}
contexts:
- name: x
  context: {cluster: c, user: u}
current-context: x
`, server, base64.StdEncoding.EncodeToString(ca))
}

// put stores an object and tells the watches.
func (f *fakeAPI) put(p string, object map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(p, object)
}

func (f *fakeAPI) putLocked(p string, object map[string]any) {
	kind := "ADDED"
	if f.objects[p] != nil {
		kind = "MODIFIED"
	}
	meta, _ := object["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta = maps.Clone(meta)
	meta["name"] = path.Base(p)
	meta["resourceVersion"] = strconv.Itoa(len(f.log) + 1)
	object = maps.Clone(object)
	object["metadata"] = meta
	f.objects[p] = object
	f.event(fakeEvent{kind, p, object})
}

func (f *fakeAPI) remove(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[p]
	delete(f.objects, p)
	f.event(fakeEvent{"DELETED", p, o})
}

func (f *fakeAPI) event(e fakeEvent) {
	f.log = append(f.log, e)
	close(f.wake)
	f.wake = make(chan struct{})
}

// dropWatches ends every watch that runs, as a restart of the server does.
func (f *fakeAPI) dropWatches() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.drop)
	f.drop = make(chan struct{})
}

func (f *fakeAPI) object(p string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[p]
}

func (f *fakeAPI) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *fakeAPI) setFault(fault func(r *http.Request) (int, string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func statusBody(code int, reason, message string) string {
	b, _ := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
	})
	return string(b)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+r.URL.Path)
	fault := f.fault
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if fault != nil {
		if code, body := fault(r); code != 0 {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
			return
		}
	}
	if r.URL.Query().Get("watch") == "true" {
		f.watch(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	code, body := f.answer(r)
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

var fakeKinds = map[string][2]string{
	"nodes": {"Node", "v1"}, "pods": {"Pod", "v1"}, "deployments": {"Deployment", "apps/v1"}, "daemonsets": {"DaemonSet", "apps/v1"},
	"statefulsets": {"StatefulSet", "apps/v1"}, "jobs": {"Job", "batch/v1"},
}

func (f *fakeAPI) answer(r *http.Request) (int, string) {
	p := r.URL.Path
	notFound := func() (int, string) {
		b, _ := json.Marshal(map[string]any{
			"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
			"message": fmt.Sprintf("%s %q not found", path.Base(path.Dir(p)), path.Base(p)), "details": map[string]any{"name": path.Base(p)},
		})
		return 404, string(b)
	}
	kind, isList := fakeKinds[path.Base(p)]
	switch r.Method {
	case http.MethodGet:
		if isList {
			list := map[string]any{"kind": kind[0] + "List", "apiVersion": kind[1], "metadata": map[string]any{"resourceVersion": strconv.Itoa(len(f.log))}}
			items := []any{}
			for _, k := range slices.Sorted(maps.Keys(f.objects)) {
				if path.Dir(k) == p {
					items = append(items, f.objects[k])
				}
			}
			list["items"] = items
			return 200, mustJSON(list)
		}
		if o, ok := f.objects[p]; ok {
			return 200, mustJSON(o)
		}
		return notFound()
	case http.MethodPost, http.MethodPatch:
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return 400, statusBody(400, "BadRequest", err.Error())
		}
		meta, _ := body["metadata"].(map[string]any)
		if r.Method == http.MethodPost {
			p += "/" + meta["name"].(string)
			if f.objects[p] != nil {
				return 409, statusBody(409, "AlreadyExists", p+" already exists")
			}
			f.putLocked(p, body)
			return 201, mustJSON(f.objects[p])
		}
		if ns, ok := strings.CutPrefix(path.Dir(path.Dir(p)), "/api/v1/namespaces/"); ok && f.objects["/api/v1/namespaces/"+ns] == nil {
			return 404, statusBody(404, "NotFound", fmt.Sprintf("namespaces %q not found", ns))
		}
		if r.Header.Get("Content-Type") == "application/merge-patch+json" {
			old := f.objects[p]
			if old == nil {
				return notFound()
			}
			if rv := meta["resourceVersion"]; rv != nil && rv != old["metadata"].(map[string]any)["resourceVersion"] {
				return 409, statusBody(409, "Conflict", "the object has been modified")
			}
			body = mergePatch(old, body)
		}
		f.putLocked(p, body)
		return 200, mustJSON(f.objects[p])
	}
	return 405, statusBody(405, "MethodNotAllowed", r.Method)
}

func mergePatch(old, patch map[string]any) map[string]any {
	out := maps.Clone(old)
	for k, v := range patch {
		a, okA := old[k].(map[string]any)
		b, okB := v.(map[string]any)
		if okA && okB {
			out[k] = mergePatch(a, b)
		} else {
			out[k] = v
		}
	}
	return out
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		f.t.Errorf("watch without a resource version: %s", r.URL)
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	f.mu.Lock()
	drop := f.drop
	f.watches++
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.watches--; f.mu.Unlock() }()
	for {
		f.mu.Lock()
		events, wake := f.log[from:], f.wake
		from = len(f.log)
		f.mu.Unlock()
		for _, e := range events {
			if path.Dir(e.path) == r.URL.Path {
				_, _ = io.WriteString(w, mustJSON(map[string]any{"type": e.kind, "object": e.object})+"\n")
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-wake:
		case <-drop:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
