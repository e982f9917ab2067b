// SPDX-License-Identifier: Apache-2.0

package imagearchive

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Manifest returns the image's manifest and its media type. An image in the
// format of "docker save" has none of its own: it is made from the layers.
func (img Image) Manifest() (data []byte, mediaType string) { return img.manifest, img.manifestType }

// Config returns the image's configuration.
func (img Image) Config() []byte { return img.config }

// Unpack writes a layer without its compression (gzip, zstd or none), and
// compares it with its DiffID. The error is problem.ArchiveUnreadable for a
// layer that is missing, cut off or damaged, else that of w, or ctx's.
func (a *Archive) Unpack(ctx context.Context, w io.Writer, l Layer) error {
	out := &writer{w: w, hash: sha256.New()}
	err := a.unpack(ctx, out, l)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case out.err != nil:
		return out.err
	}
	return unreadable(a.name, fmt.Errorf("layer %s: %w", l.Digest, err))
}

func (a *Archive) unpack(ctx context.Context, out *writer, l Layer) error {
	f, _, err := a.files.open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(reader{ctx, f}, 1<<16)
	magic, err := in.Peek(magicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	content, err := decompressed(in, compression(magic))
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	if err := content.Close(); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(out.hash.Sum(nil)); got != l.DiffID {
		return fmt.Errorf("the content is damaged: its digest is %s, not %s", got, l.DiffID)
	}
	return nil
}

// decompressed reads what is compressed in a way that OCI knows.
func decompressed(in io.Reader, kind string) (io.ReadCloser, error) {
	switch kind {
	case "":
		return io.NopCloser(in), nil
	case "gzip":
		return gzip.NewReader(in)
	case "zstd":
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, errors.New("it is compressed with " + kind)
}

// writer takes the digest of what it passes on, and keeps the error of that.
type writer struct {
	w    io.Writer
	hash interface {
		io.Writer
		Sum(b []byte) []byte
	}
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.err = err
	_, _ = w.hash.Write(p[:n]) // never fails
	return n, err
}
