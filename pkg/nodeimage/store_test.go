// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

var update = flag.Bool("update", false, "write the golden files anew")

// dump returns a line for each bucket and value of a bolt database.
func dump(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	out := &strings.Builder{}
	var walk func(b *bolt.Bucket, indent string) error
	walk = func(b *bolt.Bucket, indent string) error {
		return b.ForEach(func(k, v []byte) error {
			if child := b.Bucket(k); child != nil {
				fmt.Fprintf(out, "%s%s", indent, printable(k))
				if child.Sequence() > 0 {
					fmt.Fprintf(out, " sequence %d", child.Sequence())
				}
				fmt.Fprintln(out)
				return walk(child, indent+"  ")
			}
			fmt.Fprintf(out, "%s%s = %s\n", indent, printable(k), printable(v))
			return nil
		})
	}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			fmt.Fprintf(out, "%s\n", name)
			return walk(b, "  ")
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func printable(b []byte) string {
	if len(b) > 0 && strings.IndexFunc(string(b), func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return string(b)
	}
	return fmt.Sprintf("%x", b)
}

// sample is a store with two images on one base and one that stands alone.
func sample(t *testing.T) *store {
	t.Helper()
	s := &store{epoch: epoch}
	layer := func(parent int, name string) int {
		files := newTree()
		files.data("/bin/"+name, 0o755, []byte(name))
		id, _, err := s.addLayer(parent, files)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	base := layer(0, "iptables")
	for _, img := range []struct {
		name  string
		layer int
	}{{"proxy", layer(base, "proxy")}, {"flannel", layer(base, "flanneld")}, {"pause", layer(0, "pause")}} {
		manifest, err := newBlob([]byte("manifest of " + img.name))
		if err != nil {
			t.Fatal(err)
		}
		config, err := newBlob([]byte("config of " + img.name))
		if err != nil {
			t.Fatal(err)
		}
		s.images = append(s.images, storedImage{"localhost/rk/" + img.name + ":v1", manifest, config, s.snapshots[img.layer-1].chainID})
	}
	return s
}

func build(t *testing.T, content *bucket, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	data, err := buildDB(content)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestStoreMatchesContainerd compares such databases with containerd's own.
func TestStoreDatabases(t *testing.T) {
	t.Parallel()
	s := sample(t)
	metadata, err := s.metadata("overlayfs")
	golden(t, "meta.db.golden", dump(t, build(t, metadata, err)))
	snapshots, err := s.snapshotMetadata()
	golden(t, "metadata.db.golden", dump(t, build(t, snapshots, err)))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestStoreIsReproducible(t *testing.T) {
	t.Parallel()
	write := func() []byte {
		files, err := sample(t).files()
		if err != nil {
			t.Fatal(err)
		}
		return written(t, files)
	}
	if !bytes.Equal(write(), write()) {
		t.Error("the same images give another layer")
	}
}

func TestStoreSharesLayers(t *testing.T) {
	t.Parallel()
	s := sample(t)
	if len(s.snapshots) != 4 { // base, proxy, flannel, pause
		t.Fatalf("%d snapshots, want 4", len(s.snapshots))
	}
	again := newTree()
	again.data("/bin/iptables", 0o755, []byte("iptables"))
	id, _, err := s.addLayer(0, again)
	if err != nil {
		t.Fatal(err)
	}
	if id != 1 || len(s.snapshots) != 4 {
		t.Errorf("the same layer again is snapshot %d of %d, want 1 of 4", id, len(s.snapshots))
	}
}

// A seed holds databases and links only, and each link leads to something
// that is in the image.
func TestSeed(t *testing.T) {
	t.Parallel()
	files, err := sample(t).files()
	if err != nil {
		t.Fatal(err)
	}
	for _, snapshotter := range snapshotters {
		root := sharedDir + "/seed/" + snapshotter
		links, databases := 0, 0
		for name, e := range files.entries {
			if !strings.HasPrefix(name, root+"/") {
				continue
			}
			switch {
			case e.header.Linkname != "":
				links++
				if _, ok := files.entries[e.header.Linkname]; !ok {
					t.Errorf("%s leads to %s, which is not there", name, e.header.Linkname)
				}
			case e.content != nil:
				databases++
				if e.header.Size > 1<<20 {
					t.Errorf("%s has %d bytes; it is copied into each node", name, e.header.Size)
				}
			}
		}
		if links != 4+6 || databases != 2 { // snapshots, blobs; databases
			t.Errorf("%s: %d links and %d databases, want 10 and 2", snapshotter, links, databases)
		}
		own := root + "/io.containerd.snapshotter.v1." + snapshotter + "/metadata.db"
		if _, ok := files.entries[own]; !ok {
			t.Errorf("there is no %s", own)
		}
	}
}

// containerd gives the next snapshot the bucket's sequence plus one as its ID;
// it must not be one of those that are there.
func TestSnapshotSequence(t *testing.T) {
	t.Parallel()
	s := sample(t)
	b, err := s.snapshotMetadata()
	if err != nil {
		t.Fatal(err)
	}
	var highest uint64
	for _, snap := range b.sub("v1", "snapshots").buckets {
		id, _ := binary.Uvarint(snap.values["id"])
		highest = max(highest, id)
	}
	if got := b.sub("v1", "snapshots").sequence; got < highest || highest != 4 {
		t.Errorf("sequence %d, highest ID %d; want 4 and 4", got, highest)
	}
}
