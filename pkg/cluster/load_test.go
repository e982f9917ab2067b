// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/node/nodetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// runningCluster makes the containers of a cluster and starts them.
func runningCluster(t *testing.T, f *enginetest.Fake, p *plan.Plan) {
	t.Helper()
	if err := f.CreateNetwork(t.Context(), p.Network); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		id, err := f.CreateContainer(t.Context(), n.Container)
		if err == nil {
			err = f.StartContainer(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// amdImage is an image with a layer for each content.
func amdImage(t *testing.T, contents ...string) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(len(c))})
		_, werr := io.WriteString(w, c)
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
	return img
}

func savedAs(t *testing.T, ref string, img v1.Image) []byte {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func imageID(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// loadable is an engine with a cluster of two nodes and images in its store.
func loadable(t *testing.T, images map[string]v1.Image) (*enginetest.Fake, *nodetest.Nodes) {
	t.Helper()
	f, c := enginetest.NewFake(testImage), &nodetest.Nodes{Forget: map[string]bool{}, Refuse: map[string]string{}}
	f.ExecFunc = c.Exec
	runningCluster(t, f, testPlan(t, "demo", 1))
	for ref, img := range images {
		if _, err := f.LoadImage(t.Context(), bytes.NewReader(savedAs(t, ref, img))); err != nil {
			t.Fatal(err)
		}
	}
	return f, c
}

func load(t *testing.T, f *enginetest.Fake, o LoadOptions) []string {
	t.Helper()
	loaded, err := LoadImages(t.Context(), f, "demo", o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range loaded {
		out = append(out, fmt.Sprintf("%s: %d new, %d of %d layers", l.Node, len(l.New), l.LayersSent, l.Layers))
	}
	return out
}

func count(f *enginetest.Fake, op string) int {
	n := 0
	for _, c := range f.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// TestLoadSendsWhatIsMissing: layers of a first version are not sent with the
// second one, and an image that is there is not even saved.
func TestLoadSendsWhatIsMissing(t *testing.T) {
	t.Parallel()
	one, two := amdImage(t, "base", "more", "one"), amdImage(t, "base", "more", "two")
	f, c := loadable(t, map[string]v1.Image{"localhost/web:v1": one, "localhost/web:v2": two})
	got := load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}})
	if diff := cmp.Diff([]string{"demo-control-plane: 1 new, 3 of 3 layers", "demo-worker: 1 new, 3 of 3 layers"}, got); diff != "" {
		t.Error(diff)
	}
	got = load(t, f, LoadOptions{Images: []string{"localhost/web:v2"}, Nodes: []string{"demo-worker"}})
	if diff := cmp.Diff([]string{"demo-worker: 1 new, 1 of 3 layers"}, got); diff != "" {
		t.Error(diff)
	}
	saved := count(f, "SaveImages")
	got = load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}})
	if diff := cmp.Diff([]string{"demo-control-plane: 0 new, 0 of 0 layers", "demo-worker: 0 new, 0 of 0 layers"}, got); diff != "" {
		t.Error(diff)
	}
	if n := count(f, "SaveImages"); n != saved {
		t.Error("an image that all nodes have was saved")
	}
	// One that some nodes have goes to the others.
	got = load(t, f, LoadOptions{Images: []string{"localhost/web:v1", "localhost/web:v2"}})
	if diff := cmp.Diff([]string{"demo-control-plane: 1 new, 1 of 3 layers", "demo-worker: 0 new, 0 of 0 layers"}, got); diff != "" {
		t.Error(diff)
	}
	for _, node := range []string{"demo-control-plane", "demo-worker"} {
		want := map[string][]string{imageID(t, one): {"localhost/web:v1"}, imageID(t, two): {"localhost/web:v2"}}
		if diff := cmp.Diff(want, c.Images(node)); diff != "" {
			t.Errorf("%s: %s", node, diff)
		}
	}
}

// TestLoadNames: a short name is what Kubernetes makes of it, and what the
// engine calls the image; a further name costs a tag.
func TestLoadNames(t *testing.T) {
	t.Parallel()
	img := amdImage(t, "base")
	f, c := loadable(t, map[string]v1.Image{"localhost/web:v1": img})
	load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}, As: "web"})
	want := []string{"localhost/web:v1", "docker.io/library/web:latest"}
	got := c.Images("demo-worker")[imageID(t, img)]
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}, As: "registry.test/web:v3"}); got[0] != "demo-control-plane: 1 new, 0 of 0 layers" {
		t.Error(got)
	}
	if got := c.Images("demo-worker")[imageID(t, img)]; len(got) != 3 {
		t.Error(got)
	}
}

// TestLoadTags: an image under two names is one image.
func TestLoadTags(t *testing.T) {
	t.Parallel()
	img := amdImage(t, "base", "top")
	f, c := loadable(t, map[string]v1.Image{"localhost/web:v1": img, "localhost/web:latest": img})
	got := load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}})
	if diff := cmp.Diff([]string{"demo-control-plane: 1 new, 2 of 2 layers", "demo-worker: 1 new, 2 of 2 layers"}, got); diff != "" {
		t.Error(diff)
	}
	got = load(t, f, LoadOptions{Images: []string{"localhost/web:v1", "localhost/web:latest", "localhost/web:v1"}})
	if diff := cmp.Diff([]string{"demo-control-plane: 1 new, 0 of 0 layers", "demo-worker: 1 new, 0 of 0 layers"}, got); diff != "" {
		t.Error(diff)
	}
	c.RemoveImages("demo-worker")
	got = load(t, f, LoadOptions{Images: []string{"localhost/web:latest", "localhost/web:v1"}, Nodes: []string{"demo-worker"}})
	if diff := cmp.Diff([]string{"demo-worker: 2 new, 0 of 2 layers"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"localhost/web:latest", "localhost/web:v1"}, c.Images("demo-worker")[imageID(t, img)]); diff != "" {
		t.Error(diff)
	}
}

func TestLoadArchive(t *testing.T) {
	t.Parallel()
	f, c := loadable(t, nil)
	img := amdImage(t, "base", "top")
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, savedAs(t, "registry.test/web:v1", img), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := imagearchive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close() //nolint:errcheck // only read
	load(t, f, LoadOptions{Archive: a})
	if diff := cmp.Diff([]string{"registry.test/web:v1"}, c.Images("demo-worker")[imageID(t, img)]); diff != "" {
		t.Error(diff)
	}
	if got := load(t, f, LoadOptions{Archive: a}); got[1] != "demo-worker: 0 new, 0 of 0 layers" {
		t.Error(got)
	}
	// Layers that went away after the node was asked: everything is sent.
	for _, node := range []string{"demo-control-plane", "demo-worker"} {
		c.RemoveImages(node)
		c.Forget[node] = true
	}
	if got := load(t, f, LoadOptions{Archive: a}); got[1] != "demo-worker: 1 new, 2 of 2 layers" {
		t.Error(got)
	}
}

// TestLoadFromAnotherEngine: an image may be in the store of the user's other engine.
func TestLoadFromAnotherEngine(t *testing.T) {
	t.Parallel()
	f, c := loadable(t, nil)
	img := amdImage(t, "base")
	other := enginetest.NewFake()
	if _, err := other.LoadImage(t.Context(), bytes.NewReader(savedAs(t, "localhost/web:v1", img))); err != nil {
		t.Fatal(err)
	}
	load(t, f, LoadOptions{Images: []string{"localhost/web:v1"}, Sources: []engine.Images{f, other}})
	if len(c.Images("demo-worker")) != 1 {
		t.Error("not there")
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	web := LoadOptions{Images: []string{"localhost/web:v1"}}
	arm, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "arm64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		prepare func(*enginetest.Fake, *nodetest.Nodes) error
		options LoadOptions
		want    *problem.Problem
		text    string
	}{
		"no such image": {nil, LoadOptions{Images: []string{"localhost/none:v1"}}, problem.ImageNotFound, "localhost/none:v1"},
		"no such node":  {nil, LoadOptions{Images: web.Images, Nodes: []string{"demo-worker7"}}, problem.NodeNotFound, "there are: demo-control-plane, demo-worker"},
		"stopped node": {func(f *enginetest.Fake, _ *nodetest.Nodes) error {
			return f.StopContainer(t.Context(), "demo-worker", 0)
		}, web, problem.NodeNotRunning, "demo-worker is exited"},
		"other platform": {func(f *enginetest.Fake, _ *nodetest.Nodes) error {
			_, err := f.LoadImage(t.Context(), bytes.NewReader(savedAs(t, "localhost/arm:v1", arm)))
			return err
		}, LoadOptions{Images: []string{"localhost/arm:v1"}}, problem.ImagePlatform, "linux/arm64"},
		"full disk": {func(_ *enginetest.Fake, c *nodetest.Nodes) error {
			c.Refuse["demo-worker"] = "ctr: write /var/lib/containerd/x: no space left on device"
			return nil
		}, web, problem.DiskFull, "demo-worker"},
		"refused": {func(_ *enginetest.Fake, c *nodetest.Nodes) error {
			c.Refuse["demo-control-plane"] = "ctr: unlucky"
			return nil
		}, web, problem.ImportFailed, "unlucky"},
		"the engine fails": {func(f *enginetest.Fake, _ *nodetest.Nodes) error {
			f.Fail("SaveImages", "", errors.New("the engine is unwell"))
			return nil
		}, web, problem.EngineFailed, "unwell"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, d := loadable(t, map[string]v1.Image{"localhost/web:v1": amdImage(t, strings.Repeat("a long layer", 100_000))})
			if c.prepare != nil {
				if err := c.prepare(f, d); err != nil {
					t.Fatal(err)
				}
			}
			_, err := LoadImages(t.Context(), f, "demo", c.options)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	f, _ := loadable(t, nil)
	if _, err := LoadImages(t.Context(), f, "other", web); !errors.Is(err, problem.ClusterNotFound) {
		t.Errorf("got %v", err)
	}
}
