// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// debian gives access to the files of a Debian base layer, so that images that
// need a few of its programs can take them from there.
type debian struct {
	path    string // of the layer
	entries map[string]located
}

type located struct {
	header tar.Header
	offset int64
}

// openDebian reads the headers of the layer at path.
func openDebian(layer string) (*debian, error) {
	f, err := os.Open(layer)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	d := &debian{path: layer, entries: map[string]located{}}
	tr := tar.NewReader(f) // reads block by block, so the file's offset is the content's
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", layer, err)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		d.entries[path.Join("/", h.Name)] = located{*h, offset}
	}
}

// read returns the content of a regular file, following links.
func (d *debian) read(name string) ([]byte, error) {
	chain, err := d.resolve(name)
	if err != nil {
		return nil, err
	}
	r, err := d.opener(d.entries[chain[len(chain)-1]])()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

func (d *debian) opener(l located) opener { return section(d.path, l.offset, l.header.Size) }

// resolve follows links and returns each path on the way to a file or folder
// that is no link, that one last.
func (d *debian) resolve(name string) ([]string, error) {
	var chain []string
	todo := strings.Split(strings.TrimPrefix(path.Clean(name), "/"), "/")
	at := "/"
	for hops := 0; len(todo) > 0; {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		l, ok := d.entries[next]
		if !ok {
			return nil, fmt.Errorf("there is no %s in the Debian base (looking for %s)", next, name)
		}
		switch l.header.Typeflag {
		case tar.TypeSymlink, tar.TypeLink:
			if hops++; hops > 40 {
				return nil, fmt.Errorf("too many links at %s in the Debian base", name)
			}
			target := path.Join("/", l.header.Linkname)
			if l.header.Typeflag == tar.TypeSymlink && !path.IsAbs(l.header.Linkname) {
				target = path.Join(at, l.header.Linkname)
			}
			chain = append(chain, next)
			todo = append(strings.Split(strings.TrimPrefix(target, "/"), "/"), todo...)
			at = "/"
		default:
			at = next
		}
	}
	return append(chain, at), nil
}

// pick returns the files that match the patterns, everything that they link
// to, and the shared libraries that they need.
func (d *debian) pick(patterns []string) (*tree, error) {
	p := &picker{debian: d, tree: newTree(), seen: map[string]bool{}}
	for _, pattern := range patterns {
		var matches []string
		for name := range d.entries {
			if ok, _ := path.Match(pattern, name); ok {
				matches = append(matches, name)
			}
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("nothing in the Debian base matches %s", pattern)
		}
		slices.Sort(matches)
		for _, name := range matches {
			if err := p.add(name); err != nil {
				return nil, err
			}
		}
	}
	return p.tree, nil
}

type picker struct {
	*debian
	tree *tree
	seen map[string]bool
}

// add takes a file with all that it needs. Hard links become files.
func (p *picker) add(name string) error {
	if p.seen[name] {
		return nil
	}
	p.seen[name] = true
	chain, err := p.resolve(name)
	if err != nil {
		return err
	}
	last := chain[len(chain)-1]
	l := p.entries[last]
	for _, link := range chain[:len(chain)-1] {
		h := p.entries[link].header
		if h.Typeflag == tar.TypeLink {
			file := l.header
			file.Name = link
			p.tree.add(file, p.opener(l))
			continue
		}
		p.tree.add(h, nil)
	}
	p.tree.add(l.header, p.opener(l))
	if l.header.Typeflag != tar.TypeReg || p.seen[last] && last != name {
		return nil
	}
	p.seen[last] = true
	return p.libraries(last)
}

// libraries adds what an ELF program or library is linked with.
func (p *picker) libraries(name string) error {
	data, err := p.read(name)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, prog := range f.Progs {
		if prog.Type == elf.PT_INTERP {
			interp, err := io.ReadAll(prog.Open())
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := p.add(strings.TrimRight(string(interp), "\x00")); err != nil {
				return fmt.Errorf("%s needs it: %w", name, err)
			}
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, lib := range needed {
		found, err := p.library(lib)
		if err != nil {
			return fmt.Errorf("%s needs it: %w", name, err)
		}
		if err := p.add(found); err != nil {
			return err
		}
	}
	return nil
}

// library finds a shared library by its soname.
func (p *picker) library(soname string) (string, error) {
	var found []string
	for _, pattern := range []string{"/usr/lib/*-linux-*/" + soname, "/usr/lib/" + soname, "/usr/lib64/" + soname} {
		for name := range p.entries {
			if ok, _ := path.Match(pattern, name); ok {
				found = append(found, name)
			}
		}
	}
	if len(found) == 0 {
		return "", fmt.Errorf("there is no %s in the Debian base", soname)
	}
	slices.Sort(found)
	return found[0], nil
}

// version returns the upstream version of an installed package: "1.37.0" for
// Debian's "1:1.37.0-6+b9".
func (d *debian) version(pkg string) (string, error) {
	status, err := d.read("/var/lib/dpkg/status")
	if err != nil {
		return "", err
	}
	in := false
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "Package":
			in = value == pkg
		case "Version":
			if in {
				if _, after, ok := strings.Cut(value, ":"); ok {
					value = after
				}
				if i := strings.LastIndexByte(value, '-'); i >= 0 {
					value = value[:i]
				}
				return value, nil
			}
		}
	}
	return "", fmt.Errorf("package %s is not in the Debian base", pkg)
}
