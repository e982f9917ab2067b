// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/node"
)

// TestContainerd brings images into a real containerd, as into a node's: with
// all layers, then without those that it has. RK_TEST_CONTAINERD names the
// folders of containerd, ctr and crictl, separated by colons. It needs root.
func TestContainerd(t *testing.T) {
	bin := os.Getenv("RK_TEST_CONTAINERD")
	if bin == "" {
		t.Skip("RK_TEST_CONTAINERD is not set")
	}
	n := node.New(startContainerd(t, bin), "n")
	ctx := t.Context()
	have := func() *node.ImageStore {
		t.Helper()
		s, err := n.ImageStore(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := have(); s.Snapshotter != "overlayfs" || len(s.Images) > 0 {
		t.Fatalf("got %+v", s)
	}
	one, two := opened(t, "localhost/web:v1", "base", "middle", "one"), opened(t, "localhost/web:v2", "base", "middle", "two")
	send := func(a *imagearchive.Archive, s *node.ImageStore, names ...string) (sent int, err error) {
		images, err := a.Images("amd64")
		if err != nil {
			t.Fatal(err)
		}
		images[0].Names = names
		var b bytes.Buffer
		err = a.Write(&b, images, func(l imagearchive.Layer) bool { return s.HasLayer(l.ChainID) })
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range images[0].Layers {
			if !s.HasLayer(l.ChainID) {
				sent++
			}
		}
		return sent, n.ImportImages(ctx, s.Snapshotter, &b, names...)
	}
	for _, c := range []struct {
		archive *imagearchive.Archive
		name    string
		want    int
	}{{one, "localhost/web:v1", 3}, {two, "localhost/web:v2", 1}} {
		sent, err := send(c.archive, have(), c.name, "docker.io/library/web:latest")
		if err != nil || sent != c.want {
			t.Fatalf("%s: %d layers sent, want %d; %v", c.name, sent, c.want, err)
		}
	}
	// What was sent is not kept twice, and nothing is missing once garbage is collected.
	if _, err := n.Output(ctx, "ctr", "-n", "k8s.io", "content", "prune", "references"); err != nil {
		t.Fatal(err)
	}
	s := have()
	for _, c := range []struct {
		archive *imagearchive.Archive
		names   []string
	}{{one, []string{"localhost/web:v1"}}, {two, []string{"localhost/web:v2", "docker.io/library/web:latest"}}} {
		images, err := c.archive.Images("amd64")
		if err != nil {
			t.Fatal(err)
		}
		img, ok := s.Find(images[0].ID)
		if !ok {
			t.Errorf("%v: not there", c.names)
		}
		for _, name := range c.names {
			if !img.Has(name) {
				t.Errorf("%s: names %v", name, img.Tags)
			}
		}
		for i, l := range images[0].Layers {
			if !s.HasLayer(l.ChainID) {
				t.Errorf("%v: layer %d is gone", c.names, i)
			}
		}
	}
	blobs, err := n.Output(ctx, "ctr", "-n", "k8s.io", "content", "ls", "-q")
	if err != nil || len(strings.Fields(string(blobs))) != 4 {
		t.Errorf("blobs %s, %v; want a manifest and a configuration of each image", blobs, err)
	}
	// A container's root can be made of it.
	for _, name := range []string{"localhost/web:v1", "localhost/web:v2"} {
		usable, err := n.Output(ctx, "ctr", "-n", "k8s.io", "images", "check", "-q", "name=="+name)
		if err != nil {
			t.Errorf("%s: %s, %v", name, usable, err)
		}
		dir := t.TempDir()
		if _, err := n.Output(ctx, "ctr", "-n", "k8s.io", "images", "mount", "--snapshotter", "overlayfs", name, dir); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, file := range []string{"base", "middle", map[string]string{"localhost/web:v1": "one", "localhost/web:v2": "two"}[name]} {
			if text, err := os.ReadFile(filepath.Join(dir, file)); string(text) != file || err != nil {
				t.Errorf("%s: %s: %q, %v", name, file, text, err)
			}
		}
		if _, err := n.Output(ctx, "ctr", "-n", "k8s.io", "images", "unmount", "--rm", dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A further name; one without the layers that are needed.
	images, err := one.Images("amd64")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.TagImage(ctx, images[0].ID, "docker.io/library/web:latest", "registry.test/x/web:v1"); err != nil {
		t.Fatal(err)
	}
	if img, _ := have().Find(images[0].ID); !img.Has("docker.io/library/web:latest") || !img.Has("registry.test/x/web:v1") {
		t.Errorf("names %v", img.Tags)
	}
	three := opened(t, "localhost/web:v3", "base", "other", "three")
	images, err = three.Images("amd64")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := three.Write(&b, images, func(l imagearchive.Layer) bool { return l.ChainID == images[0].Layers[1].ChainID }); err != nil {
		t.Fatal(err)
	}
	var failed *node.CommandError
	if err := n.ImportImages(ctx, "overlayfs", &b, "localhost/web:v3"); !errors.As(err, &failed) {
		t.Errorf("without a layer: %v", err)
	}
}

// opened is an archive of an image with a file for each layer.
func opened(t *testing.T, ref string, files ...string) *imagearchive.Archive {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f, Mode: 0o644, Size: int64(len(f))})
		_, werr := io.WriteString(w, f)
		if err := errors.Join(err, werr, w.Close()); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	a, err := imagearchive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// local runs what is for a node on this machine, with a containerd of the test's own.
type local struct {
	dir string
	env []string
}

func (l local) Exec(ctx context.Context, _ string, p engine.Process) (int, error) {
	argv := make([]string, len(p.Argv))
	for i, a := range p.Argv {
		argv[i] = strings.ReplaceAll(a, "/var/lib/containerd", l.dir)
	}
	cmd := exec.CommandContext(ctx, "env", argv...) // looks programs up in its own PATH
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = l.env, p.Stdin, p.Stdout, p.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (local) CopyIn(context.Context, string, string, io.Reader) error { return errors.ErrUnsupported }

func (local) CopyOut(context.Context, string, string) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

// startContainerd runs containerd in a folder of its own until the test ends.
func startContainerd(t *testing.T, bin string) local {
	t.Helper()
	dir, err := os.MkdirTemp("", "rk-containerd-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := `version = 3
imports = []
root = "` + dir + `/root"
state = "` + dir + `/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "` + dir + `/sock"
[plugins."io.containerd.cri.v1.images"]
discard_unpacked_layers = true
`
	for name, text := range map[string]string{"config.toml": config, "rk-snapshotter": "overlayfs\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := local{dir, []string{
		"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir,
		"CONTAINERD_ADDRESS=" + dir + "/sock", "CONTAINER_RUNTIME_ENDPOINT=unix://" + dir + "/sock",
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	daemon := exec.CommandContext(t.Context(), "env", "containerd", "-c", filepath.Join(dir, "config.toml"))
	daemon.Env = l.env
	daemon.Cancel = func() error { return daemon.Process.Signal(os.Interrupt) }
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	daemon.Stderr = log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Wait() // it was interrupted
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("containerd:\n%s", text)
		}
	})
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if exit, err := l.Exec(ctx, "", engine.Process{Argv: []string{"crictl", "version"}, Stdout: io.Discard, Stderr: io.Discard}); exit == 0 && err == nil {
			tick.Stop()
			return l
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("containerd does not start")
		}
	}
}
