// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// assemble returns an OCI image.
func assemble(arch string, epoch time.Time, config v1.Config, layers []layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: arch,
		OS:           "linux",
		Created:      v1.Time{Time: epoch},
		Config:       config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   l,
			History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: l.by},
		})
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// parts returns the manifest and the config of an image.
func parts(img v1.Image) (manifest, config blob, err error) {
	raw, err := img.RawManifest()
	if err != nil {
		return blob{}, blob{}, err
	}
	if manifest, err = newBlob(raw); err != nil {
		return blob{}, blob{}, err
	}
	if raw, err = img.RawConfigFile(); err != nil {
		return blob{}, blob{}, err
	}
	config, err = newBlob(raw)
	return manifest, config, err
}

// archive is an image in one tar file, as an OCI layout and, for engines that
// do not know that one, also in the format of `docker save`. The index comes
// first, so that a reader can tell soon what it has before it.
type archive struct {
	index    []byte
	manifest blob
	config   blob
	layers   []layer
	ref      string
	epoch    time.Time
}

func newArchive(img v1.Image, ref string, layers []layer, epoch time.Time) (archive, error) {
	a := archive{ref: ref, epoch: epoch, layers: layers}
	var err error
	if a.manifest, a.config, err = parts(img); err != nil {
		return a, err
	}
	a.index, err = json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1,
			Digest:    a.manifest.Hash,
			Size:      int64(len(a.manifest.Data)),
			Annotations: map[string]string{
				"io.containerd.image.name":          ref,
				"org.opencontainers.image.ref.name": ref,
			},
		}},
	})
	return a, err
}

// dockerManifest is an element of manifest.json of `docker save`.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// named is a small file of an archive.
type named struct {
	name string
	data []byte
}

// head returns all files but the layers, in their order.
func (a archive) head() ([]named, error) {
	docker := dockerManifest{Config: blobPath(a.config.Hash), RepoTags: []string{a.ref}}
	for _, l := range a.layers {
		docker.Layers = append(docker.Layers, blobPath(l.Hash))
	}
	dockerJSON, err := json.Marshal([]dockerManifest{docker})
	return []named{
		{"index.json", a.index},
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"manifest.json", dockerJSON},
		{blobPath(a.manifest.Hash), a.manifest.Data},
		{blobPath(a.config.Hash), a.config.Data},
	}, err
}

// write writes the archive.
func (a archive) write(w io.Writer) error {
	head, err := a.head()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, f := range head {
		if err := tw.WriteHeader(a.header(f.name, int64(len(f.data)))); err != nil {
			return err
		}
		if _, err := tw.Write(f.data); err != nil {
			return err
		}
	}
	for _, l := range a.layers {
		if err := tw.WriteHeader(a.header(blobPath(l.Hash), l.Length)); err != nil {
			return err
		}
		if err := l.write(tw); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (a archive) header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: a.epoch, Format: tar.FormatPAX}
}

// size returns how long the archive is, in bytes.
func (a archive) size() (int64, error) {
	const block = 512 // of a tar archive, which ends with two empty ones
	head, err := a.head()
	if err != nil {
		return 0, err
	}
	total := int64(2 * block)
	add := func(n int64) { total += block + (n+block-1)/block*block }
	for _, f := range head {
		add(int64(len(f.data)))
	}
	for _, l := range a.layers {
		add(l.Length)
	}
	return total, nil
}

// save writes the archive to path, whole or not at all. It leaves a file alone
// that is this very archive.
func (a archive) save(path string) error {
	if same, err := a.isAt(path); err != nil || same {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	buf := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(a.write(buf), buf.Flush()); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// isAt tells whether the file at path begins with this archive's index, which
// holds the digest of everything else, and was written to its end.
func (a archive) isAt(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	want, err := a.size()
	if err != nil || info.Size() != want {
		return false, err
	}
	tr := tar.NewReader(f)
	if h, err := tr.Next(); err != nil || h.Name != "index.json" {
		return false, nil
	}
	index, err := io.ReadAll(tr)
	return err == nil && bytes.Equal(index, a.index), nil
}
