// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
)

// entries are the names and contents of a tar stream.
func entries(t *testing.T, r io.Reader) (map[string]string, error) {
	t.Helper()
	files := map[string]string{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return files, err
		}
		files[h.Name] = string(content)
	}
}

func TestManifestOfOCILayout(t *testing.T) {
	t.Parallel()
	archive, err := enginetest.OCIArchive([]byte("a program"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := entries(t, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	passed := withManifest(bytes.NewReader(archive))
	defer passed.Close()
	after, err := entries(t, passed)
	if err != nil {
		t.Fatal(err)
	}
	var manifest []savedImage
	if err := json.Unmarshal([]byte(after["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	delete(after, "manifest.json")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the rest has changed: %s", diff)
	}
	if len(manifest) != 1 || !cmp.Equal(manifest[0].RepoTags, []string{enginetest.OCIRef}) || len(manifest[0].Layers) != 1 {
		t.Fatalf("got %+v", manifest)
	}
	for _, name := range append(manifest[0].Layers, manifest[0].Config) {
		if before[name] == "" {
			t.Errorf("%s is not in the archive", name)
		}
	}
	if !strings.Contains(before[manifest[0].Config], `"architecture"`) {
		t.Errorf("config is %s", before[manifest[0].Config])
	}
}

func TestManifestIsKept(t *testing.T) {
	t.Parallel()
	archive, err := enginetest.DockerArchive([]byte("a program"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := entries(t, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	passed := withManifest(bytes.NewReader(archive))
	defer passed.Close()
	after, err := entries(t, passed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

func TestManifestOfIndex(t *testing.T) {
	t.Parallel()
	l := layout{
		"index.json":      `{"manifests": [{"digest": "sha256:i", "annotations": {"io.containerd.image.name": "localhost/x:v1"}}]}`,
		"blobs/sha256/i":  `{"manifests": [{"digest": "sha256:o", "platform": {"architecture": "other"}}, {"digest": "sha256:m", "platform": {"architecture": "` + runtime.GOARCH + `"}}]}`,
		"blobs/sha256/m":  `{"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l"}]}`,
		"blobs/sha256/o":  `{"config": {"digest": "sha256:wrong"}}`,
		"blobs/sha256/c":  `{}`,
		"blobs/sha256/l1": ``,
	}
	got, err := l.manifest()
	want := []savedImage{{Config: "blobs/sha256/c", RepoTags: []string{"localhost/x:v1"}, Layers: []string{"blobs/sha256/l"}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	delete(l, "blobs/sha256/m")
	if _, err := l.manifest(); !errors.Is(err, errNoManifest) || !strings.Contains(err.Error(), "blobs/sha256/m") {
		t.Errorf("got %v", err)
	}
}

func TestManifestOfBrokenArchive(t *testing.T) {
	t.Parallel()
	archive, err := enginetest.OCIArchive([]byte("a program"))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		archive io.Reader
		want    error
	}{
		"truncated":     {bytes.NewReader(archive[:len(archive)/2]), io.ErrUnexpectedEOF},
		"broken source": {io.MultiReader(bytes.NewReader(archive[:1000]), errReader{broken}), broken},
		"no tar":        {strings.NewReader(strings.Repeat("this is no archive", 100)), tar.ErrHeader},
	} {
		passed := withManifest(c.archive)
		if _, err := io.Copy(io.Discard, passed); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		_ = passed.Close()
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
