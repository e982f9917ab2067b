// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// Image is an image that a node has, as the kubelet sees it.
type Image struct {
	ID      string   `json:"id"`                // digest of its configuration: "sha256:…"
	Tags    []string `json:"tags,omitempty"`    // full names with a tag
	Digests []string `json:"digests,omitempty"` // full names with a digest
	Size    int64    `json:"size"`              // bytes that it takes in the node
	Pinned  bool     `json:"pinned,omitempty"`  // the kubelet never deletes it
}

// Has says whether the image has a full name.
func (i Image) Has(name string) bool {
	return slices.Contains(i.Tags, name) || slices.Contains(i.Digests, name)
}

// ImageStore is what a node's containerd has.
type ImageStore struct {
	Arch        string // GOARCH of the node
	Snapshotter string // e.g. "overlayfs"
	Images      []Image

	snapshots map[string]bool // chain IDs of unpacked layers
}

// Find returns the image with an ID.
func (s *ImageStore) Find(id string) (Image, bool) {
	i := slices.IndexFunc(s.Images, func(img Image) bool { return img.ID == id })
	if i < 0 {
		return Image{}, false
	}
	return s.Images[i], true
}

// HasLayer says whether a layer is unpacked, on top of all those below it. A
// node keeps no layer as an archive once it is unpacked, and has none of the
// images that came with it: what it has is known by its snapshots alone.
func (s *ImageStore) HasLayer(chainID string) bool { return s.snapshots[chainID] }

// imageStoreScript prints, between lines of "---": the architecture, the
// snapshotter, its snapshots and the images.
const imageStoreScript = `set -e
uname -m
read -r snapshotter </var/lib/containerd/rk-snapshotter
echo "$snapshotter"
echo ---
ctr -n k8s.io snapshots --snapshotter "$snapshotter" ls
echo ---
crictl images -o json`

// ImageStore asks a running node what images and layers it has.
func (n *Node) ImageStore(ctx context.Context) (*ImageStore, error) {
	out, err := n.Output(ctx, "sh", "-c", imageStoreScript)
	if err != nil {
		return nil, err
	}
	s, err := parseImageStore(string(out))
	if err != nil {
		return nil, fmt.Errorf("%s: images: %w", n.Name, err)
	}
	return s, nil
}

var errImageStore = errors.New("the node's answer is not understood")

func parseImageStore(text string) (*ImageStore, error) {
	parts := strings.SplitN(text, "---\n", 3)
	head := strings.Fields(parts[0])
	if len(parts) != 3 || len(head) != 2 {
		return nil, fmt.Errorf("%w: %q", errImageStore, text)
	}
	s := &ImageStore{Arch: goarch(head[0]), Snapshotter: head[1], snapshots: map[string]bool{}}
	for line := range strings.Lines(parts[1]) {
		// KEY PARENT KIND, the parent missing for the lowest layer.
		if f := strings.Fields(line); len(f) > 1 && f[len(f)-1] == "Committed" {
			s.snapshots[f[0]] = true
		}
	}
	var err error
	s.Images, err = parseImages([]byte(parts[2]))
	return s, err
}

// goarch is Go's name of a machine that the kernel names.
func goarch(machine string) string {
	switch {
	case machine == "x86_64":
		return "amd64"
	case machine == "aarch64":
		return "arm64"
	case strings.HasPrefix(machine, "armv"):
		return "arm"
	}
	return machine // ppc64le, riscv64, s390x
}

// Images asks a running node what images it has.
func (n *Node) Images(ctx context.Context) ([]Image, error) {
	out, err := n.Output(ctx, "crictl", "images", "-o", "json")
	if err != nil {
		return nil, err
	}
	images, err := parseImages(out)
	if err != nil {
		return nil, fmt.Errorf("%s: images: %w", n.Name, err)
	}
	return images, nil
}

// parseImages reads ListImagesResponse of the CRI as crictl writes it.
func parseImages(data []byte) ([]Image, error) {
	var list struct {
		Images []struct {
			ID          string
			RepoTags    []string
			RepoDigests []string
			Size        string
			Pinned      bool
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", errImageStore, err)
	}
	images := make([]Image, len(list.Images))
	for i, img := range list.Images {
		size, err := strconv.ParseInt(img.Size, 10, 64)
		if err != nil && img.Size != "" {
			return nil, fmt.Errorf("%w: size of %s: %w", errImageStore, img.ID, err)
		}
		images[i] = Image{ID: img.ID, Tags: img.RepoTags, Digests: img.RepoDigests, Size: size, Pinned: img.Pinned}
	}
	return images, nil
}

// seenByKubelet waits until the CRI plugin knows the images that are named: it
// learns of those that ctr makes from containerd's events, a moment later.
const seenByKubelet = `
for name; do
	tries=0
	until crictl inspecti "$name" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -ge 100 ]; then
			echo "containerd has $name, but its CRI plugin does not know it" >&2
			exit 1
		fi
		sleep 0.1
	done
done`

// Only the client's own way of importing (--local) can discard layers.
const importScript = `ctr -n k8s.io images import --local --discard-unpacked-layers --snapshotter "$1" - || exit
shift` + seenByKubelet

// ImportImages hands an OCI archive with images of these full names to the
// node's containerd, which unpacks its layers and drops them: they exist once,
// as snapshots. An archive may lack layers that the node has as snapshots
// (containerd's pkg/rootfs, ApplyLayer, looks for these first). On return the
// kubelet can use the images. A *CommandError tells why containerd refused.
func (n *Node) ImportImages(ctx context.Context, snapshotter string, archive io.Reader, names ...string) error {
	argv := append([]string{"sh", "-c", importScript, "rk-import", snapshotter}, names...)
	var out bytes.Buffer
	exit, err := n.engine.Exec(ctx, n.Name, engine.Process{Argv: argv, Stdin: archive, Stdout: &out, Stderr: &out})
	if err != nil {
		return fmt.Errorf("%s: import images: %w", n.Name, err)
	}
	if exit != 0 {
		return &CommandError{Node: n.Name, Argv: []string{"ctr", "images", "import"}, Exit: exit, Output: strings.TrimSpace(out.String())}
	}
	return nil
}

// The CRI plugin keeps every image under its ID, too.
const tagScript = `ctr -n k8s.io images tag --local --force "$@" || exit
shift` + seenByKubelet

// TagImage gives an image further full names; one that another image has
// moves. On return the kubelet knows them.
func (n *Node) TagImage(ctx context.Context, id string, names ...string) error {
	_, err := n.Output(ctx, append([]string{"sh", "-c", tagScript, "rk-tag", id}, names...)...)
	return err
}
