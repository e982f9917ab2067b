// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var (
	errNotArchive = errors.New("neither a docker archive nor an OCI archive")
	errNoRegistry = errors.New("the Fake has no registry with this image (see AddRemoteImage)")
)

type fakeImage struct {
	engine.Image
	files  tree
	config []byte   // of the image's archive; nil for one that AddImage made
	layers [][]byte // of the archive, lowest first
}

// AddImage puts an image with a few empty directories into the store. An
// empty id is derived from ref, an empty architecture is amd64.
func (f *Fake) AddImage(ref string, img engine.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[ref] = fakeImage{Image: completed(ref, img), files: debianDirs()}
}

// AddRemoteImage makes an image available to PullImage.
func (f *Fake) AddRemoteImage(ref string, img engine.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remote[ref] = fakeImage{Image: completed(ref, img), files: debianDirs()}
}

func completed(ref string, img engine.Image) engine.Image {
	if img.ID == "" {
		img.ID = fakeID("image", ref)
	}
	if img.Arch == "" {
		img.Arch = "amd64"
	}
	img.Labels = cloneMap(img.Labels)
	return img
}

// InspectImage implements engine.Images.
func (f *Fake) InspectImage(ctx context.Context, ref string) (engine.Image, error) {
	var img engine.Image
	err := f.do(ctx, Call{Op: "InspectImage", Target: ref}, f.locked(func() error {
		found, ok := f.images[ref]
		if !ok {
			return fmt.Errorf("image %s: %w", ref, engine.ErrNotFound)
		}
		img = found.Image
		img.Labels = cloneMap(img.Labels)
		return nil
	}))
	return img, err
}

// ListImages implements engine.Images.
func (f *Fake) ListImages(ctx context.Context) (refs []string, err error) {
	err = f.do(ctx, Call{Op: "ListImages"}, f.locked(func() error {
		refs = slices.AppendSeq([]string{}, maps.Keys(f.images))
		slices.Sort(refs)
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// LoadImage implements engine.Images for archives of one image.
func (f *Fake) LoadImage(ctx context.Context, archive io.Reader) (refs []string, err error) {
	err = f.do(ctx, Call{Op: "LoadImage"}, func() error {
		img, names, err := readArchive(archive)
		if err != nil {
			return fmt.Errorf("load image: %w", err)
		}
		return f.locked(func() error {
			for _, ref := range names {
				f.images[ref] = img
			}
			refs = names
			return nil
		})()
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// SaveImages implements engine.Images. An image that AddImage made has no layers.
func (f *Fake) SaveImages(ctx context.Context, refs []string) (io.ReadCloser, error) {
	var archive []byte
	err := f.do(ctx, Call{Op: "SaveImages", Target: strings.Join(refs, " ")}, f.locked(func() (err error) {
		files := map[string][]byte{}
		var manifest []savedImage
		for _, ref := range refs {
			img, ok := f.images[ref]
			if !ok {
				return fmt.Errorf("save images: image %s: %w", ref, engine.ErrNotFound)
			}
			saved, err := img.save(ref, files)
			if err != nil {
				return err
			}
			manifest = append(manifest, saved)
		}
		if files["manifest.json"], err = json.Marshal(manifest); err != nil {
			return err
		}
		archive, err = pack(files)
		return err
	}))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(archive)), nil
}

// savedImage is an element of manifest.json.
type savedImage struct {
	Config           string
	RepoTags, Layers []string
}

// save adds the files of an image to those of an archive.
func (img fakeImage) save(ref string, files map[string][]byte) (savedImage, error) {
	config := img.config
	if config == nil {
		var err error
		config, err = json.Marshal(map[string]any{
			"architecture": img.Arch, "os": "linux", "config": map[string]any{"Labels": img.Labels},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{}},
		})
		if err != nil {
			return savedImage{}, err
		}
	}
	add := func(content []byte, suffix string) string {
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:]) + suffix
		files[name] = content
		return name
	}
	saved := savedImage{Config: add(config, ".json"), RepoTags: []string{ref}, Layers: []string{}}
	for _, layer := range img.layers {
		saved.Layers = append(saved.Layers, add(layer, ".tar"))
	}
	return saved, nil
}

// pack makes a tar archive.
func pack(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// PullImage implements engine.Images; the registry is filled by AddRemoteImage.
func (f *Fake) PullImage(ctx context.Context, ref string) error {
	return f.do(ctx, Call{Op: "PullImage", Target: ref}, f.locked(func() error {
		img, ok := f.remote[ref]
		if !ok {
			return fmt.Errorf("pull %s: %w", ref, errNoRegistry)
		}
		f.images[ref] = img
		return nil
	}))
}

// RemoveImage implements engine.Images. The last reference of an image that a
// container uses cannot be removed.
func (f *Fake) RemoveImage(ctx context.Context, ref string) error {
	return f.do(ctx, Call{Op: "RemoveImage", Target: ref}, f.locked(func() error {
		img, ok := f.images[ref]
		if !ok {
			return nil
		}
		refs := 0
		for _, other := range f.images {
			if other.ID == img.ID {
				refs++
			}
		}
		for _, c := range f.containers {
			if c.imageID == img.ID && refs == 1 {
				return fmt.Errorf("image %s: %w by container %s", ref, errInUse, c.spec.Name)
			}
		}
		delete(f.images, ref)
		return nil
	}))
}

// readArchive understands docker archives and OCI archives of one image.
func readArchive(archive io.Reader) (fakeImage, []string, error) {
	blobs := tree{}
	if err := blobs.unpack("/", archive); err != nil {
		return fakeImage{}, nil, fmt.Errorf("%w: %w", errNotArchive, err)
	}
	config, layers, refs, err := archiveIndex(blobs)
	if err != nil {
		return fakeImage{}, nil, err
	}
	var c struct {
		Architecture string
		Config       struct{ Labels map[string]string }
	}
	if err := blobs.json(config, &c); err != nil {
		return fakeImage{}, nil, err
	}
	sum := sha256.Sum256(blobs[config].content) // an image's ID is the digest of its configuration
	img := fakeImage{
		Image: engine.Image{ID: hex.EncodeToString(sum[:]), Labels: cloneMap(c.Config.Labels), Arch: c.Architecture},
		files: tree{}, config: blobs[config].content,
	}
	for _, layer := range layers {
		files, err := unpackLayer(blobs[layer].content)
		if err != nil {
			return fakeImage{}, nil, fmt.Errorf("layer %s: %w", layer, err)
		}
		img.Size += int64(len(blobs[layer].content))
		img.layers = append(img.layers, blobs[layer].content)
		img.files.merge(files)
	}
	return img, refs, nil
}

// archiveIndex finds the paths of an archive's configuration and layers, and
// the image's references.
func archiveIndex(blobs tree) (config string, layers, refs []string, err error) {
	if _, ok := blobs["/manifest.json"]; ok {
		var manifests []struct {
			Config           string
			RepoTags, Layers []string
		}
		if err := blobs.json("/manifest.json", &manifests); err != nil || len(manifests) != 1 {
			return "", nil, nil, errors.Join(errNotArchive, err)
		}
		for _, layer := range manifests[0].Layers {
			layers = append(layers, "/"+layer)
		}
		return "/" + manifests[0].Config, layers, manifests[0].RepoTags, nil
	}
	type descriptor struct {
		Digest      string
		Annotations map[string]string
	}
	var index struct{ Manifests []descriptor }
	if err := blobs.json("/index.json", &index); err != nil || len(index.Manifests) != 1 {
		return "", nil, nil, errors.Join(errNotArchive, err)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	if err := blobs.json(blob(index.Manifests[0].Digest), &manifest); err != nil {
		return "", nil, nil, err
	}
	for _, layer := range manifest.Layers {
		layers = append(layers, blob(layer.Digest))
	}
	if ref := index.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; ref != "" {
		refs = []string{ref}
	}
	return blob(manifest.Config.Digest), layers, refs, nil
}

// blob is the path of a blob in an OCI layout.
func blob(digest string) string { return "/blobs/" + strings.Replace(digest, ":", "/", 1) }

func (t tree) json(name string, v any) error {
	e, ok := t[name]
	if !ok || e.header.Typeflag != tar.TypeReg {
		return fmt.Errorf("%w: no %s", errNotArchive, name)
	}
	return json.Unmarshal(e.content, v)
}

func unpackLayer(content []byte) (tree, error) {
	var r io.Reader = bytes.NewReader(content)
	if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	files := tree{}
	if err := files.unpack("/", r); err != nil {
		return nil, err
	}
	for name, e := range files {
		e.copied = false
		files[name] = e
	}
	return files, nil
}
