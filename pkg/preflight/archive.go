// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// maxMetadata is the size in bytes up to which a file of an image archive can
// be metadata. What is larger is a layer.
const maxMetadata = 1 << 20

// Archive returns what the node image in an archive (OCI layout or `docker
// save`, as one tar file, not compressed) says of itself, without loading it
// anywhere. ID is the digest of the image's configuration in hexadecimal,
// which is also the ID that engines give it. Errors are ArchiveUnreadable,
// and those of [Image].
func Archive(r io.ReadSeeker) (plan.ImageFacts, error) {
	files, err := metadata(r)
	if err != nil {
		return plan.ImageFacts{}, problem.ArchiveUnreadable.Wrap(err)
	}
	ref, config, err := files.image()
	if err == nil && ref == "" {
		err = errors.New("the image has no name; save it with one, as 'rk build node-image --output FILE.tar' does")
	}
	if err != nil {
		return plan.ImageFacts{}, problem.ArchiveUnreadable.Wrap(err)
	}
	var c struct {
		Architecture string `json:"architecture"`
		Config       struct {
			Labels map[string]string `json:"Labels"`
		} `json:"config"`
	}
	if err := files.decode(config, &c); err != nil {
		return plan.ImageFacts{}, problem.ArchiveUnreadable.Wrap(err)
	}
	id := strings.TrimSuffix(path.Base(config), ".json")
	return facts(ref, engine.Image{ID: id, Labels: c.Config.Labels, Arch: c.Architecture})
}

// archiveFiles are the small files of an archive by their cleaned names.
type archiveFiles map[string][]byte

func metadata(r io.Reader) (archiveFiles, error) {
	files := archiveFiles{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && len(files) > 0 {
			return files, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the archive is empty")
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxMetadata {
			continue
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		files[path.Clean(h.Name)] = data
	}
}

func (f archiveFiles) decode(name string, v any) error {
	data, ok := f[path.Clean(name)]
	if !ok {
		return fmt.Errorf("the archive has no %s", name)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// image returns the reference of the one image in the archive, "" if it has
// none, and the name of its configuration file.
func (f archiveFiles) image() (ref, config string, err error) {
	if _, ok := f["manifest.json"]; ok {
		return f.dockerImage()
	}
	return f.ociImage()
}

// dockerImage reads manifest.json of `docker save`.
func (f archiveFiles) dockerImage() (ref, config string, err error) {
	var images []struct {
		Config   string
		RepoTags []string
	}
	if err := f.decode("manifest.json", &images); err != nil {
		return "", "", err
	}
	if len(images) != 1 {
		return "", "", fmt.Errorf("the archive holds %d images, one is expected", len(images))
	}
	if len(images[0].RepoTags) > 0 {
		ref = images[0].RepoTags[0]
	}
	return ref, images[0].Config, nil
}

// ociImage reads an OCI image layout (github.com/opencontainers/image-spec, image-layout.md).
func (f archiveFiles) ociImage() (ref, config string, err error) {
	var index struct {
		Manifests []struct {
			Digest      string            `json:"digest"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := f.decode("index.json", &index); err != nil {
		return "", "", err
	}
	if len(index.Manifests) != 1 {
		return "", "", fmt.Errorf("the archive holds %d images, one is expected", len(index.Manifests))
	}
	var manifest struct {
		Config struct {
			Digest string `json:"digest"`
		} `json:"config"`
	}
	if err := f.decode(blobPath(index.Manifests[0].Digest), &manifest); err != nil {
		return "", "", err
	}
	annotations := index.Manifests[0].Annotations
	if ref = annotations["io.containerd.image.name"]; ref == "" {
		ref = annotations["org.opencontainers.image.ref.name"]
	}
	return ref, blobPath(manifest.Config.Digest), nil
}

// blobPath is where an OCI layout has the content of a digest.
func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }
