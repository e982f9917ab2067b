// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var errEscapes = errors.New("the entry's name leads out of the directory")

// tree is a file system: clean absolute path -> entry.
type tree map[string]entry

type entry struct {
	header  *tar.Header
	content []byte
	copied  bool // came from CopyIn, not from the image
}

// debianDirs are the directories of an image whose files are not known.
func debianDirs() tree {
	t := tree{}
	for _, name := range []string{"bin", "dev", "etc", "home", "lib", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "usr/local", "var", "var/lib", "var/log"} {
		t.mkdir("/" + name)
	}
	return t
}

// mkdir makes name and what is missing above it.
func (t tree) mkdir(name string) {
	for ; !t.isDir(name); name = path.Dir(name) {
		t[name] = entry{header: &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
	}
}

func (t tree) isDir(name string) bool {
	name = path.Clean(name)
	e, ok := t[name]
	return name == "/" || ok && e.header.Typeflag == tar.TypeDir
}

// unpack adds a tar stream's entries below dir.
func (t tree) unpack(dir string, stream io.Reader) error {
	for r := tar.NewReader(stream); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Split(header.Name, "/"), "..") {
			return fmt.Errorf("%s: %w", header.Name, errEscapes)
		}
		name := path.Join("/", dir, header.Name)
		if name == path.Join("/", dir) {
			continue // the directory itself
		}
		t[name] = entry{header: header, content: content, copied: true}
	}
}

// merge adds the entries of u and the directories that they lie in.
func (t tree) merge(u tree) {
	for name, e := range u {
		t.mkdir(path.Dir(name))
		t[name] = e
	}
}

// clear removes what is below dir.
func (t tree) clear(dir string) {
	below := strings.TrimSuffix(path.Clean(dir), "/") + "/"
	maps.DeleteFunc(t, func(name string, _ entry) bool { return strings.HasPrefix(name, below) })
}

// pack writes name, and what is below it, as a tar stream whose names start
// with the last element of name.
func (t tree) pack(name string, w io.Writer) error {
	name = path.Join("/", name)
	if _, ok := t[name]; !ok && name != "/" {
		return fmt.Errorf("%s: %w", name, engine.ErrNotFound)
	}
	out := tar.NewWriter(w)
	for _, p := range slices.Sorted(maps.Keys(t)) {
		if p != name && !strings.HasPrefix(p, strings.TrimSuffix(name, "/")+"/") {
			continue
		}
		header := *t[p].header
		header.Name = strings.TrimPrefix(strings.TrimPrefix(p, path.Dir(name)), "/")
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		if err := out.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := io.Copy(out, bytes.NewReader(t[p].content)); err != nil {
			return err
		}
	}
	return out.Close()
}
