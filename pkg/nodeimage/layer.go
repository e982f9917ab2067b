// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// fileLayer is an uncompressed image layer in a file. It is not compressed
// because it never travels: an engine on the same machine reads it at once.
type fileLayer struct {
	Path   string  `json:"path"`
	Hash   v1.Hash `json:"digest"`
	Length int64   `json:"size"` // bytes
}

var _ v1.Layer = fileLayer{}

// Digest implements v1.Layer.
func (l fileLayer) Digest() (v1.Hash, error) { return l.Hash, nil }

// DiffID implements v1.Layer.
func (l fileLayer) DiffID() (v1.Hash, error) { return l.Hash, nil }

// Compressed implements v1.Layer.
func (l fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.Path) }

// Uncompressed implements v1.Layer.
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.Path) }

// Size implements v1.Layer.
func (l fileLayer) Size() (int64, error) { return l.Length, nil }

// MediaType implements v1.Layer.
func (l fileLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// writeLayer creates the file at path from what fill writes.
func writeLayer(path string, fill func(io.Writer) error) (fileLayer, error) {
	f, err := os.Create(path)
	if err != nil {
		return fileLayer{}, err
	}
	defer f.Close()
	sum := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if err := fill(buf); err != nil {
		return fileLayer{}, err
	}
	if err := buf.Flush(); err != nil {
		return fileLayer{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fileLayer{}, err
	}
	hash := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return fileLayer{Path: path, Hash: hash, Length: size}, f.Close()
}

// blob is a small piece of content in memory.
type blob struct {
	Hash v1.Hash
	Data []byte
}

func newBlob(data []byte) (blob, error) {
	hash, _, err := v1.SHA256(bytes.NewReader(data))
	return blob{Hash: hash, Data: data}, err
}
