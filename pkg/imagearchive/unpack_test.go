// SPDX-License-Identifier: Apache-2.0

package imagearchive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Layers come out as they went in, however they are compressed.
func TestUnpack(t *testing.T) {
	t.Parallel()
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for i, o := range []tarball.LayerOption{
		tarball.WithCompression(compression.None), tarball.WithCompression(compression.GZip), tarball.WithCompression(compression.ZStd),
	} {
		if img, err = mutate.AppendLayers(img, layer(t, fmt.Sprintf("content %d", i), o)); err != nil {
			t.Fatal(err)
		}
	}
	a := open(t, packed(t, oci(t, map[string]string{"io.containerd.image.name": "localhost/web:v1"}, img)))
	found := images(t, a, "amd64")[0]
	for i, l := range found.Layers {
		var b bytes.Buffer
		if err := a.Unpack(t.Context(), &b, l); err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(&b)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != fmt.Sprintf("content %d", i) {
			t.Errorf("layer %d is %q (%v)", i, data, err)
		}
	}
	wrong := found.Layers[1]
	wrong.DiffID = found.Layers[0].DiffID
	if err := a.Unpack(t.Context(), io.Discard, wrong); !errors.Is(err, problem.ArchiveUnreadable) {
		t.Errorf("a layer of another digest: %v", err)
	}
	if err := a.Unpack(t.Context(), refusing{}, found.Layers[1]); !errors.Is(err, errRefused) || errors.Is(err, problem.ArchiveUnreadable) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Unpack(ctx, io.Discard, found.Layers[1]); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	manifest, mediaType := found.Manifest()
	if !bytes.Contains(manifest, []byte(found.ID)) || mediaType != string(types.OCIManifestSchema1) || !bytes.Contains(found.Config(), []byte("amd64")) {
		t.Errorf("manifest %s of type %s, config %s", manifest, mediaType, found.Config())
	}
}

var errRefused = errors.New("no space")

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errRefused }
