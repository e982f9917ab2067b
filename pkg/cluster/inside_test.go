// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/node/nodetest"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// served is a cluster of two nodes whose API serves.
func served(t *testing.T) (*enginetest.Fake, *kubeAPI) {
	t.Helper()
	f := enginetest.NewFake(testImage)
	nodes := &nodetest.Nodes{Run: func(_ context.Context, name string, p engine.Process) (int, bool) {
		text := name + " line\nwithout an end"
		if p.Argv[0] == "sh" {
			text = "1000\n3\n"
		}
		_, err := p.Stdout.Write([]byte(text))
		return 0, err == nil
	}}
	f.ExecFunc = nodes.Exec
	k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
	_, err := Create(t.Context(), f, k.plan, CreateOptions{Wait: time.Minute, Kubeconfig: filepath.Join(t.TempDir(), "config")})
	if err != nil {
		t.Fatal(err)
	}
	return f, k
}

func describe(t *testing.T, f *enginetest.Fake) *ClusterStatus {
	t.Helper()
	c, err := Find(t.Context(), f, "demo")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Describe(t.Context(), f, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	f, k := served(t)
	s := describe(t, f)
	if !s.Healthy || len(s.Problems) > 0 || !s.API.Ready || s.Engine != "podman 5.4.2" || len(s.Nodes) != 2 {
		t.Errorf("got %+v", s)
	}
	for _, n := range s.Nodes {
		if !n.Ready || n.Disk != 1000<<10 || n.Images != 3 {
			t.Errorf("got %+v", n)
		}
	}
	if len(s.Nodes[0].Ports) != 1 || s.Nodes[0].Ports[0].ContainerPort != 6443 {
		t.Errorf("ports %+v", s.Nodes[0].Ports)
	}

	k.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/readyz" {
			return false
		}
		http.Error(w, "[-]etcd failed: reason withheld", http.StatusInternalServerError)
		return true
	})
	if s := describe(t, f); s.Healthy || s.API.Ready || !slices.Equal(s.Problems, []string{"the API does not answer: API server is not ready: etcd"}) {
		t.Errorf("got %+v", s)
	}
	k.setFault(nil)
	if err := f.StopContainer(t.Context(), "demo-worker", 0); err != nil {
		t.Fatal(err)
	}
	if s := describe(t, f); s.Healthy || !s.API.Ready || !slices.Equal(s.Problems, []string{"node demo-worker: the container is exited"}) {
		t.Errorf("got %+v", s)
	}
	k.close()
	if s := describe(t, f); s.Healthy || s.API.Ready || len(s.Problems) != 2 {
		t.Errorf("got %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Describe(ctx, f, &Cluster{Name: "demo"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNodeLogs(t *testing.T) {
	t.Parallel()
	f, _ := served(t)
	c, err := Find(t.Context(), f, "demo")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := NodeLogs(t.Context(), f, c.Nodes, LogOptions{Tail: -1}, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	slices.Sort(lines)
	want := []string{
		"demo-control-plane | demo-control-plane line", "demo-control-plane | without an end", "demo-worker | demo-worker line", "demo-worker | without an end",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	// A node that has ended says what it printed.
	tail := &lastOf{lines: 1}
	tail.text.WriteString("one\ntwo\nthree\n")
	if got := string(tail.bytes()); got != "three\n" {
		t.Errorf("got %q", got)
	}
	if err := f.StopContainer(t.Context(), "demo-worker", 0); err != nil {
		t.Fatal(err)
	}
	c, err = Find(t.Context(), f, "demo")
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := NodeLogs(t.Context(), f, c.Nodes[1:], LogOptions{Follow: true, Tail: 10}, &out); err != nil || strings.Contains(out.String(), "line") {
		t.Errorf("got %q, %v", &out, err)
	}
	if _, err := Exec(t.Context(), f, c.Nodes[1], engine.Process{Argv: []string{"true"}}); !errors.Is(err, problem.NodeNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	f, _ := loadable(t, map[string]v1.Image{"localhost/web:v1": amdImage(t, "base")})
	load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}, As: "web"})
	c, err := Find(t.Context(), f, "demo")
	if err != nil {
		t.Fatal(err)
	}
	images, silent, err := Images(t.Context(), f, c, nil)
	if err != nil || len(silent) > 0 {
		t.Fatal(silent, err)
	}
	var got []string
	for _, i := range images {
		got = append(got, i.Name+" "+strings.Join(i.Nodes, ","))
	}
	both := " demo-control-plane,demo-worker"
	if diff := cmp.Diff([]string{"docker.io/library/web:latest" + both, "localhost/web:v1" + both}, got); diff != "" {
		t.Error(diff)
	}
	if err := f.StopContainer(t.Context(), "demo-worker", 0); err != nil {
		t.Fatal(err)
	}
	if c, err = Find(t.Context(), f, "demo"); err != nil {
		t.Fatal(err)
	}
	if _, silent, err = Images(t.Context(), f, c, nil); err != nil || !slices.Equal(silent, []string{"demo-worker"}) {
		t.Error(silent, err)
	}
}
