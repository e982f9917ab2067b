// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func sampleArchive(t *testing.T) archive {
	t.Helper()
	var layers []layer
	for _, name := range []string{"base", "top"} {
		files := newTree()
		files.data("/etc/"+name, 0o644, bytes.Repeat([]byte(name), 300))
		l, err := describe(func(w io.Writer) error { return files.write(w, epoch) })
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	img, err := assemble("amd64", epoch, nodeConfig("v1.36.3", `{"pause":"p"}`), layers)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newArchive(img, Ref("v1.36.3"), layers, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func bytesOf(t *testing.T, a archive) []byte {
	t.Helper()
	buf := &bytes.Buffer{}
	if err := a.write(buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchiveIsReproducible(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(bytesOf(t, sampleArchive(t)), bytesOf(t, sampleArchive(t))) {
		t.Error("the same image gives another archive")
	}
}

func TestArchiveSize(t *testing.T) {
	t.Parallel()
	a := sampleArchive(t)
	size, err := a.size()
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(len(bytesOf(t, a))); size != got {
		t.Errorf("size() = %d, the archive has %d bytes", size, got)
	}
}

// One file is both an OCI layout and what `docker load` reads.
func TestArchiveFormats(t *testing.T) {
	t.Parallel()
	a := sampleArchive(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "image.tar")
	if err := a.save(path); err != nil {
		t.Fatal(err)
	}

	docker, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := docker.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if config != a.config.Hash {
		t.Errorf("docker's reading has config %s, want %s", config, a.config.Hash)
	}

	unpack(t, path, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(a.manifest.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img, validate.Fast); err != nil {
		t.Errorf("the OCI layout is not valid: %v", err)
	}
	for _, l := range a.layers { // Fast leaves out the layers, which it would want compressed
		data, err := os.ReadFile(filepath.Join(dir, blobPath(l.Hash)))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := newBlob(data); err != nil || b.Hash != l.Hash {
			t.Errorf("layer %s has digest %s (%v)", l.Hash, b.Hash, err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Config; got.StopSignal != "SIGRTMIN+3" || got.Labels[LabelFormat] != Format || got.Labels[LabelKubernetes] != "v1.36.3" || got.Labels[LabelImages] != `{"pause":"p"}` || len(got.Volumes) > 0 {
		t.Errorf("unexpected config %+v", got)
	}
}

func TestArchiveSaveLeavesTheSameAlone(t *testing.T) {
	t.Parallel()
	a := sampleArchive(t)
	path := filepath.Join(t.TempDir(), "sub", "image.tar")
	check := func(when string, want bool) {
		t.Helper()
		got, err := a.isAt(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: isAt = %v, want %v", when, got, want)
		}
	}
	check("no file", false)
	if err := a.save(path); err != nil {
		t.Fatal(err)
	}
	check("saved", true)
	data := bytesOf(t, a)
	if err := os.WriteFile(path, data[:len(data)-512], 0o644); err != nil {
		t.Fatal(err)
	}
	check("cut short", false)
	other := a
	other.index = append(bytes.Clone(a.index), ' ')
	if err := other.save(path); err != nil {
		t.Fatal(err)
	}
	check("another image of the same size", false)
	if err := a.save(path); err != nil {
		t.Fatal(err)
	}
	check("saved over it", true)
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("%d files are left beside the archive", len(left)-1)
	}
}

// A file that changes between taking a layer's digest and writing it must not
// end up in an image.
func TestArchiveNoticesChanges(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := describe(copyTo(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := sampleArchive(t)
	a.layers = append(a.layers, l)
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := a.save(path); err == nil || !strings.Contains(err.Error(), "was changed meanwhile") {
		t.Errorf("error %v, want one that says that a file was changed", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a broken archive is left (%v)", err)
	}
}

// unpack extracts the regular files of a tar archive.
func unpack(t *testing.T, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
