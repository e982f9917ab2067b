// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"errors"
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

	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// saved is an image of amd64 with the given layers, as "docker save" writes it.
func saved(t *testing.T, ref string, layers ...[]byte) AddedImage {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range layers {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
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
	archive, err := imagearchive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = archive.Close() })
	images, err := archive.Images("amd64")
	if err != nil {
		t.Fatal(err)
	}
	return AddedImage{archive, images[0]}
}

func TestBuildWithAddedImages(t *testing.T) {
	t.Parallel()
	o := Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Arch: "amd64"}
	plain := mustBuild(t, o)
	base := tarOf(t, "bin/", "bin/web=1", "tmp/", "tmp/junk=1")
	o.Add = []AddedImage{
		saved(t, "localhost/web:v1", base, tarOf(t, "bin/web=2")),
		saved(t, "localhost/web:v2", base, tarOf(t, "tmp/.wh.junk"), tarOf(t, "bin/web=3")),
	}
	custom := mustBuild(t, o)
	if custom.Ref != "localhost/rk-node-custom:"+plain.KubernetesVersion || custom.Digest == plain.Digest || custom.Path == plain.Path {
		t.Errorf("unexpected result %+v", custom)
	}
	if want := []string{"localhost/web:v1", "localhost/web:v2"}; !slices.Equal(custom.Added, want) {
		t.Errorf("added %v, want %v", custom.Added, want)
	}
	// All layers of the usual image are in it, unchanged: engines store them once.
	for i, l := range plain.Layers {
		if custom.Layers[i].Digest != l.Digest {
			t.Errorf("layer %s is not that of the usual image", l.Name)
		}
	}
	if got := cachedLayers(custom, false); !slices.Equal(got, []string{"added"}) {
		t.Errorf("layers made %v, want the added one", got)
	}
	again := mustBuild(t, o)
	if again.Digest != custom.Digest || len(cachedLayers(again, false)) > 0 {
		t.Errorf("again: digest %s, made %v", again.Digest, cachedLayers(again, false))
	}
	if left, err := filepath.Glob(filepath.Join(o.CacheDir, "tmp-*")); err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
	// The layer comes out of the cache, but its file has to be written again.
	if err := os.Remove(custom.Path); err != nil {
		t.Fatal(err)
	}
	if written := mustBuild(t, o); written.Digest != custom.Digest {
		t.Errorf("digest %s, want %s", written.Digest, custom.Digest)
	}
	checkAddedLayer(t, custom)

	o.Ref = "mine"
	if named := mustBuild(t, o); named.Ref != "localhost/mine:latest" || named.Digest != custom.Digest {
		t.Errorf("unexpected result %+v", named)
	}
}

// checkAddedLayer looks into the uppermost layer of the archive.
func checkAddedLayer(t *testing.T, res *Result) {
	t.Helper()
	f, err := os.Open(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	digest := res.Layers[len(res.Layers)-1].Digest
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "blobs/"+strings.Replace(digest, ":", "/", 1) {
			break
		}
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	snapshots := map[string][]string{} // by ID
	var databases int
	for _, line := range list(t, data) {
		line, _, _ = strings.Cut(line, " at ")
		if strings.Contains(line, ".db ") {
			databases++
		}
		if _, after, ok := strings.Cut(line, "usr/lib/rk/containerd/snapshots/"); ok {
			if id, rest, ok := strings.Cut(after, "/fs/"); ok && rest != "" {
				snapshots[id] = append(snapshots[id], rest)
			}
		}
	}
	if databases != 4 {
		t.Errorf("%d databases, want 4", databases)
	}
	var got [][]string
	for _, files := range snapshots {
		got = append(got, files)
	}
	slices.SortFunc(got, func(a, b []string) int { return strings.Compare(strings.Join(a, "\n"), strings.Join(b, "\n")) })
	want := [][]string{
		{"bin/", "bin/web 1", "tmp/"}, // stands alone
		{"bin/", "bin/web 1", "tmp/", "tmp/junk 1"},
		{"bin/", "bin/web 2"},
		{"bin/", "bin/web 3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
}

func TestAddedErrors(t *testing.T) {
	t.Parallel()
	one := tarOf(t, "a=1")
	for name, c := range map[string]struct {
		add  []AddedImage
		want error
	}{
		"one name for two": {[]AddedImage{saved(t, "localhost/web:v1", one), saved(t, "localhost/web:v1", tarOf(t, "b=1"))}, problem.InvalidUsage},
		"no layers":        {[]AddedImage{saved(t, "localhost/web:v1")}, problem.ArchiveUnreadable},
		"damaged":          {[]AddedImage{saved(t, "localhost/web:v1", []byte("this is no tar archive, but long enough to be taken for one"))}, problem.ArchiveUnreadable},
	} {
		o := Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Arch: "amd64", Add: c.add}
		if _, err := buildWith(t, o); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if left, err := filepath.Glob(filepath.Join(o.CacheDir, "tmp-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left in the cache: %v, %v", name, left, err)
		}
	}
	// The same image twice is one.
	mustBuild(t, Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Arch: "amd64",
		Add: []AddedImage{saved(t, "localhost/web:v1", one), saved(t, "localhost/web:v1", one)}})
}

func TestCustomRef(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                                       "localhost/rk-node-custom:v1.36.3",
		"mine":                                   "localhost/mine:latest",
		"mine:v1":                                "localhost/mine:v1",
		"team/mine:v1":                           "localhost/team/mine:v1",
		"localhost/mine":                         "localhost/mine:latest",
		"registry.example.com/mine:v1":           "registry.example.com/mine:v1",
		"Mine":                                   "error",
		"mine@sha256:" + strings.Repeat("0", 64): "error",
	} {
		got, err := CustomRef(name, "v1.36.3")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %s (%v), want %s", name, got, err, want)
		}
	}
}
