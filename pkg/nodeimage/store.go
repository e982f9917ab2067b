// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// store is what containerd's root folder holds once images are pulled and
// unpacked, in a form that can be written down. It is made without running
// containerd: that needs mounts and user namespaces, and puts the time of day
// into everything.
type store struct {
	epoch     time.Time
	snapshots []snapshot // parents first; the ID of each is its index plus one
	images    []storedImage
}

// snapshot is an unpacked layer.
type snapshot struct {
	chainID string
	parent  int // ID; 0 for none
	files   *tree
}

// storedImage is an image whose layers are snapshots.
type storedImage struct {
	ref      string
	manifest blob
	config   blob
	chainID  string
}

// addLayer adds a layer on top of the snapshot parent (0 for none), or finds
// it, and returns its ID and its description.
func (s *store) addLayer(parent int, files *tree) (int, layer, error) {
	l, err := describe(func(w io.Writer) error { return files.write(w, s.epoch) })
	if err != nil {
		return 0, layer{}, err
	}
	chain := l.Hash.String()
	if parent > 0 {
		chain = chainID(s.snapshots[parent-1].chainID, chain)
	}
	if id := s.find(chain); id > 0 {
		return id, l, nil
	}
	s.snapshots = append(s.snapshots, snapshot{chain, parent, files})
	return len(s.snapshots), l, nil
}

// find returns the ID of the snapshot of a stack of layers, 0 for none.
func (s *store) find(chainID string) int {
	return 1 + slices.IndexFunc(s.snapshots, func(existing snapshot) bool { return existing.chainID == chainID })
}

// chainID identifies a stack of layers, see the OCI image specification,
// section "Layer ChainID".
func chainID(parent, diffID string) string {
	sum := sha256.Sum256([]byte(parent + " " + diffID))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// The places of the store in a node. The store itself is part of the node
// image, so all nodes of a machine share it; what is copied into a node's own
// containerd folder is a seed: two databases, and links to the rest.
const (
	sharedDir   = "/usr/lib/rk/containerd"
	contentDir  = "io.containerd.content.v1.content"
	metadataDir = "io.containerd.metadata.v1.bolt"
	namespace   = "k8s.io" // of the kubelet's containers
)

// snapshotters that a seed is made for; rk-setup picks one of them.
var snapshotters = []string{"overlayfs", "fuse-overlayfs"}

// files returns the store and its seeds as they lie in a node image.
func (s *store) files() (*tree, error) {
	t := newTree()
	for i, snap := range s.snapshots {
		root := fmt.Sprintf("%s/snapshots/%d/fs", sharedDir, i+1)
		t.dir(root, 0o755)
		t.merge(root, snap.files)
	}
	for _, b := range s.blobs() {
		t.data(sharedDir+"/blobs/sha256/"+b.Hash.Hex, 0o444, b.Data)
	}
	// What rk-setup tries overlayfs on.
	t.data(sharedDir+"/probe/changed", 0o644, []byte("x\n"))
	t.data(sharedDir+"/probe/removed", 0o644, []byte("x\n"))
	for _, name := range snapshotters {
		if err := s.seed(t, name); err != nil {
			return nil, fmt.Errorf("containerd store for %s: %w", name, err)
		}
	}
	return t, nil
}

// seed adds what is copied into a node's containerd folder.
func (s *store) seed(t *tree, snapshotter string) error {
	root := sharedDir + "/seed/" + snapshotter
	own := root + "/io.containerd.snapshotter.v1." + snapshotter
	t.dir(root, 0o711)
	t.dir(own, 0o700)
	t.dir(own+"/snapshots", 0o700)
	for i := range s.snapshots {
		t.link(fmt.Sprintf("%s/snapshots/%d", own, i+1), fmt.Sprintf("%s/snapshots/%d", sharedDir, i+1))
	}
	for _, b := range s.blobs() {
		t.link(root+"/"+contentDir+"/blobs/sha256/"+b.Hash.Hex, sharedDir+"/blobs/sha256/"+b.Hash.Hex)
	}
	for _, db := range []struct {
		path    string
		content func() (*bucket, error)
	}{
		{root + "/" + metadataDir + "/meta.db", func() (*bucket, error) { return s.metadata(snapshotter) }},
		{own + "/metadata.db", s.snapshotMetadata},
	} {
		content, err := db.content()
		if err != nil {
			return err
		}
		data, err := buildDB(content)
		if err != nil {
			return err
		}
		t.data(db.path, 0o600, data)
	}
	return nil
}

// blobs returns each manifest and config once, by digest.
func (s *store) blobs() []blob {
	var out []blob
	for _, img := range s.images {
		out = append(out, img.manifest, img.config)
	}
	slices.SortFunc(out, func(a, b blob) int { return strings.Compare(a.Hash.Hex, b.Hash.Hex) })
	return slices.CompactFunc(out, func(a, b blob) bool { return a.Hash == b.Hash })
}
