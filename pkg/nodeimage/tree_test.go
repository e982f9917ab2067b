// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// list returns a line for each entry of a tar archive.
func list(t *testing.T, data []byte) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %04o %s", h.Typeflag, h.Mode, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(content) > 0 {
			line += " " + string(content)
		}
		if !h.ModTime.Equal(epoch) {
			line += " at " + h.ModTime.String()
		}
		if h.Uname != "" || h.Gname != "" {
			line += " of " + h.Uname + ":" + h.Gname
		}
		out = append(out, line)
	}
}

func written(t *testing.T, tr *tree) []byte {
	t.Helper()
	buf := &bytes.Buffer{}
	if err := tr.write(buf, epoch); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTreeWrite(t *testing.T) {
	t.Parallel()
	tr := newTree()
	tr.data("/a.b/file", 0o644, []byte("1"))
	tr.data("/a/b/deep", 0o755, []byte("2"))
	tr.link("/a/link", "b/deep")
	tr.dir("/a/b", 0o700)
	tr.data("/a.b/file", 0o600, []byte("3")) // replaces
	want := []string{
		"5 0755 a/",
		"5 0700 a/b/",
		"0 0755 a/b/deep 2",
		"2 0777 a/link -> b/deep",
		"5 0755 a.b/",
		"0 0600 a.b/file 3",
	}
	if diff := cmp.Diff(want, list(t, written(t, tr))); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestTreeOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	names := []string{"/usr/bin/a", "/usr/bin/b", "/etc/c", "/usr/lib/d"}
	first, second := newTree(), newTree()
	for i := range names {
		first.data(names[i], 0o644, []byte(names[i]))
		second.data(names[len(names)-1-i], 0o644, []byte(names[len(names)-1-i]))
	}
	if !bytes.Equal(written(t, first), written(t, second)) {
		t.Error("the same files in another order give another archive")
	}
}

func TestTreeMerge(t *testing.T) {
	t.Parallel()
	inner := newTree()
	inner.data("/bin/x", 0o755, []byte("x"))
	inner.add(tar.Header{Typeflag: tar.TypeLink, Name: "/bin/y", Linkname: "/bin/x"}, nil)
	outer := newTree()
	outer.merge("/snapshots/1/fs", inner)
	got := strings.Join(list(t, written(t, outer)), "\n")
	for _, want := range []string{"0 0755 snapshots/1/fs/bin/x x", "snapshots/1/fs/bin/y -> snapshots/1/fs/bin/x"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestNormalKeepsOwnersAndAttributes(t *testing.T) {
	t.Parallel()
	in := tar.Header{
		Typeflag: tar.TypeReg, Name: "./usr/bin/ping", Mode: 0o100755, Uid: 3, Gid: 4, Uname: "sys", Gname: "adm",
		ModTime: time.Now(), AccessTime: time.Now(), Size: 7,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "v", "LIBARCHIVE.creationtime": "1"},
	}
	want := tar.Header{
		Typeflag: tar.TypeReg, Name: "usr/bin/ping", Mode: 0o755, Uid: 3, Gid: 4, ModTime: epoch, Size: 7, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "v"},
	}
	if diff := cmp.Diff(want, normal(in, epoch)); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}
