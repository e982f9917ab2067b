// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// archiveOf is a tar file of names and contents, in this order, with a layer first.
func archiveOf(t *testing.T, files ...string) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	write := func(name string, content []byte) {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	write("blobs/sha256/1a7e5", make([]byte, maxMetadata+1))
	for i := 0; i < len(files); i += 2 {
		write(files[i], []byte(files[i+1]))
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

// configFile is an image's configuration with the labels of a node image.
func configFile(t *testing.T) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Labels": nodeImage(nil).Labels},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const (
	ociIndex = `{"manifests":[{"digest":"sha256:aa","annotations":{"org.opencontainers.image.ref.name":"localhost/rk-node:v1.36.3"}}]}`
	ociImage = `{"config":{"digest":"sha256:0123abcd"}}`
)

func TestArchive(t *testing.T) {
	t.Parallel()
	config := configFile(t)
	for name, files := range map[string][]string{
		"oci":           {"index.json", ociIndex, "blobs/sha256/aa", ociImage, "blobs/sha256/0123abcd", config},
		"oci, dotted":   {"./blobs/sha256/0123abcd", config, "./blobs/sha256/aa", ociImage, "./index.json", ociIndex},
		"docker, older": {"0123abcd.json", config, "manifest.json", `[{"Config":"0123abcd.json","RepoTags":["localhost/rk-node:v1.36.3"]}]`},
		"both": {
			"index.json", `{"manifests":[]}`, "blobs/sha256/0123abcd", config,
			"manifest.json", `[{"Config":"blobs/sha256/0123abcd","RepoTags":["localhost/rk-node:v1.36.3"]}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Archive(archiveOf(t, files...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(imageFacts(), got); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArchiveRefused(t *testing.T) {
	t.Parallel()
	config := configFile(t)
	for name, tc := range map[string]struct {
		archive *bytes.Reader
		want    *problem.Problem
		says    string
	}{
		"empty":            {bytes.NewReader(nil), problem.ArchiveUnreadable, "empty"},
		"compressed":       {bytes.NewReader(append([]byte{0x1f, 0x8b, 8}, make([]byte, 600)...)), problem.ArchiveUnreadable, "tar"},
		"no image":         {archiveOf(t, "etc/passwd", "root"), problem.ArchiveUnreadable, "index.json"},
		"index no JSON":    {archiveOf(t, "index.json", "{"), problem.ArchiveUnreadable, "index.json"},
		"no manifest":      {archiveOf(t, "index.json", ociIndex), problem.ArchiveUnreadable, "blobs/sha256/aa"},
		"no configuration": {archiveOf(t, "index.json", ociIndex, "blobs/sha256/aa", ociImage), problem.ArchiveUnreadable, "blobs/sha256/0123abcd"},
		"no name": {
			archiveOf(t, "index.json", `{"manifests":[{"digest":"sha256:aa"}]}`, "blobs/sha256/aa", ociImage, "blobs/sha256/0123abcd", config),
			problem.ArchiveUnreadable, "no name",
		},
		"two images":       {archiveOf(t, "index.json", `{"manifests":[{},{}]}`), problem.ArchiveUnreadable, "2 images"},
		"two docker":       {archiveOf(t, "manifest.json", `[{},{}]`), problem.ArchiveUnreadable, "2 images"},
		"another image":    {archiveOf(t, "index.json", ociIndex, "blobs/sha256/aa", ociImage, "blobs/sha256/0123abcd", `{}`), problem.NotNodeImage, "label"},
		"another platform": {archiveOf(t, "index.json", ociIndex, "blobs/sha256/aa", ociImage, "blobs/sha256/0123abcd", strings.Replace(config, runtime.GOARCH, "s390x", 1)), problem.ImageArch, "s390x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Archive(tc.archive)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v, want %s that says %q", err, tc.want.Code, tc.says)
			}
		})
	}
}
