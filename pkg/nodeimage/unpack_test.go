// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var later = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// tarOf writes a layer. A line is "dir/", "file=content", "link>target",
// "hardlink&target" or the name of a whiteout.
func tarOf(t *testing.T, lines ...string) []byte {
	t.Helper()
	buf := &bytes.Buffer{}
	w := tar.NewWriter(buf)
	for _, line := range lines {
		h := tar.Header{Typeflag: tar.TypeReg, Name: line, Mode: 0o640, Uid: 7, ModTime: later}
		content := ""
		switch {
		case strings.HasSuffix(line, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o711
		case strings.Contains(line, "="):
			h.Name, content, _ = strings.Cut(line, "=")
			h.Size = int64(len(content))
		case strings.Contains(line, ">"):
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
			h.Name, h.Linkname, _ = strings.Cut(line, ">")
		case strings.Contains(line, "&"):
			h.Typeflag = tar.TypeLink
			h.Name, h.Linkname, _ = strings.Cut(line, "&")
		case strings.HasPrefix(line, "dev"):
			h.Typeflag = tar.TypeChar
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func changesOf(t *testing.T, lines ...string) *layerChanges {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(file, tarOf(t, lines...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readLayer(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// short lists a view as its snapshot has it, with the times that are not the epoch's left out.
func short(t *testing.T, v view) []string {
	t.Helper()
	var out []string
	for _, line := range list(t, written(t, v.tree())) {
		line, _, _ = strings.Cut(line, " at ")
		out = append(out, line)
	}
	return out
}

func TestApply(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lower, upper []string
		own          []string // of the upper layer
		all          []string
		removes      bool
	}{
		"a file is replaced": {
			lower: []string{"etc/", "etc/a=1"}, upper: []string{"etc/a=2"},
			own: []string{"5 0711 etc/", "0 0640 etc/a 2"},
			all: []string{"5 0711 etc/", "0 0640 etc/a 2"},
		},
		"a file is removed": {
			lower: []string{"etc/", "etc/a=1", "etc/b=1"}, upper: []string{"etc/.wh.a", "etc/c=2"},
			own:     []string{"5 0711 etc/", "0 0640 etc/c 2"},
			all:     []string{"5 0711 etc/", "0 0640 etc/b 1", "0 0640 etc/c 2"},
			removes: true,
		},
		"what is not there is removed": {
			lower: []string{"a=1"}, upper: []string{".wh.b", ".wh..wh.plnk", "dev"},
			all: []string{"0 0640 a 1"},
		},
		"a directory is removed, and another made in its place": {
			lower: []string{"d/", "d/a=1"}, upper: []string{".wh.d", "d/", "d/b=2"},
			own:     []string{"5 0711 d/", "0 0640 d/b 2"},
			all:     []string{"5 0711 d/", "0 0640 d/b 2"},
			removes: true,
		},
		"a directory is emptied": {
			lower: []string{"d/", "d/a=1", "d.e=1"}, upper: []string{"d/", "d/b=2", "d/.wh..wh..opq"},
			own:     []string{"5 0711 d/", "0 0640 d/b 2"},
			all:     []string{"5 0711 d/", "0 0640 d/b 2", "0 0640 d.e 1"},
			removes: true,
		},
		"a directory becomes a file": {
			lower: []string{"d/", "d/a=1"}, upper: []string{"d=2"},
			own: []string{"0 0640 d 2"},
			all: []string{"0 0640 d 2"},
		},
		"a link below stays a link": {
			lower: []string{"usr/", "usr/lib/", "lib>usr/lib"}, upper: []string{"lib/a=2"},
			own: []string{"5 0711 usr/", "5 0711 usr/lib/", "0 0640 usr/lib/a 2"},
			all: []string{"2 0777 lib -> usr/lib", "5 0711 usr/", "5 0711 usr/lib/", "0 0640 usr/lib/a 2"},
		},
		"links cannot lead out": {
			lower: []string{"x>../../../../etc"}, upper: []string{"x/a=2", "../../b=2"},
			own: []string{"0 0640 b 2", "5 0755 etc/", "0 0640 etc/a 2"},
			all: []string{"0 0640 b 2", "5 0755 etc/", "0 0640 etc/a 2", "2 0777 x -> ../../../../etc"},
		},
		"a hard link comes before its file": {
			upper: []string{"z=2", "a&z"},
			own:   []string{"0 0640 a 2", "1 0640 z -> a"},
			all:   []string{"0 0640 a 2", "1 0640 z -> a"},
		},
		"a hard link to a file below is a copy": {
			lower: []string{"z=1"}, upper: []string{"a&z"},
			own: []string{"0 0640 a 1"},
			all: []string{"0 0640 a 1", "1 0640 z -> a"},
		},
		"a hard link outlives the first name": {
			lower: []string{"a=1", "b&a", "c&b"}, upper: []string{".wh.a"},
			all:     []string{"0 0640 b 1", "1 0640 c -> b"},
			removes: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := view{}
			if _, _, err := v.apply(0, changesOf(t, c.lower...)); err != nil {
				t.Fatal(err)
			}
			own, removes, err := v.apply(1, changesOf(t, c.upper...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.own, short(t, own)); diff != "" {
				t.Errorf("own files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.all, short(t, v)); diff != "" {
				t.Errorf("all files (-want +got):\n%s", diff)
			}
			if removes != c.removes {
				t.Errorf("removes is %v, want %v", removes, c.removes)
			}
		})
	}
	if _, _, err := (view{}).apply(0, changesOf(t, "a&nothing")); err == nil {
		t.Error("a hard link to nothing is taken")
	}
}

// Files keep their owners and times; what is made for them has the epoch's.
func TestUnpackedTimes(t *testing.T) {
	t.Parallel()
	v := view{}
	if _, _, err := v.apply(0, changesOf(t, "a/b=1")); err != nil {
		t.Fatal(err)
	}
	outer := newTree()
	outer.merge("/s", v.tree())
	want := []string{"5 0755 s/", "5 0755 s/a/", "0 0640 s/a/b 1 at " + later.Local().String()}
	if diff := cmp.Diff(want, list(t, written(t, outer))); diff != "" {
		t.Error(diff)
	}
	if got := outer.entries["/s/a/b"].header.Uid; got != 7 {
		t.Errorf("user ID %d, want 7", got)
	}
}

// A file of several pieces is told, not misread.
func TestSparse(t *testing.T) {
	t.Parallel()
	c := &layerChanges{}
	for _, h := range []tar.Header{
		{Name: "a", Typeflag: tar.TypeGNUSparse},
		{Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"GNU.sparse.major": "1"}},
	} {
		if err := c.add(&h, nil); err == nil {
			t.Errorf("%+v is taken", h)
		}
	}
}

// The files of a snapshot with those below it, for a layer to go on top.
func TestViewOfSnapshots(t *testing.T) {
	t.Parallel()
	s := &store{epoch: epoch}
	base := view{}
	if _, _, err := base.apply(0, changesOf(t, "etc/", "etc/a=1", "etc/b&etc/a")); err != nil {
		t.Fatal(err)
	}
	s.snapshots = []snapshot{{chainID: "sha256:0", files: base.tree()}}
	top := newTree()
	top.data("/etc/c", 0o644, []byte("3"))
	id, _, err := s.addLayer(1, top)
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(s, id)
	if _, removes, err := v.apply(2, changesOf(t, "etc/.wh.a")); err != nil || !removes {
		t.Fatal(removes, err)
	}
	want := []string{"5 0755 etc/", "0 0640 etc/b 1", "0 0644 etc/c 3"}
	if diff := cmp.Diff(want, short(t, v)); diff != "" {
		t.Error(diff)
	}
}
