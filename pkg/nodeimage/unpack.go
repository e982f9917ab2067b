// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// What the OCI image specification calls whiteouts ("Representing Changes").
const (
	whiteout       = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// layerChanges is what a layer does to the files below it.
type layerChanges struct {
	removed []string // paths that go, with all below them
	emptied []string // directories that lose what was in them
	files   []layerFile
}

// layerFile is a file of an image's layer, or of several.
type layerFile struct {
	header  tar.Header // Name is clean and absolute
	content opener     // of a regular file
	inode   string     // the same for all names of a file that has several, else ""
}

func (f layerFile) isDir() bool { return f.header.Typeflag == tar.TypeDir }

// readLayer reads the headers of an uncompressed layer. The contents are read
// from that file later. Devices are left out, as containerd leaves them out
// where it runs in a user namespace.
func readLayer(layer string) (*layerChanges, error) {
	f, err := os.Open(layer)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	c := &layerChanges{}
	tr := tar.NewReader(f) // reads block by block, so the file's offset is the content's
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := c.add(h, section(layer, offset, h.Size)); err != nil {
			return nil, err
		}
	}
}

// section opens a part of a file.
func section(file string, offset, size int64) opener {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(f, offset, size), f}, nil
	}
}

func (c *layerChanges) add(h *tar.Header, content opener) error {
	f := layerFile{header: *h}
	f.header.Name = path.Join("/", h.Name)
	dir, base := path.Split(f.header.Name)
	switch {
	case base == opaqueWhiteout:
		c.emptied = append(c.emptied, path.Clean(dir))
		return nil
	case base == whiteout, strings.HasPrefix(base, whiteout+whiteout): // what AUFS notes for itself
		return nil
	case strings.HasPrefix(base, whiteout):
		c.removed = append(c.removed, path.Join(dir, strings.TrimPrefix(base, whiteout)))
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		if isSparse(h) { // the content is not there in one piece
			return fmt.Errorf("%s is stored as a sparse file, as layers of images never are", h.Name)
		}
		f.content = content
	case tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		f.header.Linkname = path.Join("/", h.Linkname)
	default:
		return nil
	}
	c.files = append(c.files, f)
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// view is the files of a stack of layers by their paths.
type view map[string]layerFile

// viewOf returns the files of a snapshot with those of the snapshots below it.
func viewOf(s *store, id int) view {
	if id == 0 {
		return view{}
	}
	snap := s.snapshots[id-1]
	v := viewOf(s, snap.parent)
	for _, p := range snap.files.paths() {
		e := snap.files.entries[p]
		f := layerFile{header: e.header, content: e.content}
		if !e.keepTime {
			f.header.ModTime = s.epoch
		}
		if e.header.Typeflag == tar.TypeLink { // by an earlier path of the same snapshot
			target := v[e.header.Linkname]
			f = target
			f.header.Name = p
			f.inode = fmt.Sprintf("snapshot %d %s", id, e.header.Linkname)
			target.inode = f.inode
			v[target.header.Name] = target
		}
		v.put(f)
	}
	return v
}

// apply puts a layer on top. It returns the layer's own files, and whether it
// takes away something that lies below.
func (v view) apply(number int, c *layerChanges) (own view, removes bool, err error) {
	for _, dir := range c.emptied {
		removes = v.empty(v.resolve(dir)) || removes
	}
	for _, name := range c.removed {
		name = v.place(name)
		_, there := v[name]
		delete(v, name)
		removes = v.empty(name) || there || removes
	}
	own = view{}
	for _, f := range c.files {
		name := v.place(f.header.Name)
		if f.header.Typeflag == tar.TypeLink {
			if f, err = v.link(own, number, f); err != nil {
				return nil, false, err
			}
		}
		f.header.Name = name
		v.parents(own, name)
		if old, ok := v[name]; ok && old.isDir() && !f.isDir() {
			own.empty(name)
		}
		v.put(f)
		own[name] = f
	}
	if root, ok := v["/"]; ok {
		own["/"] = root
	}
	return own, removes, nil
}

// put adds a file in place of what has its path. A directory keeps what is in it.
func (v view) put(f layerFile) {
	if old, ok := v[f.header.Name]; ok && old.isDir() && !f.isDir() {
		v.empty(f.header.Name)
	}
	v[f.header.Name] = f
}

// empty deletes all below a path and says whether there was something.
func (v view) empty(dir string) bool {
	n := len(v)
	prefix := strings.TrimSuffix(dir, "/") + "/"
	maps.DeleteFunc(v, func(name string, _ layerFile) bool { return strings.HasPrefix(name, prefix) && name != dir })
	return len(v) < n
}

// link returns the file that a hard link of a layer means, with an inode that
// both have. Of a file that lies below, the layer gets a copy.
func (v view) link(own view, number int, f layerFile) (layerFile, error) {
	at := v.place(f.header.Linkname)
	target, ok := v[at]
	if !ok || target.isDir() {
		return f, fmt.Errorf("%s is a hard link to %s, which is no file of the image", f.header.Name, f.header.Linkname)
	}
	if target.inode == "" {
		target.inode = fmt.Sprintf("layer %d %s", number, at)
		v[at] = target
		if _, ok := own[at]; ok {
			own[at] = target
		}
	}
	return target, nil
}

// parents gives a layer the directories above a path, as they are below it.
func (v view) parents(own view, name string) {
	for p := path.Dir(name); p != "/"; p = path.Dir(p) {
		if _, ok := own[p]; ok {
			return
		}
		f, ok := v[p]
		if !ok || !f.isDir() {
			f = layerFile{header: tar.Header{Typeflag: tar.TypeDir, Name: p, Mode: 0o755}}
			v[p] = f
		}
		own[p] = f
	}
}

// place returns the path with the links above its last element followed.
func (v view) place(name string) string {
	dir, base := path.Split(path.Join("/", name))
	if base == "" {
		return "/"
	}
	return path.Join(v.resolve(dir), base)
}

// maxLinks is how many symbolic links may lead to a file, as in Linux.
const maxLinks = 40

// resolve follows symbolic links, within the image; what is not there is taken
// as it is written.
func (v view) resolve(name string) string {
	at := "/"
	todo := strings.Split(path.Join("/", name), "/")
	for links := 0; len(todo) > 0; {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		f, ok := v[next]
		if !ok || f.header.Typeflag != tar.TypeSymlink || links == maxLinks {
			at = next
			continue
		}
		links++
		target := f.header.Linkname
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at
}

// tree returns the files as they are written: the first name of a file with
// several is the file, the others are links to it.
func (v view) tree() *tree {
	t := newTree()
	first := map[string]string{} // by inode
	for _, p := range slices.SortedFunc(maps.Keys(v), comparePaths) {
		f := v[p]
		h := f.header
		h.Name = p
		content := f.content
		if f.inode != "" {
			if file, ok := first[f.inode]; ok {
				h = tar.Header{Typeflag: tar.TypeLink, Name: p, Linkname: file, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime}
				content = nil
			} else {
				first[f.inode] = p
			}
		}
		t.add(h, content)
		if !h.ModTime.IsZero() {
			t.keepTime(p)
		}
	}
	return t
}
