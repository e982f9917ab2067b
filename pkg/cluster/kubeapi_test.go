// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// kubeAPI stands for the API server of a cluster on a Fake: it listens where
// the plan publishes the API, with the certificate that rk put into the
// control plane, once that is started; and goes when it is removed. Every
// object that is applied is ready at once.
type kubeAPI struct {
	t    *testing.T
	plan *plan.Plan
	port uint16

	mu     sync.Mutex
	server *httptest.Server
	// fault may answer a request instead; true if it did.
	fault func(http.ResponseWriter, *http.Request) bool
}

// newKubeAPI plans a cluster whose API serves on a free port once f starts
// its control plane.
func newKubeAPI(t *testing.T, f *enginetest.Fake, name string, workers int, subnet string) *kubeAPI {
	t.Helper()
	l := listen(t)
	k := &kubeAPI{t: t, port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	k.plan = testPlanAt(t, name, workers, subnet, k.port)
	mine := func(node string) bool { // another cluster may have a node of this name
		spec, ok := f.Spec(node)
		return ok && len(spec.Ports) > 0 && spec.Ports[0].HostPort == k.port
	}
	f.After(func(_ context.Context, c enginetest.Call) error {
		if c.Op == "StartContainer" && mine(c.Target) {
			k.serve(l, f, c.Target)
		}
		return nil
	})
	f.Before(func(_ context.Context, c enginetest.Call) error {
		if c.Op == "RemoveContainer" && mine(c.Target) {
			k.close()
		}
		return nil
	})
	t.Cleanup(k.close)
	return k
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (k *kubeAPI) serve(l net.Listener, f *enginetest.Fake, node string) {
	var pem [2][]byte
	for i, ext := range []string{".crt", ".key"} {
		_, data, err := f.File(node, "/etc/kubernetes/pki/apiserver"+ext)
		if err != nil {
			k.t.Errorf("the control plane starts without its certificate: %v", err)
			return
		}
		pem[i] = data
	}
	cert, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		k.t.Error(err)
		return
	}
	s := httptest.NewUnstartedServer(k)
	_ = s.Listener.Close()
	s.Listener, s.EnableHTTP2 = l, true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.server = s
}

func (k *kubeAPI) close() {
	k.mu.Lock()
	s := k.server
	k.server = nil
	k.mu.Unlock()
	if s != nil {
		s.CloseClientConnections()
		s.Close()
	}
}

func (k *kubeAPI) setFault(fault func(http.ResponseWriter, *http.Request) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = fault
}

func (k *kubeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	fault := k.fault
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case fault != nil && fault(w, r):
	case r.URL.Path == "/readyz":
		_, _ = io.WriteString(w, "ok")
	case r.URL.Query().Get("watch") == "true":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // nothing changes any more
	case r.Method != http.MethodGet:
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	default:
		_ = json.NewEncoder(w).Encode(k.object(r.URL.Path))
	}
}

type object = map[string]any

// object is what lies at a path of the API: everything is there, and ready.
func (k *kubeAPI) object(p string) object {
	list := func(apiVersion, kind string, items ...object) object {
		return object{"apiVersion": apiVersion, "kind": kind + "List", "metadata": object{"resourceVersion": "1"}, "items": items}
	}
	named := func(name string) object {
		return object{"name": name, "uid": name, "namespace": path.Base(path.Dir(p))}
	}
	ready := func(kind string) []object { return []object{{"type": kind, "status": "True"}} }
	owners := []string{"kube-flannel-ds", "kube-proxy"}
	switch path.Base(p) {
	case "nodes":
		var items []object
		for _, n := range k.plan.Nodes {
			items = append(items, object{"metadata": named(n.Name), "status": object{"conditions": ready("Ready")}})
		}
		return list("v1", "Node", items...)
	case "daemonsets":
		return list("apps/v1", "DaemonSet", object{"metadata": named(owners[0])}, object{"metadata": named(owners[1])})
	case "deployments":
		return list("apps/v1", "Deployment", object{"metadata": named("coredns"), "status": object{"conditions": ready("Available")}})
	case "pods":
		var items []object
		for _, n := range k.plan.Nodes {
			for _, o := range owners {
				meta := named(o + "-" + n.Name)
				meta["ownerReferences"] = []object{{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": o, "uid": o, "controller": true}}
				items = append(items, object{"metadata": meta, "spec": object{"nodeName": n.Name}, "status": object{"conditions": ready("Ready")}})
			}
		}
		return list("v1", "Pod", items...)
	}
	if strings.HasPrefix(p, "/api/v1/namespaces/") {
		return object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": path.Base(p)}}
	}
	k.t.Errorf("the fake API has nothing at %s", p)
	return nil
}
