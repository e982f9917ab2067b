// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	bolt "go.etcd.io/bbolt"
)

// bucket is the content of a bolt bucket.
type bucket struct {
	sequence uint64
	values   map[string][]byte
	buckets  map[string]*bucket
}

func newBucket() *bucket {
	return &bucket{values: map[string][]byte{}, buckets: map[string]*bucket{}}
}

// sub returns the bucket at a path below b, which it makes.
func (b *bucket) sub(names ...string) *bucket {
	for _, name := range names {
		if b.buckets[name] == nil {
			b.buckets[name] = newBucket()
		}
		b = b.buckets[name]
	}
	return b
}

// labels adds the map as the bucket "labels".
func (b *bucket) labels(labels map[string]string) {
	for k, v := range labels {
		b.sub("labels").values[k] = []byte(v)
	}
}

// times adds the fields that containerd calls createdat and updatedat.
func (b *bucket) times(t time.Time) error {
	data, err := t.UTC().MarshalBinary()
	b.values["createdat"], b.values["updatedat"] = data, data
	return err
}

func varint(n int64) []byte   { return binary.AppendVarint(nil, n) }
func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// dbPageSize is fixed so that a database does not depend on the page size of
// the machine that made it.
const dbPageSize = 4096

// buildDB returns a bolt database with the given content. Each bucket is
// written in a transaction of its own: a transaction that writes several
// buckets gives them their pages in a random order. So the same content gives
// the same bytes.
func buildDB(content *bucket) ([]byte, error) {
	dir, err := os.MkdirTemp("", "rk-db-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: dbPageSize, NoSync: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	for _, name := range slices.Sorted(maps.Keys(content.buckets)) {
		if err := fill(db, []string{name}, content.buckets[name]); err != nil {
			return nil, err
		}
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// fill writes the bucket at the given path, and those in it.
func fill(db *bolt.DB, at []string, content *bucket) error {
	err := db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(at[0]))
		for _, name := range at[1:] {
			if err == nil {
				b, err = b.CreateBucketIfNotExists([]byte(name))
			}
		}
		if err != nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(content.values)) {
			if err := b.Put([]byte(k), content.values[k]); err != nil {
				return fmt.Errorf("%q: %w", k, err)
			}
		}
		if content.sequence > 0 {
			return b.SetSequence(content.sequence)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", strings.Join(at, "/"), err)
	}
	for _, name := range slices.Sorted(maps.Keys(content.buckets)) {
		if err := fill(db, append(slices.Clone(at), name), content.buckets[name]); err != nil {
			return err
		}
	}
	return nil
}

// metadataVersion is dbVersion of containerd's core/metadata/db.go. A newer
// containerd migrates an older database by itself.
const metadataVersion = 4

// metadata is containerd's own database, meta.db: the schema is documented in
// core/metadata/buckets.go of containerd.
func (s *store) metadata(snapshotter string) (*bucket, error) {
	root := newBucket()
	root.sub("v1").values["version"] = varint(metadataVersion)
	ns := root.sub("v1", namespace)
	snaps := ns.sub("snapshots", snapshotter)
	snaps.sequence = uint64(len(s.snapshots))
	for i, snap := range s.snapshots {
		b := snaps.sub(snap.chainID)
		if err := b.times(s.epoch); err != nil {
			return nil, err
		}
		b.values["name"] = []byte(snapshotKey(i+1, snap.chainID))
		if snap.parent > 0 {
			parent := s.snapshots[snap.parent-1].chainID
			b.values["parent"] = []byte(parent)
			snaps.sub(parent, "children").values[snap.chainID] = nil
		}
	}
	for _, img := range s.images {
		if err := s.image(ns, snapshotter, img); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (s *store) image(ns *bucket, snapshotter string, img storedImage) error {
	// As the CRI plugin does, which keeps a record of an image under its
	// name and under its ID. All are pinned: to delete them frees nothing.
	for _, name := range []string{img.ref, img.config.Hash.String()} {
		b := ns.sub("images", name)
		if err := b.times(s.epoch); err != nil {
			return err
		}
		b.labels(map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"})
		target := b.sub("target").values
		target["digest"] = []byte(img.manifest.Hash.String())
		target["mediatype"] = []byte(cmp.Or(img.manifest.mediaType, string(types.OCIManifestSchema1)))
		target["size"] = varint(int64(len(img.manifest.Data)))
	}
	// The labels keep the garbage collector off what is referred to.
	for _, c := range []struct {
		blob  blob
		label string
		ref   string
	}{
		{img.manifest, "containerd.io/gc.ref.content.config", img.config.Hash.String()},
		{img.config, "containerd.io/gc.ref.snapshot." + snapshotter, img.chainID},
	} {
		b := ns.sub("content", "blob", c.blob.Hash.String())
		if err := b.times(s.epoch); err != nil {
			return err
		}
		b.values["size"] = varint(int64(len(c.blob.Data)))
		b.labels(map[string]string{c.label: c.ref})
	}
	return nil
}

// kindCommitted is KindCommitted of containerd's core/snapshots/snapshotter.go.
const kindCommitted = 3

// snapshotMetadata is a snapshotter's database, metadata.db: the schema is in
// core/snapshots/storage/bolt.go of containerd.
func (s *store) snapshotMetadata() (*bucket, error) {
	root := newBucket()
	snaps, parents := root.sub("v1", "snapshots"), root.sub("v1", "parents")
	snaps.sequence = uint64(len(s.snapshots))
	for i, snap := range s.snapshots {
		id := i + 1
		key := snapshotKey(id, snap.chainID)
		b := snaps.sub(key)
		if err := b.times(s.epoch); err != nil {
			return nil, err
		}
		b.values["id"] = uvarint(uint64(id))
		b.values["kind"] = []byte{kindCommitted}
		b.values["inodes"] = varint(int64(len(snap.files.entries) + 1))
		b.values["size"] = varint(snap.files.diskUsage())
		if snap.parent > 0 {
			b.values["parent"] = []byte(snapshotKey(snap.parent, s.snapshots[snap.parent-1].chainID))
			parents.values[parentKey(uint64(snap.parent), uint64(id))] = []byte(key)
		}
	}
	return root, nil
}

// snapshotKey is the name of a snapshot in the snapshotter's database.
func snapshotKey(id int, chainID string) string {
	return fmt.Sprintf("%s/%d/%s", namespace, id, chainID)
}

// parentKey is parentKey of containerd's core/snapshots/storage/bolt.go.
func parentKey(parent, child uint64) string {
	b := make([]byte, binary.Size([]uint64{parent, child})+1)
	i := binary.PutUvarint(b, parent)
	j := binary.PutUvarint(b[i+1:], child)
	return string(b[:i+j+1])
}
