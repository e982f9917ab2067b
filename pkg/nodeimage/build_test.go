// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// programs is a part.Source of files that hold their own names.
type programs struct {
	dir     string
	changed string // has other content
	err     error
}

func (p programs) Fetch(_ context.Context, of part.Part) (part.Built, error) {
	out := part.Built{Part: of}
	for _, b := range of.Binaries {
		data := []byte(b.Name)
		if b.Name == p.changed {
			data = append(data, " changed"...)
		}
		path := filepath.Join(p.dir, b.Name)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			return part.Built{}, err
		}
		sum := sha256.Sum256(data)
		out.Files = append(out.Files, part.File{Name: b.Name, Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	return out, p.err
}

// fakeBase is a base with a file for each pattern that an image asks for.
func fakeBase(t *testing.T, b *builder) {
	b.bootstrap = func(_ context.Context, r *recipe, _, _, dir string, progress func(string)) error {
		progress("extracting")
		base := newTree()
		base.data("/var/lib/dpkg/status", 0o644, []byte("Package: busybox-static\nVersion: 1:1.37.0-6+b9\n"))
		for _, s := range b.specs {
			for _, pattern := range s.Debian {
				if strings.Count(pattern, "/") > 1 {
					base.data(strings.ReplaceAll(pattern, "*", "x"), 0o755, []byte(pattern))
				} else {
					base.link(pattern, "usr"+pattern)
					base.dir("/usr"+pattern, 0o755)
				}
			}
		}
		return create(filepath.Join(dir, baseFile), func(w io.Writer) error { return base.write(w, r.Epoch) })
	}
}

func buildWith(t *testing.T, o Options) (*Result, error) {
	t.Helper()
	b, err := newBuilder(o)
	if err != nil {
		t.Fatal(err)
	}
	fakeBase(t, b)
	return b.build(t.Context())
}

func mustBuild(t *testing.T, o Options) *Result {
	t.Helper()
	res, err := buildWith(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// cachedLayers returns the names of the layers that were, or were not, cached.
func cachedLayers(res *Result, cached bool) []string {
	var names []string
	for _, l := range res.Layers {
		if l.Cached == cached {
			names = append(names, l.Name)
		}
	}
	return names
}

func TestBuild(t *testing.T) {
	t.Parallel()
	o := Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir()}
	first := mustBuild(t, o)
	if first.Ref != "localhost/rk-node:"+first.KubernetesVersion || first.Images["pause"] == "" || first.Images["busybox"] != "localhost/rk/busybox:1.37.0" {
		t.Errorf("unexpected result %+v", first)
	}
	if got := cachedLayers(first, false); !slices.Equal(got, []string{"debian", "programs", "rootfs", "store"}) {
		t.Errorf("layers made %v, want all four", got)
	}
	if info, err := os.Stat(first.Path); err != nil || info.Size() != first.Size {
		t.Errorf("the archive has %v bytes (%v), want %d", info, err, first.Size)
	}
	again := mustBuild(t, o)
	if again.Digest != first.Digest || len(cachedLayers(again, false)) > 0 {
		t.Errorf("again: digest %s, made %v; want %s and nothing made", again.Digest, cachedLayers(again, false), first.Digest)
	}

	o.CacheDir = t.TempDir()
	o.Output = filepath.Join(t.TempDir(), "node.tar")
	elsewhere := mustBuild(t, o)
	if elsewhere.Digest != first.Digest || elsewhere.Path != o.Output {
		t.Errorf("with an empty cache: digest %s at %s, want %s at %s", elsewhere.Digest, elsewhere.Path, first.Digest, o.Output)
	}
}

// An image for another architecture says so, and shares nothing that depends on it.
func TestBuildForAnotherArchitecture(t *testing.T) {
	t.Parallel()
	o := Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Arch: "amd64"}
	amd := mustBuild(t, o)
	o.Arch = "arm64"
	arm := mustBuild(t, o)
	if arm.Arch != "arm64" || arm.Path == amd.Path || arm.Digest == amd.Digest || arm.Ref != amd.Ref {
		t.Errorf("unexpected result %+v", arm)
	}
	for path, arch := range map[string]string{amd.Path: "amd64", arm.Path: "arm64"} {
		archive, err := imagearchive.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if images, err := archive.Images(arch); err != nil || len(images) != 1 {
			t.Errorf("%s: %v, %v", path, images, err)
		}
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBuildMakesWhatChanged(t *testing.T) {
	t.Parallel()
	for changed, want := range map[string][]string{
		"kubelet": {"programs", "store"}, // the store's key holds all programs
		"coredns": {"programs", "store"},
	} {
		t.Run(changed, func(t *testing.T) {
			t.Parallel()
			o := Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir()}
			first := mustBuild(t, o)
			o.Source = programs{dir: t.TempDir(), changed: changed}
			second := mustBuild(t, o)
			if got := cachedLayers(second, false); !slices.Equal(got, want) {
				t.Errorf("layers made %v, want %v", got, want)
			}
			if first.Digest == second.Digest {
				t.Error("another program gives the same image")
			}
		})
	}
}

func TestBuildErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	_, err := buildWith(t, Options{Source: programs{dir: t.TempDir(), err: boom}, CacheDir: t.TempDir()})
	if !errors.Is(err, boom) {
		t.Errorf("error %v, want the source's own", err)
	}
	_, err = Build(t.Context(), Options{KubernetesVersion: "v0.1.0"})
	if !errors.Is(err, problem.KubernetesUnknown) {
		t.Errorf("error %v, want %v", err, problem.KubernetesUnknown)
	}
}

// events keeps what is reported.
type events struct {
	mu   sync.Mutex
	list []step.Event
}

// Report implements step.Reporter.
func (e *events) Report(ev step.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func TestBuildReports(t *testing.T) {
	t.Parallel()
	got := &events{}
	mustBuild(t, Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Reporter: got})
	states := map[string][]step.State{}
	for _, e := range got.list {
		states[e.Step] = append(states[e.Step], e.State)
	}
	for _, id := range []string{"image/debian", "image/parts", "image/programs", "image/rootfs", "image/store", "image/archive"} {
		s := states[id]
		if len(s) < 2 || s[0] != step.Started || s[len(s)-1] != step.Done {
			t.Errorf("%s has states %v, want started … done", id, s)
		}
	}
	if !slices.Contains(states["image/debian"], step.Progress) {
		t.Error("the base reports no progress")
	}
}
