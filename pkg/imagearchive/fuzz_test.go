// SPDX-License-Identifier: Apache-2.0

package imagearchive_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// No archive makes rk panic, each error has a code, and what is read can be written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\x1f\x8b"))
	for _, file := range seeds(f) {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := imagearchive.Read("fuzz", bytes.NewReader(data))
		if err == nil {
			defer a.Close() //nolint:errcheck // only read
			var images []imagearchive.Image
			images, err = a.Images("amd64")
			for _, img := range images {
				if checkErr := a.Check(t.Context(), img.Layers); checkErr != nil {
					return // a layer is not what it should be: it would not be written
				}
			}
			if err == nil {
				if err := a.Write(io.Discard, images, func(imagearchive.Layer) bool { return false }); err != nil {
					t.Errorf("it was read, and cannot be written: %v", err)
				}
			}
		}
		if err != nil && !errors.Is(err, problem.ArchiveUnreadable) && !errors.Is(err, problem.ImagePlatform) {
			t.Errorf("an error without a code: %v", err)
		}
	})
}

// seeds are archives of both formats.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	img := image(f, "amd64", "base", "top")
	var out [][]byte
	for _, file := range []string{
		docker(f, map[string]v1.Image{"localhost/one:v1": img}),
		packed(f, oci(f, map[string]string{"io.containerd.image.name": "localhost/web:v1"}, img, image(f, "arm64", "base"))),
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}
