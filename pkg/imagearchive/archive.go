// SPDX-License-Identifier: Apache-2.0

// Package imagearchive reads container images from archives ("docker save",
// OCI archives) and OCI layout folders, and writes OCI archives of them that
// leave out the layers a node has already. It knows files, and nothing of
// engines, nodes or clusters.
//
// It must never import any package of this module but problem.
package imagearchive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Archive is an open archive or layout. It is safe for concurrent reading.
type Archive struct {
	name  string
	files source
}

// source holds an archive's files by their names.
type source interface {
	// open returns a file and its size in bytes; it wraps os.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	close() error
}

// Open opens an archive, plain or compressed with gzip, which is decompressed
// into a temporary file. The error is problem.ArchiveUnreadable.
func Open(file string) (*Archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	magic, err := io.ReadAll(io.LimitReader(f, magicSize))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, unreadable(file, err)
	}
	if compression(magic) != "" {
		defer f.Close() //nolint:errcheck // only read
		return Read(file, f)
	}
	return index(file, f)
}

// OpenLayout opens a folder with an OCI layout. The error is problem.ArchiveUnreadable.
func OpenLayout(dir string) (*Archive, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	a := &Archive{name: dir, files: folder{root}}
	if _, err := a.read("index.json"); err != nil {
		_ = root.Close()
		return nil, problem.ArchiveUnreadable.
			With("Give the folder that holds index.json and blobs, as 'skopeo copy IMAGE oci:DIR' makes it.").
			Wrapf("%s is no OCI layout: %w", dir, err)
	}
	return a, nil
}

// Read reads an archive from a stream into a temporary file that goes away
// with the Archive, and with the process. name is what errors call it. Errors
// of the stream are returned as they are, those of the content as problem.ArchiveUnreadable.
func Read(name string, stream io.Reader) (_ *Archive, err error) {
	in := bufio.NewReaderSize(stream, 1<<16)
	magic, err := in.Peek(magicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var content io.Reader = in
	switch kind := compression(magic); kind {
	case "":
	case "gzip":
		if content, err = gzip.NewReader(in); err != nil {
			return nil, unreadable(name, err)
		}
	default:
		return nil, problem.ArchiveUnreadable.Withf("Unpack it first, for example with '%s -d'.", kind).Wrapf("%s is compressed with %s", name, kind)
	}
	f, err := tempFile()
	if err != nil {
		return nil, full(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil { // it lives as long as it is open
		return nil, err
	}
	if _, err := io.Copy(f, content); err != nil {
		switch {
		case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, unreadable(name, err)
		}
		return nil, full(fmt.Errorf("%s: %w", name, err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return index(name, f)
}

// largeTemp is where temporary files go that may be large: /tmp is in memory on
// many distributions (Debian 13, Fedora), and this is not (file-hierarchy(7)).
const largeTemp = "/var/tmp"

// tempDir is the folder for an archive: $TMPDIR wins.
func tempDir() string {
	if os.Getenv("TMPDIR") != "" {
		return os.TempDir()
	}
	return largeTemp
}

func tempFile() (*os.File, error) {
	const pattern = "rk-image-*.tar"
	f, err := os.CreateTemp(tempDir(), pattern)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return os.CreateTemp("", pattern)
	}
	return f, err
}

// Close closes the archive's file.
func (a *Archive) Close() error { return a.files.close() }

// magicSize is how much of a file tells its compression, in bytes.
const magicSize = 6

// compression names the compression of a file that begins with magic, "" if it has none.
func compression(magic []byte) string {
	for prefix, kind := range map[string]string{"\x1f\x8b": "gzip", "\x28\xb5\x2f\xfd": "zstd", "BZh": "bzip2", "\xfd7zXZ\x00": "xz"} {
		if bytes.HasPrefix(magic, []byte(prefix)) {
			return kind
		}
	}
	return ""
}

// index notes where the files of an uncompressed archive lie. The Archive owns f.
func index(name string, f *os.File) (*Archive, error) {
	t := &tarFile{file: f, members: map[string]member{}}
	if err := t.scan(); err != nil {
		_ = f.Close()
		return nil, unreadable(name, err)
	}
	return &Archive{name: name, files: t}, nil
}

// tarFile is the files of an uncompressed tar archive.
type tarFile struct {
	file    *os.File
	members map[string]member
}

// member is where a file lies in an archive, or the name of the file that it links to.
type member struct {
	offset, size int64
	link         string
}

func (t *tarFile) scan() error {
	for r := tar.NewReader(t.file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader has read nothing behind the header.
			offset, err := t.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			t.members[name] = member{offset: offset, size: h.Size}
		case tar.TypeSymlink: // of layers that several images share, in old versions of Docker and in Podman
			t.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			t.members[name] = member{link: path.Clean(h.Linkname)}
		}
	}
}

// maxLinks is how many links may lead to a file.
const maxLinks = 8

func (t *tarFile) open(name string) (io.ReadCloser, int64, error) {
	m, ok := t.members[path.Clean(name)]
	for range maxLinks {
		if !ok || m.link == "" {
			break
		}
		m, ok = t.members[m.link]
	}
	if !ok || m.link != "" {
		return nil, 0, fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(t.file, m.offset, m.size)), m.size, nil
}

func (t *tarFile) close() error { return t.file.Close() }

// folder is the files of an OCI layout; names cannot lead out of it.
type folder struct{ root *os.Root }

func (d folder) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d folder) close() error { return d.root.Close() }

// maxMetadata is how large a manifest or configuration may be, in bytes: what
// containerd accepts.
const maxMetadata = 8 << 20

// read returns a small file.
func (a *Archive) read(name string) ([]byte, error) {
	f, size, err := a.files.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxMetadata {
		return nil, fmt.Errorf("%s: %d bytes are too many for metadata", name, size)
	}
	data, err := io.ReadAll(f)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%s: %w", name, io.ErrUnexpectedEOF)
	}
	return data, err
}

// unreadable is problem.ArchiveUnreadable, with what is true of all images.
func unreadable(name string, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return problem.ArchiveUnreadable.
		With("Give an archive as 'podman save' or 'docker save' writes it, an OCI archive, or one of these compressed with gzip. Save it again if it is cut off or damaged.").
		Wrapf("%s: %w", name, err)
}

// full is problem.DiskFull for an error of a temporary file that has that cause.
func full(err error) error {
	if !strings.Contains(err.Error(), "no space left on device") {
		return err
	}
	return problem.DiskFull.
		Withf("An archive is kept in %s while it is loaded. Free space there, or name a folder on another disk with TMPDIR.", tempDir()).Wrap(err)
}
