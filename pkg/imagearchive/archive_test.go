// SPDX-License-Identifier: Apache-2.0

package imagearchive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
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
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// layer is a layer with one file; its content decides about its digests.
func layer(t testing.TB, content string, o ...tarball.LayerOption) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(len(content))}), second(w.Write([]byte(content))), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, o...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func second(_ int, err error) error { return err }

// image is an image for an architecture with a layer for each content.
func image(t testing.TB, arch string, contents ...string) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{
		Architecture: arch, OS: "linux", RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, c := range contents {
		if img, err = mutate.AppendLayers(img, layer(t, c, tarball.WithMediaType(types.OCILayer))); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func id(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// docker writes images as `docker save` does, with layers as they are in an engine's store: not compressed.
func docker(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for n, img := range images {
		ref, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		refs[ref] = img
	}
	file := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.MultiRefWriteToFile(file, refs); err != nil {
		t.Fatal(err)
	}
	return file
}

// oci makes a layout of an index for two architectures, with an attestation, and a name.
func oci(t testing.TB, annotations map[string]string, images ...v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: c.Architecture}},
		})
	}
	index = mutate.AppendManifests(index, mutate.IndexAddendum{
		Add: image(t, "unknown"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
	})
	if err := p.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// packed is a folder as a tar archive.
func packed(t testing.TB, dir string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return write(t, b.Bytes())
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t *testing.T, file string) *imagearchive.Archive {
	t.Helper()
	a, err := imagearchive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// summary is what is known of an image.
func summary(img imagearchive.Image) string {
	return fmt.Sprintf("%s %s %d layers", strings.Join(img.Names, ","), img.ID, len(img.Layers))
}

func images(t *testing.T, a *imagearchive.Archive, arch string) []imagearchive.Image {
	t.Helper()
	list, err := a.Images(arch)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b imagearchive.Image) int { return strings.Compare(summary(a), summary(b)) })
	return list
}

func TestFormats(t *testing.T) {
	t.Parallel()
	amd, arm := image(t, "amd64", "base", "amd"), image(t, "arm64", "base", "arm")
	named := map[string]string{"io.containerd.image.name": "localhost/web:v1", "org.opencontainers.image.ref.name": "v1"}
	layoutDir := oci(t, named, amd, arm)
	plain := packed(t, layoutDir)
	data, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if err := errors.Join(second(z.Write(data)), z.Close()); err != nil {
		t.Fatal(err)
	}
	fromLayout, err := imagearchive.OpenLayout(layoutDir)
	if err != nil {
		t.Fatal(err)
	}
	defer fromLayout.Close() //nolint:errcheck // only read
	stream, err := imagearchive.Read("standard input", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close() //nolint:errcheck // only read
	for what, a := range map[string]*imagearchive.Archive{
		"OCI archive": open(t, plain), "compressed": open(t, write(t, zipped.Bytes())), "layout": fromLayout, "stream": stream,
	} {
		for arch, want := range map[string]v1.Image{"amd64": amd, "arm64": arm} {
			list := images(t, a, arch)
			if len(list) != 1 || summary(list[0]) != "localhost/web:v1 "+id(t, want)+" 2 layers" {
				t.Errorf("%s, %s: %v", what, arch, list)
				continue
			}
			if err := a.Check(t.Context(), list[0].Layers); err != nil {
				t.Errorf("%s, %s: %v", what, arch, err)
			}
		}
		_, err := a.Images("riscv64")
		var wrong *imagearchive.PlatformError
		if !errors.Is(err, problem.ImagePlatform) || !errors.As(err, &wrong) || !slices.Equal(wrong.Have, []string{"linux/amd64", "linux/arm64"}) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDockerArchive(t *testing.T) {
	t.Parallel()
	one, two := image(t, "amd64", "base", "one"), image(t, "amd64", "base", "two")
	a := open(t, docker(t, map[string]v1.Image{"localhost/one:v1": one, "localhost/again:v1": one, "localhost/web:v2": two}))
	list := images(t, a, "amd64")
	var got []string
	for _, img := range list {
		slices.Sort(img.Names)
		got = append(got, summary(img))
		if err := a.Check(t.Context(), img.Layers); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(got)
	want := []string{"localhost/again:v1,localhost/one:v1 " + id(t, one) + " 2 layers", "localhost/web:v2 " + id(t, two) + " 2 layers"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if list[0].Layers[0].ChainID != list[0].Layers[0].DiffID || list[0].Layers[1].ChainID == list[0].Layers[1].DiffID {
		t.Errorf("chain IDs: %+v", list[0].Layers)
	}
	if _, err := a.Images("arm64"); !errors.Is(err, problem.ImagePlatform) {
		t.Errorf("got %v", err)
	}
}

// What Podman and old versions of Docker write: uncompressed layers, some of them as links.
func TestLinkedLayers(t *testing.T) {
	t.Parallel()
	img := image(t, "amd64", "base")
	l, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := l[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		h.Mode = 0o644
		if err := errors.Join(w.WriteHeader(&h), second(w.Write(data))); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "other/layer.tar"}, content)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "this/layer.tar", Linkname: "../other/layer.tar"}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "c.json"}, config)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json"}, []byte(`[{"Config":"c.json","RepoTags":["localhost/x:v1"],"Layers":["this/layer.tar"]}]`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a := open(t, write(t, b.Bytes()))
	list := images(t, a, "amd64")
	if len(list) != 1 || summary(list[0]) != "localhost/x:v1 "+id(t, img)+" 1 layers" {
		t.Fatalf("got %v", list)
	}
	if list[0].Layers[0].Digest != list[0].Layers[0].DiffID {
		t.Errorf("layer %+v", list[0].Layers[0])
	}
	if err := a.Check(t.Context(), list[0].Layers); err != nil {
		t.Error(err)
	}
}

// The reduced archive holds all but what is left out, and is readable itself.
func TestWrite(t *testing.T) {
	t.Parallel()
	a := open(t, packed(t, oci(t, map[string]string{"io.containerd.image.name": "localhost/web:v1"}, image(t, "amd64", "base", "top"), image(t, "arm64", "other"))))
	list := images(t, a, "amd64")
	list[0].Names = append(list[0].Names, "docker.io/library/web:latest")
	base := list[0].Layers[0]
	var whole, reduced bytes.Buffer
	if err := a.Write(&whole, list, func(imagearchive.Layer) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(&reduced, list, func(l imagearchive.Layer) bool { return l.ChainID == base.ChainID }); err != nil {
		t.Fatal(err)
	}
	again := open(t, write(t, whole.Bytes()))
	got := images(t, again, "amd64")
	if len(got) != 1 || summary(got[0]) != summary(list[0]) {
		t.Errorf("got %v, want %v", got, list)
	}
	if err := again.Check(t.Context(), got[0].Layers); err != nil {
		t.Error(err)
	}
	lacking := open(t, write(t, reduced.Bytes()))
	got = images(t, lacking, "amd64")
	if err := lacking.Check(t.Context(), got[0].Layers[1:]); err != nil {
		t.Error(err)
	}
	if err := lacking.Check(t.Context(), got[0].Layers); !errors.Is(err, problem.ArchiveUnreadable) || !strings.Contains(err.Error(), base.Digest) {
		t.Errorf("got %v", err)
	}
}

func TestBroken(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(packed(t, oci(t, nil, image(t, "amd64", strings.Repeat("base", 1000)))))
	if err != nil {
		t.Fatal(err)
	}
	var other bytes.Buffer
	w := tar.NewWriter(&other)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/hosts", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"cut off": good[:len(good)/2], "no tar": []byte(strings.Repeat("text", 1000)), "empty": nil, "zstd": []byte("\x28\xb5\x2f\xfdxxxxx"),
		"bad gzip": []byte("\x1f\x8bxxxxxxxxxxxxxxxx"), "other tar": other.Bytes(), "damaged manifest": bytes.ReplaceAll(good, []byte(`"schemaVersion":2`), []byte(`"schemaVersion":3`)),
	} {
		a, err := imagearchive.Open(write(t, data))
		if err == nil {
			_, err = a.Images("amd64")
			_ = a.Close()
		}
		if !errors.Is(err, problem.ArchiveUnreadable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"absent file":   func() error { _, err := imagearchive.Open("/no/such/file"); return err }(),
		"absent folder": func() error { _, err := imagearchive.OpenLayout("/no/such/dir"); return err }(),
		"other folder":  func() error { _, err := imagearchive.OpenLayout(t.TempDir()); return err }(),
	} {
		if !errors.Is(err, problem.ArchiveUnreadable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A damaged layer is found before a node gets it.
func TestDamagedLayer(t *testing.T) {
	t.Parallel()
	img := image(t, "amd64")
	img, err := mutate.AppendLayers(img, static.NewLayer([]byte("no tar, but it has a digest"), types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	dir := oci(t, map[string]string{"io.containerd.image.name": "localhost/web:v1"}, img)
	a, err := imagearchive.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close() //nolint:errcheck // only read
	list := images(t, a, "amd64")
	l := list[0].Layers[0]
	if err := a.Check(t.Context(), list[0].Layers); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Check(ctx, list[0].Layers); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(l.Digest, "sha256:"))
	for _, text := range []string{"no tar, and now another one", "short", ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.Check(t.Context(), list[0].Layers); !errors.Is(err, problem.ArchiveUnreadable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFullName(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"web": "docker.io/library/web:latest", "me/web:v1": "docker.io/me/web:v1", "localhost/web": "localhost/web:latest",
		"registry.test:5000/a/b:c":                 "registry.test:5000/a/b:c",
		"web:v1@sha256:" + strings.Repeat("a", 64): "docker.io/library/web@sha256:" + strings.Repeat("a", 64),
	} {
		if got, err := imagearchive.FullName(ref); got != want || err != nil {
			t.Errorf("%s: got %s, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"", "Web", "a b", "web:"} {
		if got, err := imagearchive.FullName(ref); err == nil {
			t.Errorf("%q is %s", ref, got)
		}
	}
}
