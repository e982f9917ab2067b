// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The conformance image: one static program, and a directory with a file that
// a volume over it must show.
const (
	ImageRef   = "localhost/rk-enginetest:v1"
	OCIRef     = "localhost/rk-enginetest-oci:v1" // of the OCI archive
	imageLabel = "io.rk.enginetest.image"
	program    = "/testprog"
	dataDir    = "/data"
	seedFile   = "/data/sub/seed"
	seedText   = "from the image\n"
)

// DockerArchive packs the conformance image, with binary as its program
// (testprog, built statically), as a docker archive named ImageRef.
func DockerArchive(binary []byte) ([]byte, error) {
	img, err := testImage(binary, "docker", types.DockerLayer)
	if err != nil {
		return nil, err
	}
	ref, err := name.NewTag(ImageRef)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := tarball.Write(ref, img, &out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// OCIArchive packs an image with the same content as an OCI archive named OCIRef.
func OCIArchive(binary []byte) (_ []byte, err error) {
	img, err := testImage(binary, "oci", types.OCILayer)
	if err != nil {
		return nil, err
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	dir, err := os.MkdirTemp("", "rk-enginetest-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": OCIRef})); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// testImage makes the image; format becomes its label, so that the two formats are
// two images to an engine.
func testImage(binary []byte, format string, layerType types.MediaType) (v1.Image, error) {
	var fsys bytes.Buffer
	w := tar.NewWriter(&fsys)
	for _, e := range []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil},
		{tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "data/sub/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: seedFile[1:], Typeflag: tar.TypeReg, Mode: 0o644}, []byte(seedText)},
		{tar.Header{Name: program[1:], Typeflag: tar.TypeReg, Mode: 0o755}, binary},
	} {
		e.header.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(fsys.Bytes())), nil
	}, tarball.WithMediaType(layerType))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config = v1.Config{
		Entrypoint: []string{program}, Cmd: []string{"wait"}, WorkingDir: dataDir,
		Labels: map[string]string{imageLabel: format},
	}
	return mutate.ConfigFile(img, config)
}
