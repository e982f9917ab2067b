// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// A cluster that gets its network from its user is not waited for: its nodes
// are not Ready, and what needs a network does not run.
func TestCreateWithExternalCNI(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
	k.plan.ExternalCNI = true
	k.plan.Addons = slices.DeleteFunc(k.plan.Addons, func(a plan.Addon) bool { return a.Name == plan.AddonFlannel })
	k.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		asked := r.Method == http.MethodGet && (r.URL.Path == "/api/v1/nodes" || strings.HasSuffix(r.URL.Path, "/deployments") || strings.Contains(r.URL.Path, "kube-flannel"))
		if asked {
			t.Errorf("%s is waited for", r.URL.Path)
			http.Error(w, "no", http.StatusInternalServerError)
		}
		return asked
	})
	_, err := Create(t.Context(), f, k.plan, CreateOptions{Reporter: &stepTracker{}, Wait: time.Minute, Kubeconfig: filepath.Join(t.TempDir(), "config")})
	if err != nil {
		t.Fatal(err)
	}
}

// The API is found among all ports that a control plane publishes.
func TestListFindsTheAPI(t *testing.T) {
	t.Parallel()
	c := Cluster{Name: "demo"}
	c.add(engine.Container{
		Name: "demo-control-plane", Labels: map[string]string{plan.LabelRole: plan.RoleControlPlane},
		Ports: []engine.PortMapping{
			{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {ContainerPort: 6443, HostPort: 1, Protocol: "udp"},
			{HostIP: netip.MustParseAddr("::1"), ContainerPort: 6443, HostPort: 26443, Protocol: "tcp"},
		},
	})
	if c.APIServer != "[::1]:26443" {
		t.Errorf("API server %q", c.APIServer)
	}
}
