// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer describes an uncompressed image layer. It is not compressed because it
// never travels: an engine on the same machine reads it at once.
type layer struct {
	Hash   v1.Hash `json:"digest"`
	Length int64   `json:"size"` // bytes

	by   string                // what made it, for the image's history
	fill func(io.Writer) error // writes the layer; nil where only its description is needed
}

var _ v1.Layer = layer{}

// Digest implements v1.Layer.
func (l layer) Digest() (v1.Hash, error) { return l.Hash, nil }

// DiffID implements v1.Layer.
func (l layer) DiffID() (v1.Hash, error) { return l.Hash, nil }

// Compressed implements v1.Layer.
func (l layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed implements v1.Layer.
func (l layer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.write(w)) }()
	return r, nil
}

// Size implements v1.Layer.
func (l layer) Size() (int64, error) { return l.Length, nil }

// MediaType implements v1.Layer.
func (l layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// write writes the layer. What is written must be what the layer's digest
// says: files may have changed since that was taken.
func (l layer) write(w io.Writer) error {
	sum := &countingHash{}
	if err := l.fill(io.MultiWriter(w, sum)); err != nil {
		return err
	}
	if got := sum.layer(); got.Hash != l.Hash {
		return fmt.Errorf("layer %s now has digest %s: a file that it is made of was changed meanwhile, so build again", l.Hash, got.Hash)
	}
	return nil
}

// describe returns the layer that fill writes.
func describe(fill func(io.Writer) error) (layer, error) {
	sum := &countingHash{}
	if err := fill(sum); err != nil {
		return layer{}, err
	}
	l := sum.layer()
	l.fill = fill
	return l, nil
}

// countingHash takes the description of a layer that is written to it.
type countingHash struct {
	hash hash.Hash
	n    int64
}

// Write implements io.Writer.
func (c *countingHash) Write(p []byte) (int, error) {
	if c.hash == nil {
		c.hash = sha256.New()
	}
	c.n += int64(len(p))
	return c.hash.Write(p)
}

func (c *countingHash) layer() layer {
	return layer{Hash: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(c.hash.Sum(nil))}, Length: c.n}
}

// blob is a small piece of content in memory.
type blob struct {
	Hash v1.Hash
	Data []byte

	mediaType string // of a manifest; "" is OCI's
}

func newBlob(data []byte) (blob, error) {
	hash, _, err := v1.SHA256(bytes.NewReader(data))
	return blob{Hash: hash, Data: data}, err
}
