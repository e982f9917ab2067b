// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// LoadOptions rule LoadImages. Either Images or Archive is given.
type LoadOptions struct {
	Reporter step.Reporter
	// Images are names, or IDs, in the stores of Sources.
	Images []string
	// Sources are where Images are looked for, in this order. Default: the cluster's engine.
	Sources []engine.Images
	// Archive holds the images to load, all of them. The caller closes it.
	Archive *imagearchive.Archive
	// As is the name in the nodes of the one image that is loaded, beside those that it has.
	As string
	// Nodes are names of the nodes that get the images. Default: all.
	Nodes []string
}

// Loaded is what LoadImages did for a node.
type Loaded struct {
	Node   string   `json:"node"`
	Images []string `json:"images"` // full names that it has now
	// New are those of them that it did not have, or had of another image.
	New   []string `json:"new,omitempty"`
	Bytes int64    `json:"bytes"` // that were sent
	// Layers of images that it lacked: all of them, and those that were sent.
	Layers     int `json:"layers"`
	LayersSent int `json:"layersSent"`
}

// LoadImages brings images into the nodes of a cluster, all at the same time.
// What a node has is not sent to it: neither images nor layers, which are known
// by their chain IDs (see [node.ImageStore]). A node that refuses an archive
// without those layers, since they were deleted meanwhile, gets all of them.
func LoadImages(ctx context.Context, eng engine.Engine, name string, o LoadOptions) ([]Loaded, error) {
	if len(o.Sources) == 0 {
		o.Sources = []engine.Images{eng}
	}
	l := &loading{engine: eng, options: o}
	if err := l.findNodes(ctx, name); err != nil {
		return nil, err
	}
	defer l.close()
	ask := make([]step.Step, len(l.nodes))
	send := make([]step.Step, len(l.nodes))
	for i, n := range l.nodes {
		ask[i] = step.Step{ID: "ask/" + n.name, Title: n.name, Do: func(ctx context.Context) (step.Undo, error) {
			return nil, n.ask(ctx)
		}}
		send[i] = step.Step{ID: "load/" + n.name, Title: n.name, Do: func(ctx context.Context) (step.Undo, error) {
			return nil, n.load(ctx, l.images)
		}}
	}
	steps := []step.Step{
		step.All("ask", "Asking the nodes what they have", ask...),
		{ID: "images", Title: "Reading the images", Do: func(ctx context.Context) (step.Undo, error) { return nil, l.find(ctx) }},
		step.All("load", "Loading into the nodes", send...),
	}
	if err := step.Run(ctx, o.Reporter, steps, step.Options{}); err != nil {
		return nil, engineError(err)
	}
	out := make([]Loaded, len(l.nodes))
	for i, n := range l.nodes {
		out[i] = n.result
	}
	return out, nil
}

// loading is one LoadImages.
type loading struct {
	engine  engine.Engine
	options LoadOptions
	nodes   []*loadingNode
	images  []*wantedImage
	opened  []*imagearchive.Archive // of engines' stores
}

func (l *loading) close() {
	for _, a := range l.opened {
		_ = a.Close() // a temporary file that was only read
	}
}

// wantedImage is an image that nodes shall have. It has no content if all
// nodes have the image already.
type wantedImage struct {
	id      string
	names   []string // full
	archive *imagearchive.Archive
	content imagearchive.Image
}

// findNodes finds the nodes that the images are for, which must run.
func (l *loading) findNodes(ctx context.Context, name string) error {
	c, err := Find(ctx, l.engine, name)
	if err != nil {
		return err
	}
	for _, want := range l.options.Nodes {
		if !slices.ContainsFunc(c.Nodes, func(n Node) bool { return n.Name == want }) {
			return problem.NodeNotFound.Wrapf("cluster %q has no node %q; there are: %s", name, want, strings.Join(c.nodeNames(), ", "))
		}
	}
	for _, n := range c.Nodes {
		if len(l.options.Nodes) > 0 && !slices.Contains(l.options.Nodes, n.Name) {
			continue
		}
		if n.Role != plan.RoleControlPlane && n.Role != plan.RoleWorker {
			continue // no kubelet runs there
		}
		if n.State != engine.StateRunning {
			return notRunning(n)
		}
		l.nodes = append(l.nodes, &loadingNode{name: n.Name, node: node.New(l.engine, n.Name), result: Loaded{Node: n.Name, Images: []string{}}})
	}
	if len(l.nodes) == 0 {
		return problem.NodeNotFound.Wrapf("cluster %q has no nodes", name)
	}
	return nil
}

func (c *Cluster) nodeNames() []string {
	names := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		names[i] = n.Name
	}
	return names
}

func notRunning(n Node) error {
	return problem.NodeNotRunning.
		Withf("'rk logs %[1]s' shows what it printed before it stopped; 'podman start %[1]s' or 'docker start %[1]s' starts it again.", n.Name).
		Wrapf("%s is %s", n.Name, n.State)
}

// find finds out which images are wanted, and gets the content of those that a node lacks.
func (l *loading) find(ctx context.Context) (err error) {
	if a := l.options.Archive; a != nil {
		err = l.fromArchive(a)
	} else {
		err = l.fromStores(ctx)
	}
	if err != nil {
		return err
	}
	// What will be sent is looked at once, before a node gets half of it.
	for _, w := range l.images {
		if w.archive == nil {
			continue
		}
		var needed []imagearchive.Layer
		for _, layer := range w.content.Layers {
			if slices.ContainsFunc(l.nodes, func(n *loadingNode) bool { return n.lacks(w) && !n.store.HasLayer(layer.ChainID) }) {
				needed = append(needed, layer)
			}
		}
		if err := w.archive.Check(ctx, needed); err != nil {
			return err
		}
	}
	return nil
}

// want adds an image; one that is wanted already, under another name, gets the
// further names.
func (l *loading) want(w wantedImage) {
	at := slices.IndexFunc(l.images, func(other *wantedImage) bool { return other.id == w.id })
	if at < 0 {
		l.images = append(l.images, &w)
		return
	}
	for _, name := range w.names {
		if !slices.Contains(l.images[at].names, name) {
			l.images[at].names = append(l.images[at].names, name)
		}
	}
}

// arch is the architecture of the nodes, which share a host.
func (l *loading) arch() string { return l.nodes[0].store.Arch }

func (l *loading) fromArchive(a *imagearchive.Archive) error {
	images, err := a.Images(l.arch())
	if err != nil {
		return err
	}
	if l.options.As != "" && len(images) != 1 {
		return problem.InvalidUsage.With("Leave out --as: each image keeps the names that it has in the archive.").
			Wrapf("--as names one image, and the archive holds %d", len(images))
	}
	for _, img := range images {
		names, err := fullNames(append(slices.Clone(img.Names), l.options.As)...)
		if err != nil {
			return problem.ArchiveUnreadable.With("Save the image with a valid name.").Wrap(err)
		}
		if len(names) == 0 {
			return problem.ArchiveUnreadable.
				With("Give it one with --as NAME; pods ask for images by name.").
				Wrapf("the image %s has no name in the archive", img.ID)
		}
		l.want(wantedImage{id: img.ID, names: names, archive: a, content: img})
	}
	if len(images) == 0 {
		return problem.ArchiveUnreadable.With("Save an image again.").Wrapf("the archive holds no image")
	}
	return nil
}

// fullNames are the names by which nodes know images; empty ones are left out, each comes once.
func fullNames(refs ...string) ([]string, error) {
	var names []string
	for _, ref := range refs {
		if ref == "" {
			continue
		}
		name, err := imagearchive.FullName(ref)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// storedImage is an image in an engine's store.
type storedImage struct {
	ref   string
	id    string // as the engine has it: of its configuration, or of something else
	names []string
}

// fromStores finds images by name in the engines' stores. Those that all nodes
// have already are not saved.
func (l *loading) fromStores(ctx context.Context) error {
	missing := map[engine.Images][]storedImage{}
	for _, ref := range l.options.Images {
		source, stored, err := l.lookUp(ctx, ref)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(l.nodes, func(n *loadingNode) bool { _, ok := n.store.Find(stored.id); return !ok }) && len(stored.names) > 0 {
			l.want(wantedImage{id: stored.id, names: stored.names})
			continue
		}
		missing[source] = append(missing[source], stored)
	}
	for _, source := range l.options.Sources {
		if len(missing[source]) == 0 {
			continue
		}
		if err := l.save(ctx, source, missing[source]); err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds an image and the names that nodes shall have it by: the one
// that was asked for, as a pod's image is looked for, and --as.
func (l *loading) lookUp(ctx context.Context, ref string) (engine.Images, storedImage, error) {
	for _, source := range l.options.Sources {
		img, err := source.InspectImage(ctx, ref)
		if errors.Is(err, engine.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, storedImage{}, err
		}
		stored := storedImage{ref: ref, id: "sha256:" + strings.TrimPrefix(img.ID, "sha256:")}
		name := ref
		if isID(ref, stored.id) {
			name = ""
		}
		stored.names, err = fullNames(name, l.options.As)
		if err != nil {
			return nil, stored, problem.InvalidUsage.With("Give the name as the engine lists it.").Wrap(err)
		}
		return source, stored, nil
	}
	return nil, storedImage{}, problem.ImageNotFound.Wrapf("%s: %w", ref, engine.ErrNotFound)
}

// isID says whether a reference is an image's ID, or the beginning of it.
func isID(ref, id string) bool {
	hex := strings.TrimPrefix(ref, "sha256:")
	return hex != "" && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), hex)
}

// save reads images out of an engine's store.
func (l *loading) save(ctx context.Context, source engine.Images, stored []storedImage) error {
	refs := make([]string, len(stored))
	for i, s := range stored {
		refs[i] = s.ref
	}
	step.Report(ctx, "saving "+strings.Join(refs, ", "))
	stream, err := source.SaveImages(ctx, refs)
	if errors.Is(err, engine.ErrNotFound) {
		return problem.ImageNotFound.Wrap(err)
	}
	if err != nil {
		return err
	}
	archive, err := imagearchive.Read("what the engine saved", stream)
	if err := errors.Join(err, stream.Close()); err != nil {
		return err
	}
	l.opened = append(l.opened, archive)
	images, err := archive.Images(l.arch())
	if err != nil {
		return err
	}
	for _, s := range stored {
		img, err := s.of(images)
		if err != nil {
			return err
		}
		names, err := fullNames(append(slices.Clone(s.names), img.Names...)...)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return problem.InvalidUsage.With("Give it a name in the nodes with --as NAME; pods ask for images by name.").Wrapf("the image %s has no name", s.ref)
		}
		l.want(wantedImage{id: img.ID, names: names, archive: archive, content: img})
	}
	return nil
}

// of finds a stored image among those of an archive: by ID, or, where the
// engine's IDs are not those of configurations (Docker with containerd's image store), by name.
func (s storedImage) of(images []imagearchive.Image) (imagearchive.Image, error) {
	for _, img := range images {
		if img.ID == s.id {
			return img, nil
		}
	}
	for _, img := range images {
		names, err := fullNames(img.Names...)
		if err != nil {
			return img, err
		}
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(s.names, name) }) {
			return img, nil
		}
	}
	if len(images) == 1 {
		return images[0], nil
	}
	return imagearchive.Image{}, fmt.Errorf("the engine saved %d images, but not %s", len(images), s.ref)
}

// loadingNode is a node that gets images.
type loadingNode struct {
	name   string
	node   *node.Node
	store  *node.ImageStore
	result Loaded
}

func (n *loadingNode) ask(ctx context.Context) (err error) {
	n.store, err = n.node.ImageStore(ctx)
	var failed *node.CommandError
	if errors.As(err, &failed) {
		return problem.ImportFailed.
			Withf("containerd does not answer there, or the image of the node is an old one. 'rk exec %s -- journalctl -u containerd' tells more.", n.name).Wrap(err)
	}
	return err
}

func (n *loadingNode) lacks(w *wantedImage) bool {
	_, ok := n.store.Find(w.id)
	return !ok
}

// load sends what the node lacks, and names what it has.
func (n *loadingNode) load(ctx context.Context, images []*wantedImage) error {
	lacking := map[*imagearchive.Archive][]imagearchive.Image{}
	for _, w := range images {
		n.result.Images = append(n.result.Images, w.names...)
		have, ok := n.store.Find(w.id)
		if !ok {
			content := w.content
			content.Names = w.names
			lacking[w.archive] = append(lacking[w.archive], content)
			n.result.New = append(n.result.New, w.names...)
			continue
		}
		var names []string
		for _, name := range w.names {
			if !have.Has(name) {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			continue
		}
		if err := n.node.TagImage(ctx, w.id, names...); err != nil {
			return n.refused(err)
		}
		n.result.New = append(n.result.New, names...)
	}
	for archive, images := range lacking {
		err := n.send(ctx, archive, images, func(l imagearchive.Layer) bool { return n.store.HasLayer(l.ChainID) })
		var failed *node.CommandError
		if errors.As(err, &failed) && n.reduced(images) && !full(err) {
			step.Report(ctx, "some layers are gone; sending all")
			err = n.send(ctx, archive, images, func(imagearchive.Layer) bool { return false })
		}
		if err != nil {
			return n.refused(err)
		}
	}
	return nil
}

// reduced says whether something of images was left out.
func (n *loadingNode) reduced(images []imagearchive.Image) bool {
	return slices.ContainsFunc(images, func(img imagearchive.Image) bool {
		return slices.ContainsFunc(img.Layers, func(l imagearchive.Layer) bool { return n.store.HasLayer(l.ChainID) })
	})
}

// send imports an archive of images in the node while it is written.
func (n *loadingNode) send(ctx context.Context, archive *imagearchive.Archive, images []imagearchive.Image, skip func(imagearchive.Layer) bool) error {
	var names []string
	var total int64
	layers, layersSent := 0, 0
	for _, img := range images {
		names = append(names, img.Names...)
		for _, l := range img.Layers {
			layers++
			if !skip(l) {
				layersSent++
				total += l.Size
			}
		}
	}
	r, w := io.Pipe()
	sent := &meter{w: w, total: total, report: func(text string) { step.Report(ctx, text) }}
	var written error
	var writing sync.WaitGroup
	writing.Go(func() {
		written = archive.Write(sent, images, skip)
		w.CloseWithError(written)
	})
	err := n.node.ImportImages(ctx, n.store.Snapshotter, r, names...)
	_ = r.CloseWithError(errNotRead) // a node that refused the beginning does not read the rest
	writing.Wait()
	n.result.Bytes += sent.n
	if written != nil && !errors.Is(written, errNotRead) {
		return fmt.Errorf("%s: %w", n.name, written)
	}
	if err == nil {
		n.result.Layers += layers
		n.result.LayersSent += layersSent
	}
	return err
}

var errNotRead = errors.New("the node stopped reading")

// refused is why a node did not take an image.
func (n *loadingNode) refused(err error) error {
	var failed *node.CommandError
	switch {
	case full(err):
		return problem.DiskFull.
			Withf("Free space where the engine keeps its volumes ('podman system df' or 'docker system df' shows it), or delete images that the node no longer needs: 'rk exec %s -- crictl rmi --prune'.", n.name).
			Wrap(err)
	case errors.As(err, &failed):
		return problem.ImportFailed.Withf("'rk exec %s -- journalctl -u containerd' tells more.", n.name).Wrap(err)
	}
	return err
}

func full(err error) bool { return strings.Contains(err.Error(), "no space left on device") }

// meter counts what is written, and reports it now and then.
type meter struct {
	w        io.Writer
	n, total int64 // bytes
	said     int64
	report   func(string)
}

// megabyte is the unit of what is shown.
const megabyte = 1_000_000

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n += int64(n)
	if m.n-m.said >= max(4*megabyte, m.total/20) {
		m.said = m.n
		m.report(fmt.Sprintf("%d of %d MB", m.n/megabyte, max(m.total, m.n)/megabyte))
	}
	return n, err
}
