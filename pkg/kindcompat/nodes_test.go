// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kindnodes "sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// words is what a node answers; it records what it was asked.
type words struct{ seen []string }

func (w *words) exec(_ context.Context, c engine.Container, p engine.Process) (int, error) {
	command := strings.Join(p.Argv, " ")
	in, err := io.ReadAll(p.Stdin)
	if err != nil {
		return 0, err
	}
	w.seen = append(w.seen, strings.TrimSpace(c.Name+": "+command+" "+string(in)))
	answers := map[string]string{
		"containerd config dump":         "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'fuse-overlayfs'\n",
		"crictl inspecti web":            `{"status":{"id":"sha256:aa","repoTags":["docker.io/library/web:latest","localhost/web:v1"]}}`,
		"crictl inspecti sha256:aa":      `{"status":{"id":"sha256:aa","repoTags":["docker.io/library/web:latest","localhost/web:v1"]}}`,
		"cat /etc/kubernetes/pki/sa.pub": "a key",
		"env":                            "A=" + p.Env["A"],
	}
	if p.Argv[0] == "false" {
		_, err := fmt.Fprint(p.Stderr, "no luck")
		return 3, err
	}
	_, err = fmt.Fprint(p.Stdout, answers[command])
	return 0, err
}

// kindNodes are the nodes of a cluster "demo" with a control plane and a worker.
func kindNodes(t *testing.T) ([]kindnodes.Node, *words) {
	t.Helper()
	f, w := enginetest.NewFake("image"), &words{}
	f.ExecFunc = w.exec
	f.InitFunc = func(ctx context.Context, _ engine.ContainerSpec, out io.Writer) int {
		_, err := fmt.Fprint(out, "Welcome")
		<-ctx.Done()
		if err != nil {
			return 1
		}
		return 0
	}
	for name, role := range map[string]string{"demo-control-plane": plan.RoleControlPlane, "demo-worker": plan.RoleWorker} {
		id, err := f.CreateContainer(t.Context(), engine.ContainerSpec{Name: name, Image: "image", Labels: map[string]string{
			plan.LabelCluster: "demo", plan.LabelRole: role, plan.LabelKubernetesVersion: "v1.36.3",
		}})
		if err == nil {
			err = f.StartContainer(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := Nodes(t.Context(), f, "demo")
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	return list, w
}

// kind's own utilities work on rk's nodes.
func TestNodeutils(t *testing.T) {
	t.Parallel()
	list, w := kindNodes(t)
	control, err := nodeutils.ControlPlaneNodes(list)
	if err != nil || len(control) != 1 || control[0].String() != "demo-control-plane" {
		t.Fatal(control, err)
	}
	if n, err := nodeutils.APIServerEndpointNode(list); err != nil || n != control[0] {
		t.Error(n, err)
	}
	if internal, err := nodeutils.InternalNodes(list); err != nil || len(internal) != 2 {
		t.Error(internal, err)
	}
	worker := list[1]
	if v, err := nodeutils.KubeVersion(worker); v != "v1.36.3" || err != nil {
		t.Error(v, err)
	}
	if id, err := nodeutils.ImageID(worker, "web"); id != "sha256:aa" || err != nil {
		t.Error(id, err)
	}
	tags, err := nodeutils.ImageTags(worker, "sha256:aa")
	if diff := cmp.Diff(map[string]bool{"docker.io/library/web:latest": true, "localhost/web:v1": true}, tags); diff != "" || err != nil {
		t.Error(diff, err)
	}
	w.seen = nil
	for _, err := range []error{
		nodeutils.LoadImageArchive(worker, strings.NewReader("an archive")),
		nodeutils.ReTagImage(worker, "sha256:aa", "web:v2"),
		nodeutils.WriteFile(worker, "/etc/x/y", "text"),
		nodeutils.CopyNodeToNode(control[0], worker, "/etc/kubernetes/pki/sa.pub"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"demo-worker: containerd config dump",
		"demo-worker: ctr --namespace=k8s.io images import --all-platforms --digests --snapshotter=fuse-overlayfs - an archive",
		"demo-worker: ctr --namespace=k8s.io images tag --force sha256:aa web:v2",
		"demo-worker: mkdir -p /etc/x", "demo-worker: cp /dev/stdin /etc/x/y text",
		"demo-worker: mkdir -p /etc/kubernetes/pki", "demo-control-plane: cat /etc/kubernetes/pki/sa.pub",
		"demo-worker: cp /dev/stdin /etc/kubernetes/pki/sa.pub a key",
	}
	if diff := cmp.Diff(want, w.seen); diff != "" {
		t.Error(diff)
	}
}

func TestNodeCommands(t *testing.T) {
	t.Parallel()
	list, _ := kindNodes(t)
	n := list[0]
	err := n.Command("false", "x").Run()
	var failed *exec.RunError
	if !errors.As(err, &failed) || string(failed.Output) != "no luck" || failed.PrettyCommand() != "false x" || failed.Inner.Error() != "exit status 3" {
		t.Errorf("got %v", err)
	}
	var out, errs bytes.Buffer
	if err := n.Command("env").SetEnv("A=b=c").SetStdout(&out).SetStderr(&errs).Run(); err != nil || out.String() != "A=b=c" {
		t.Errorf("got %q, %v", &out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.CommandContext(ctx, "env").Run(); !errors.As(err, &failed) || !errors.Is(failed.Inner, context.Canceled) {
		t.Errorf("got %v", err)
	}
	out.Reset()
	if err := n.SerialLogs(&out); err != nil {
		t.Error(err)
	}
	if v4, v6, err := n.IP(); err != nil || v6 != "" {
		t.Error(v4, v6, err)
	}
}

func TestHasCluster(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake("image")
	_, err := f.CreateContainer(t.Context(), engine.ContainerSpec{Name: "x", Image: "image", Labels: map[string]string{labelCluster: "kind"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"kind": true, "demo": false} {
		if got, err := HasCluster(t.Context(), f, name); got != want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

// kind asks a program; this one answers as podman and docker do.
func TestClusters(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
case "$*" in
*version*) echo "podman version 5.4.2" ;;
*label=io.x-k8s.kind.cluster=*) echo "${0##*/}-control-plane" ;;
*) echo "${0##*/}"; echo "${0##*/}" ;;
esac
`
	for _, name := range []string{"podman", "docker"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, name := range []string{"podman", "docker"} {
		got, err := Clusters(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Cluster{{Name: name, Provider: name, Nodes: []string{name + "-control-plane"}}}, got); diff != "" {
			t.Error(diff)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Clusters(t.Context(), "docker"); err == nil || !strings.Contains(err.Error(), "docker") {
		t.Errorf("got %v", err)
	}
}
