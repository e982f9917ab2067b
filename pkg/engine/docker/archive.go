// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
)

// maxMetadata is the size in bytes up to which a file of an image archive can
// be a manifest. What is larger is a layer.
const maxMetadata = 1 << 20

var errNoManifest = errors.New("the archive's index names an image that it does not hold")

// withManifest passes an image archive on, in the form that every Docker
// loads: an OCI layout gets the manifest.json of "docker save", if it has
// none, since the image store that Docker has by default does not read
// index.json. Closing the result ends the passing on.
func withManifest(archive io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(addManifest(w, archive)) }() // never fails
	return r
}

// addManifest copies a tar stream and appends manifest.json where it is due.
func addManifest(w io.Writer, archive io.Reader) error {
	out, files := tar.NewWriter(w), layout{}
	for in := tar.NewReader(archive); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		content := io.Reader(in)
		var kept strings.Builder
		if h.Typeflag == tar.TypeReg && h.Size <= maxMetadata {
			content = io.TeeReader(in, &kept)
		}
		if _, err := io.Copy(out, content); err != nil {
			return err
		}
		if content != io.Reader(in) {
			files[path.Clean(h.Name)] = kept.String()
		}
	}
	if err := files.complete(out); err != nil {
		return err
	}
	return out.Close()
}

// layout is the small files of an archive by their names.
type layout map[string]string

// complete writes the manifest.json that is missing.
func (l layout) complete(out *tar.Writer) error {
	if _, ok := l["manifest.json"]; ok {
		return nil
	}
	if _, ok := l["index.json"]; !ok {
		return nil // no image archive; Docker says so
	}
	manifest, err := l.manifest()
	if err != nil {
		return err
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// savedImage is an entry of manifest.json (github.com/moby/moby, image/tarexport).
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// descriptor, and document, hold what is needed of the OCI image
// specification's descriptors, and of its indexes and manifests.
type descriptor struct {
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
	Platform    struct {
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

type document struct {
	Manifests []descriptor `json:"manifests"` // of an index
	Config    descriptor   `json:"config"`    // of a manifest
	Layers    []descriptor `json:"layers"`
}

// manifest makes manifest.json from index.json.
func (l layout) manifest() ([]savedImage, error) {
	index, err := l.read("index.json")
	if err != nil {
		return nil, err
	}
	images := []savedImage{}
	for _, d := range index.Manifests {
		m, err := l.image(d)
		if err != nil {
			return nil, err
		}
		image := savedImage{Config: blob(m.Config), Layers: []string{}}
		for _, layer := range m.Layers {
			image.Layers = append(image.Layers, blob(layer))
		}
		for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if name := d.Annotations[key]; name != "" {
				image.RepoTags = []string{name}
				break
			}
		}
		images = append(images, image)
	}
	return images, nil
}

// image returns the manifest that a descriptor names: of the image for this
// architecture, if it names an index.
func (l layout) image(d descriptor) (document, error) {
	doc, err := l.read(blob(d))
	if err != nil || len(doc.Manifests) == 0 {
		return doc, err
	}
	for _, m := range doc.Manifests {
		if m.Platform.Architecture == runtime.GOARCH {
			return l.read(blob(m))
		}
	}
	return l.read(blob(doc.Manifests[0]))
}

func (l layout) read(name string) (document, error) {
	var doc document
	content, ok := l[name]
	if !ok {
		return doc, fmt.Errorf("%w: %s", errNoManifest, name)
	}
	if err := json.Unmarshal([]byte(content), &doc); err != nil {
		return doc, fmt.Errorf("%s: %w", name, err)
	}
	return doc, nil
}

// blob is where an OCI layout has what a descriptor describes.
func blob(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }
