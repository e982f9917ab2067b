// SPDX-License-Identifier: Apache-2.0

package imagearchive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Check reads layers and compares their content with their digests. The error
// is problem.ArchiveUnreadable for a layer that is missing, cut off or
// damaged, else ctx's.
func (a *Archive) Check(ctx context.Context, layers []Layer) error {
	done := map[string]bool{}
	for _, l := range layers {
		if done[l.Digest] {
			continue
		}
		done[l.Digest] = true
		if err := a.check(ctx, l); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return unreadable(a.name, fmt.Errorf("layer %s: %w", l.Digest, err))
		}
	}
	return nil
}

func (a *Archive) check(ctx context.Context, l Layer) error {
	f, size, err := a.files.open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, reader{ctx, f})
	switch got := "sha256:" + hex.EncodeToString(h.Sum(nil)); {
	case err != nil:
		return err
	case n != size || n != l.Size:
		return fmt.Errorf("%d of %d bytes: %w", n, l.Size, io.ErrUnexpectedEOF)
	case got != l.Digest:
		return errors.New("the content is damaged: its digest is " + got)
	}
	return nil
}

// reader ends with a context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// Write writes images with their Names as an OCI archive that `ctr images
// import` takes. Layers for which skip says true are left out: the archive
// is then no complete one, and only for a containerd that has their snapshots.
func (a *Archive) Write(w io.Writer, images []Image, skip func(Layer) bool) error {
	index := document{SchemaVersion: 2, MediaType: typeIndex}
	out := tar.NewWriter(w)
	done := map[string]bool{}
	add := func(name string, size int64, content func(io.Writer) error) error {
		if done[name] {
			return nil
		}
		done[name] = true
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
			return err
		}
		return content(out)
	}
	data := func(name string, data []byte) error {
		return add(name, int64(len(data)), func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	if err := data("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	for _, img := range images {
		d := descriptor{MediaType: img.manifestType, Digest: digestOf(img.manifest), Size: int64(len(img.manifest)), Platform: &img.platform}
		for _, name := range img.Names {
			named := d
			named.Annotations = map[string]string{annotationName: name}
			index.Manifests = append(index.Manifests, named)
		}
		err := errors.Join(data(blob(d.Digest), img.manifest), data(blob(img.ID), img.config))
		if err != nil {
			return err
		}
		for _, l := range img.Layers {
			if skip(l) {
				continue
			}
			if err := add(blob(l.Digest), l.Size, func(w io.Writer) error { return a.copy(w, l) }); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := data("index.json", text); err != nil {
		return err
	}
	return out.Close()
}

func (a *Archive) copy(w io.Writer, l Layer) error {
	f, _, err := a.files.open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
