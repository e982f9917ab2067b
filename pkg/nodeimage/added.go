// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// AddedImage is an image that a node image holds beside those of a cluster.
type AddedImage struct {
	Archive *imagearchive.Archive // it stays open until the build is over
	Image   imagearchive.Image    // one of it, for the architecture of the node image; Names are full ones
}

// LabelAdded lists the images that were added to a node image: a JSON array of
// references. An image without them does not have it.
const LabelAdded = "io.rk.added-images"

// CustomRef returns the reference of a node image with added images: name in
// full, "localhost/" in front unless it names a registry, and "latest" if it
// has no tag; without a name it is that of the Kubernetes version.
func CustomRef(name, kubernetesVersion string) (string, error) {
	if name == "" {
		return "localhost/rk-node-custom:" + kubernetesVersion, nil
	}
	if strings.Contains(name, "@") {
		return "", fmt.Errorf("%q has a digest, which only the image itself can have", name)
	}
	if host, _, ok := strings.Cut(name, "/"); !ok || host != "localhost" && !strings.ContainsAny(host, ".:") {
		name = "localhost/" + name
	}
	return imagearchive.FullName(name)
}

// addedKey is what the layer of added images depends on.
type addedKey struct {
	Names, ChainIDs  []string
	Manifest, Config string // digests
}

// addedKeys returns it for each image; the images' names, too.
func addedKeys(images []AddedImage) (keys []addedKey, names []string, err error) {
	for _, a := range images {
		manifest, config, err := a.blobs()
		if err != nil {
			return nil, nil, err
		}
		k := addedKey{Names: a.Image.Names, Manifest: manifest.Hash.String(), Config: config.Hash.String()}
		for _, l := range a.Image.Layers {
			k.ChainIDs = append(k.ChainIDs, l.ChainID)
		}
		keys = append(keys, k)
		names = append(names, a.Image.Names...)
	}
	return keys, names, nil
}

func (a AddedImage) blobs() (manifest, config blob, err error) {
	data, mediaType := a.Image.Manifest()
	if manifest, err = newBlob(data); err != nil {
		return manifest, config, err
	}
	manifest.mediaType = mediaType
	config, err = newBlob(a.Image.Config())
	return manifest, config, err
}

// addedStage makes the layer with the added images. It lies on top of the store
// of the cluster's images, which stays the same layer with and without them.
func (b *builder) addedStage(ctx context.Context, cluster func() (*store, error), inputs ...any) error {
	keys, names, err := addedKeys(b.Add)
	if err != nil {
		return err
	}
	b.addedNames = names
	return b.treeStage(&b.added, "added", "Added images", func() (*tree, error) { return b.addedTree(ctx, cluster) },
		append(inputs, keys)...)
}

// addedTree returns what the added images change in the store.
func (b *builder) addedTree(ctx context.Context, cluster func() (*store, error)) (*tree, error) {
	base, err := cluster()
	if err != nil {
		return nil, err
	}
	before, err := base.files()
	if err != nil {
		return nil, err
	}
	if b.scratch, err = os.MkdirTemp(b.CacheDir, "tmp-added-"); err != nil {
		return nil, err
	}
	all := &store{epoch: base.epoch, snapshots: slices.Clone(base.snapshots), images: slices.Clone(base.images)}
	for _, a := range b.Add {
		b.report.detail("added")("unpacking " + strings.Join(a.Image.Names, ", "))
		if err := all.addArchived(ctx, a, b.scratch); err != nil {
			return nil, err
		}
	}
	after, err := all.files()
	if err != nil {
		return nil, err
	}
	return after.beyond(before), nil
}

// beyond returns the entries that other does not have, and the databases, with
// the directories above them.
func (t *tree) beyond(other *tree) *tree {
	out := newTree()
	for p, e := range t.entries {
		if _, ok := other.entries[p]; ok && path.Ext(p) != ".db" {
			continue
		}
		for ; ; p = path.Dir(p) {
			if _, ok := out.entries[p]; ok {
				break
			}
			out.entries[p] = e
			if e = t.entries[path.Dir(p)]; path.Dir(p) == "/" {
				break
			}
		}
	}
	return out
}

// addArchived adds an image with its layers. A snapshot cannot hold whiteouts,
// as neither a layer of the node image can carry them nor a rootless engine
// make the devices that overlayfs has for them: a layer that takes away files
// gets a snapshot that stands alone and holds the files below it, too.
func (s *store) addArchived(ctx context.Context, a AddedImage, scratch string) error {
	layers := a.Image.Layers
	if len(layers) == 0 {
		return problem.ArchiveUnreadable.With("Add an image that has files.").
			Wrapf("the image %s has no layers", strings.Join(a.Image.Names, ", "))
	}
	id, from := 0, 0
	for i, l := range layers {
		if found := s.find(l.ChainID); found > 0 {
			id, from = found, i+1
		}
	}
	var files view
	for i, l := range layers[from:] {
		changes, err := unpackLayer(ctx, a.Archive, l, scratch)
		if err != nil {
			return err
		}
		if files == nil {
			files = viewOf(s, id)
		}
		own, removes, err := files.apply(from+i, changes)
		if err != nil {
			return problem.ArchiveUnreadable.With("Build the image again.").Wrapf("layer %s: %w", l.Digest, err)
		}
		if removes {
			own, id = files, 0
		}
		s.snapshots = append(s.snapshots, snapshot{l.ChainID, id, own.tree()})
		id = len(s.snapshots)
	}
	manifest, config, err := a.blobs()
	if err != nil {
		return err
	}
	for _, name := range a.Image.Names {
		if other := slices.IndexFunc(s.images, func(img storedImage) bool { return img.ref == name }); other >= 0 {
			if s.images[other].config.Hash == config.Hash {
				continue
			}
			return problem.InvalidUsage.With("Give each image a name of its own.").Wrapf("two images of the node image would be called %s", name)
		}
		s.images = append(s.images, storedImage{name, manifest, config, s.snapshots[id-1].chainID})
	}
	return nil
}

// unpackLayer writes a layer to a file below scratch, once for all images, and
// reads what is in it.
func unpackLayer(ctx context.Context, archive *imagearchive.Archive, l imagearchive.Layer, scratch string) (*layerChanges, error) {
	file := filepath.Join(scratch, path.Base(strings.Replace(l.DiffID, ":", "-", 1)))
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		if err := unpackTo(ctx, archive, l, file); err != nil {
			return nil, err
		}
	}
	changes, err := readLayer(file)
	if err != nil {
		return nil, problem.ArchiveUnreadable.With("Build the image again.").Wrapf("layer %s: %w", l.Digest, err)
	}
	return changes, nil
}

func unpackTo(ctx context.Context, archive *imagearchive.Archive, l imagearchive.Layer, file string) error {
	err := create(file, func(w io.Writer) error { return archive.Unpack(ctx, w, l) })
	if errors.Is(err, syscall.ENOSPC) {
		err = problem.DiskFull.Withf("Added images are unpacked in %s. Free space there, or put the cache on another disk with XDG_CACHE_HOME.", filepath.Dir(file)).Wrap(err)
	}
	return err
}
