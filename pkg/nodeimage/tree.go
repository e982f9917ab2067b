// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is a file, directory or link of a tree.
type entry struct {
	header   tar.Header // Name is clean and absolute
	content  opener     // of a regular file
	keepTime bool       // of the header; else all entries get the same
}

// opener opens the content of a file. It may be called more than once.
type opener func() (io.ReadCloser, error)

// tree is a set of files that becomes a layer: sorted, owned by root, all with
// the same time, so that the same files are the same bytes.
type tree struct {
	entries map[string]entry // by absolute path
}

func newTree() *tree { return &tree{entries: map[string]entry{}} }

// dir adds a directory.
func (t *tree) dir(name string, mode int64) {
	t.add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil)
}

// data adds a regular file with the given content.
func (t *tree) data(name string, mode int64, content []byte) {
	t.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
}

// file adds a regular file with the content of a file of this machine.
func (t *tree) file(name string, mode int64, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	t.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}, func() (io.ReadCloser, error) {
		return os.Open(from)
	})
	return nil
}

// link adds a symbolic link.
func (t *tree) link(name, target string) {
	t.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

// add adds an entry, and the directories above it that are missing, with mode
// 0755. A later entry replaces an earlier one of the same path.
func (t *tree) add(h tar.Header, content opener) {
	h.Name = path.Join("/", h.Name)
	t.entries[h.Name] = entry{header: h, content: content}
	for p := path.Dir(h.Name); p != "/"; p = path.Dir(p) {
		if _, ok := t.entries[p]; ok {
			break
		}
		t.entries[p] = entry{header: tar.Header{Typeflag: tar.TypeDir, Name: p, Mode: 0o755}}
	}
}

// merge adds all entries of another tree below prefix.
func (t *tree) merge(prefix string, other *tree) {
	for _, p := range other.paths() {
		e := other.entries[p]
		h := e.header
		h.Name = path.Join(prefix, h.Name)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Join(prefix, h.Linkname)
		}
		t.add(h, e.content)
		if e.keepTime {
			t.keepTime(h.Name)
		}
	}
}

// keepTime leaves an entry the time that its header says.
func (t *tree) keepTime(name string) {
	e := t.entries[name]
	e.keepTime = true
	t.entries[name] = e
}

// paths returns the path of each entry, parents first.
func (t *tree) paths() []string {
	out := make([]string, 0, len(t.entries))
	for p := range t.entries {
		out = append(out, p)
	}
	slices.SortFunc(out, comparePaths)
	return out
}

// comparePaths puts "/a/b" before "/a.b".
func comparePaths(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}

// diskUsage returns what the tree takes on a file system with blocks of 4 KiB,
// in bytes, its root directory included.
func (t *tree) diskUsage() int64 {
	const block = 4096
	n := int64(block)
	for _, e := range t.entries {
		switch e.header.Typeflag {
		case tar.TypeDir:
			n += block
		case tar.TypeReg:
			n += (e.header.Size + block - 1) / block * block
		}
	}
	return n
}

// write writes the tree as a tar archive, every entry with the given time
// unless it keeps its own.
func (t *tree) write(w io.Writer, epoch time.Time) error {
	tw := tar.NewWriter(w)
	for _, p := range t.paths() {
		e := t.entries[p]
		at := epoch
		if e.keepTime {
			at = e.header.ModTime
		}
		h := normal(e.header, at)
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := copyFile(tw, e); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return tw.Close()
}

func copyFile(w io.Writer, e entry) error {
	r, err := e.content()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.Copy(w, r)
	return err
}

// normal returns h with everything removed that does not belong to what the
// file is: names of users and groups, other times, the archive's own format.
// Owners and extended attributes stay.
func normal(h tar.Header, epoch time.Time) tar.Header {
	out := tar.Header{
		Typeflag: h.Typeflag,
		Name:     strings.TrimPrefix(path.Clean(h.Name), "/"),
		Linkname: h.Linkname,
		Mode:     h.Mode & 0o7777,
		Uid:      h.Uid,
		Gid:      h.Gid,
		ModTime:  epoch,
		Format:   tar.FormatPAX,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = strings.TrimPrefix(path.Clean(h.Linkname), "/")
	case tar.TypeReg:
		out.Size = h.Size
	}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[k] = v
		}
	}
	return out
}
