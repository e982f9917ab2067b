// SPDX-License-Identifier: Apache-2.0

package imagearchive

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Image is an image of an archive, for one platform.
type Image struct {
	// Names are the references that the archive gives it, as they are written there.
	Names  []string
	ID     string // digest of its configuration: what Kubernetes calls the image's ID
	Layers []Layer

	manifest     []byte
	manifestType string
	config       []byte
	platform     platform
}

// Layer is a layer of an image.
type Layer struct {
	DiffID string // digest of the layer when it is not compressed
	// ChainID identifies the layer on top of those below it, which is the name
	// of a snapshot in containerd (OCI image specification, "Layer ChainID").
	ChainID   string
	Digest    string // of the layer as it lies in the archive
	Size      int64  // of that, in bytes
	MediaType string

	file string // name in the archive
}

// Media types of the OCI image specification, and those of Docker that mean the same.
const (
	typeIndex        = "application/vnd.oci.image.index.v1+json"
	typeManifest     = "application/vnd.oci.image.manifest.v1+json"
	typeConfig       = "application/vnd.oci.image.config.v1+json"
	typeDockerConfig = "application/vnd.docker.container.image.v1+json"
	typeLayer        = "application/vnd.oci.image.layer.v1.tar"
)

// Annotations that name an image: containerd's holds a whole reference, OCI's
// mostly a tag alone.
const (
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

func (p platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

type descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

// document is an index or a manifest.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
}

// saved is an element of manifest.json of "docker save".
type saved struct {
	Config           string
	RepoTags, Layers []string
}

var digestRe = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// PlatformError says that an image is not made for a platform.
type PlatformError struct {
	Image string   // its name, or digest
	Want  string   // e.g. "linux/arm64"
	Have  []string // platforms that there are, sorted
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("%s is not made for %s but for %s", e.Image, e.Want, strings.Join(e.Have, ", "))
}

// Images returns all images of the archive for Linux on an architecture (a
// GOARCH). It is problem.ImagePlatform with a *PlatformError if one is not made
// for that, and problem.ArchiveUnreadable if something is missing or damaged.
func (a *Archive) Images(arch string) ([]Image, error) {
	images, err := a.images(arch)
	var wrong *PlatformError
	switch {
	case errors.As(err, &wrong):
		return nil, problem.ImagePlatform.Wrapf("%s: %w", a.name, err)
	case err != nil:
		return nil, unreadable(a.name, err)
	}
	return images, nil
}

func (a *Archive) images(arch string) ([]Image, error) {
	data, err := a.read("index.json")
	if err == nil {
		return a.ociImages(data, arch)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	data, err = a.read("manifest.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("it holds neither index.json nor manifest.json: it is no image archive")
	}
	if err != nil {
		return nil, err
	}
	var list []saved
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var images []Image
	for _, s := range list {
		img, err := a.dockerImage(s, arch)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

func (a *Archive) ociImages(data []byte, arch string) ([]Image, error) {
	var index document
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var images []Image
	for _, d := range index.Manifests {
		name := d.name()
		img, err := a.choose(d, cmp.Or(name, d.Digest), arch)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(images, func(other Image) bool { return bytes.Equal(other.manifest, img.manifest) })
		if at < 0 {
			images = append(images, img)
			at = len(images) - 1
		}
		if name != "" {
			images[at].Names = append(images[at].Names, name)
		}
	}
	return images, nil
}

// name is the reference that an entry of an index has, "" for none. A tag
// alone is none.
func (d descriptor) name() string {
	if name := d.Annotations[annotationName]; name != "" {
		return name
	}
	if name := d.Annotations[annotationRef]; strings.ContainsAny(name, ":/@") {
		return name
	}
	return ""
}

// choose returns the image that an entry of an index stands for: the one for
// the architecture, if it is an index itself. Archives of an engine that has
// one platform of an image name the others, too, without their content.
func (a *Archive) choose(d descriptor, name, arch string) (Image, error) {
	doc, data, err := a.document(d)
	if err != nil {
		return Image{}, err
	}
	if doc.Config != nil {
		img, err := a.ociImage(doc, data, d.MediaType)
		if err == nil && !img.platform.fits(arch) {
			err = &PlatformError{name, "linux/" + arch, []string{img.platform.String()}}
		}
		return img, err
	}
	var have []string
	var found *descriptor
	for _, m := range doc.Manifests {
		p := m.Platform
		if p == nil || p.OS == "unknown" { // attestations
			continue
		}
		have = append(have, p.String())
		if p.fits(arch) && (found == nil || p.Variant > found.Platform.Variant) {
			found = &m
		}
	}
	if found == nil && len(doc.Manifests) == 1 && doc.Manifests[0].Platform == nil {
		return a.choose(doc.Manifests[0], name, arch) // an index around one image
	}
	if found == nil {
		slices.Sort(have)
		return Image{}, &PlatformError{name, "linux/" + arch, slices.Compact(have)}
	}
	if _, _, err := a.files.open(blob(found.Digest)); errors.Is(err, os.ErrNotExist) {
		return Image{}, fmt.Errorf("%s: the index names an image for %s that is not there: %w", name, found.Platform, err)
	}
	return a.choose(*found, name, arch)
}

func (p platform) fits(arch string) bool {
	return p.Architecture == arch && (p.OS == "linux" || p.OS == "")
}

// document reads an index or a manifest.
func (a *Archive) document(d descriptor) (document, []byte, error) {
	var doc document
	data, err := a.blob(d)
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err == nil && doc.Config == nil && doc.Manifests == nil {
		err = errors.New("neither an index nor a manifest")
	}
	if err != nil {
		return doc, nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return doc, data, nil
}

// blob reads a small blob and checks that it is the one.
func (a *Archive) blob(d descriptor) ([]byte, error) {
	if !digestRe.MatchString(d.Digest) {
		return nil, fmt.Errorf("%q is not a SHA-256 digest", d.Digest)
	}
	data, err := a.read(blob(d.Digest))
	if err == nil && digestOf(data) != d.Digest {
		err = errors.New("the content is damaged: its digest is " + digestOf(data))
	}
	return data, err
}

// blob is where an OCI layout has what a digest names.
func blob(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (a *Archive) ociImage(doc document, manifest []byte, mediaType string) (Image, error) {
	if t := doc.Config.MediaType; t != typeConfig && t != typeDockerConfig && t != "" {
		return Image{}, fmt.Errorf("%s is not a container image: its configuration is of type %s", digestOf(manifest), t)
	}
	config, err := a.blob(*doc.Config)
	if err != nil {
		return Image{}, fmt.Errorf("configuration %s: %w", doc.Config.Digest, err)
	}
	img := Image{ID: doc.Config.Digest, manifest: manifest, manifestType: cmp.Or(mediaType, doc.MediaType, typeManifest), config: config}
	for _, l := range doc.Layers {
		if !digestRe.MatchString(l.Digest) {
			return img, fmt.Errorf("%q is not a SHA-256 digest", l.Digest)
		}
		img.Layers = append(img.Layers, Layer{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, file: blob(l.Digest)})
	}
	return img, img.complete()
}

// complete reads the configuration.
func (img *Image) complete() error {
	var c struct {
		platform
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(img.config, &c); err != nil {
		return fmt.Errorf("configuration %s: %w", img.ID, err)
	}
	img.platform = c.platform
	if len(c.RootFS.DiffIDs) != len(img.Layers) {
		return fmt.Errorf("configuration %s: it speaks of %d layers, and there are %d", img.ID, len(c.RootFS.DiffIDs), len(img.Layers))
	}
	below := ""
	for i, diffID := range c.RootFS.DiffIDs {
		if !digestRe.MatchString(diffID) {
			return fmt.Errorf("configuration %s: %q is not a SHA-256 digest", img.ID, diffID)
		}
		chain := diffID
		if below != "" {
			chain = digestOf([]byte(below + " " + diffID))
		}
		img.Layers[i].DiffID, img.Layers[i].ChainID = diffID, chain
		below = chain
	}
	return nil
}

// dockerImage reads an image in the format of "docker save", and makes the
// manifest that it lacks.
func (a *Archive) dockerImage(s saved, arch string) (Image, error) {
	config, err := a.read(s.Config)
	if err != nil {
		return Image{}, fmt.Errorf("configuration %s: %w", s.Config, err)
	}
	img := Image{Names: s.RepoTags, ID: digestOf(config), config: config, manifestType: typeManifest, Layers: make([]Layer, len(s.Layers))}
	if err := img.complete(); err != nil {
		return img, err
	}
	if !img.platform.fits(arch) {
		return img, &PlatformError{strings.Join(append(s.RepoTags, img.ID)[:1], ""), "linux/" + arch, []string{img.platform.String()}}
	}
	manifest := document{
		SchemaVersion: 2, MediaType: typeManifest,
		Config: &descriptor{MediaType: typeConfig, Digest: img.ID, Size: int64(len(config))}, Layers: []descriptor{},
	}
	for i, file := range s.Layers {
		l := &img.Layers[i]
		l.file = file
		if err := a.describe(l); err != nil {
			return img, fmt.Errorf("layer %s: %w", file, err)
		}
		manifest.Layers = append(manifest.Layers, descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size})
	}
	img.manifest, err = json.Marshal(manifest)
	return img, err
}

// describe finds out type, digest and size of a layer that has no descriptor.
// One that is not compressed has the digest that the configuration says.
func (a *Archive) describe(l *Layer) error {
	f, size, err := a.files.open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	l.Size = size
	magic, err := io.ReadAll(io.LimitReader(f, magicSize))
	if err != nil {
		return err
	}
	switch kind := compression(magic); kind {
	case "":
		l.MediaType, l.Digest = typeLayer, l.DiffID
		return nil
	case "gzip", "zstd":
		l.MediaType = typeLayer + "+" + kind
	default:
		return errors.New("it is compressed with " + kind)
	}
	h := sha256.New()
	_, err = io.Copy(h, io.MultiReader(bytes.NewReader(magic), f))
	l.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return err
}
