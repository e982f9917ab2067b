// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/rootless-kubernetes/rk/images"
	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Labels of a node image.
const (
	LabelFormat     = "io.rk.node-image"         // Format
	LabelKubernetes = "io.rk.kubernetes-version" // e.g. "v1.36.3"
	LabelImages     = "io.rk.images"             // JSON object: short name -> reference in the node
)

// Format is the version of the interface between rk and its node images:
// where files go, which units there are. It goes up when that breaks.
const Format = "1"

// Ref returns the reference of the node image of a Kubernetes version.
func Ref(kubernetesVersion string) string { return "localhost/rk-node:" + kubernetesVersion }

// Options rule a build.
type Options struct {
	KubernetesVersion string        // "v1.36.3", "1.36"; "" for the default
	Source            part.Source   // of the programs
	Arch              string        // GOARCH of the nodes; "" for this machine's. Source gives programs for it
	Add               []AddedImage  // images beside those of a cluster
	Ref               string        // name of the image, see CustomRef; "" for Ref unless images are added
	Output            string        // file to write; "" for one in the cache
	CacheDir          string        // see DefaultCache
	Reporter          step.Reporter // may be nil
}

// Result is a node image that was built.
type Result struct {
	Path   string  `json:"path"`   // of the OCI archive
	Ref    string  `json:"ref"`    // its reference, once it is loaded
	Digest string  `json:"digest"` // of the image's manifest
	Size   int64   `json:"size"`   // of the archive, in bytes
	Layers []Layer `json:"layers"` // bottom up

	KubernetesVersion string            `json:"kubernetesVersion"`
	Arch              string            `json:"arch"`
	Parts             []Part            `json:"parts"`
	Images            map[string]string `json:"images"`          // short name -> reference in the node
	Added             []string          `json:"added,omitempty"` // references of the images that were added
}

// Part is a part that was put into a node image.
type Part struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	From    string `json:"from"` // "module", "release" or "dir"
}

// Layer is a layer of a node image. All layers are reproducible: the same
// inputs give the same digest. The first one's inputs are Debian's packages.
type Layer struct {
	Name   string `json:"name"` // "debian", "programs", "rootfs", "store" or "added"
	Digest string `json:"digest"`
	Size   int64  `json:"size"`   // in bytes
	Cached bool   `json:"cached"` // nothing had to be done
}

// DefaultCache returns the cache of the current user.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "rk", "nodeimage"), nil
}

// Build makes a node image. What was made before, from the same inputs, is
// taken from the cache. Failures that the user can do something about are
// problems of package problem.
func Build(ctx context.Context, o Options) (*Result, error) {
	b, err := newBuilder(o)
	if err != nil {
		return nil, err
	}
	return b.build(ctx)
}

func (b *builder) build(ctx context.Context) (res *Result, err error) {
	defer func() {
		if b.scratch != "" {
			err = errors.Join(err, os.RemoveAll(b.scratch))
		}
	}()
	if err := b.gather(ctx); err != nil {
		return nil, err
	}
	if err := b.layers(ctx); err != nil {
		return nil, err
	}
	if res, err = b.finish(); err != nil {
		return nil, err
	}
	return res, b.cache.prune(time.Now())
}

// builder holds what the stages of a build hand on.
type builder struct {
	Options
	report   reporter
	cache    cache
	arch     string
	versions *part.Versions
	release  part.Release
	recipe   *recipe
	specs    []spec
	// bootstrap makes the Debian base.
	bootstrap func(ctx context.Context, r *recipe, suite, arch, dir string, progress func(string)) error

	base     stageLayer
	basePath string // of the base's file
	built    []part.Built
	programs stageLayer
	store    stageLayer
	rootfs   stageLayer
	added    stageLayer
	images   map[string]string

	addedNames []string
	scratch    string // folder of the unpacked layers of added images, "" for none yet
}

// stageLayer is the layer that a stage made.
type stageLayer struct {
	layer
	name   string
	cached bool
}

func madeBy(stage string) string { return "rk build node-image: " + stage }

func newBuilder(o Options) (*builder, error) {
	b := &builder{Options: o, report: reporter{o.Reporter}, cache: cache{o.CacheDir}, arch: cmp.Or(o.Arch, runtime.GOARCH), bootstrap: bootstrap}
	var err error
	if b.versions, err = part.Load(); err != nil {
		return nil, err
	}
	if b.release, err = b.versions.Release(o.KubernetesVersion); err != nil {
		return nil, err
	}
	if b.recipe, err = loadRecipe(nodeimagedata.Rootfs); err != nil {
		return nil, err
	}
	b.specs, err = loadSpecs(images.FS)
	return b, err
}

// gather makes the Debian base and gets the programs, side by side.
func (b *builder) gather(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.baseStage(ctx) })
	g.Go(func() error {
		done := b.report.start("parts", "Programs of Kubernetes "+b.release.Version)
		var err error
		b.built, err = part.FetchAll(ctx, b.Source, b.versions.For(b.release))
		done(err)
		return err
	})
	return g.Wait()
}

// baseStage makes the Debian base, the one layer that is kept as a file: the
// others are as quickly made again as read.
func (b *builder) baseStage(ctx context.Context) error {
	produce := func(dir string) (layer, error) {
		suite := b.versions.Debian.Suite
		if err := b.bootstrap(ctx, b.recipe, suite, b.arch, dir, b.report.detail("debian")); err != nil {
			return layer{}, err
		}
		return describe(copyTo(filepath.Join(dir, baseFile)))
	}
	dir, err := b.stage(&b.base, "debian", "Debian base", produce,
		b.recipe.Epoch, b.recipe.Packages, b.recipe.Exclude, b.recipe.Keep, b.versions.Debian.Suite, b.arch)
	b.basePath = filepath.Join(dir, baseFile)
	b.base.fill = copyTo(b.basePath)
	return err
}

// layers makes the layers above the base, side by side.
func (b *builder) layers(ctx context.Context) error {
	src, sums, err := b.sources()
	if err != nil {
		return err
	}
	if b.images, err = b.references(src); err != nil {
		return err
	}
	cluster := sync.OnceValues(func() (*store, error) { return b.clusterStore(src) })
	stored := []any{storeFormat, b.recipe.Epoch, b.specs, b.images, sums, b.base.Hash, b.arch}
	g, _ := errgroup.WithContext(ctx)
	g.Go(func() error {
		return b.treeStage(&b.programs, "programs", "Layer of programs",
			func() (*tree, error) { return b.programTree(src) },
			b.recipe.Epoch, b.recipe.Programs, sums)
	})
	g.Go(func() error {
		return b.treeStage(&b.store, "store", "Images of the cluster",
			func() (*tree, error) {
				s, err := cluster()
				if err != nil {
					return nil, err
				}
				return s.files()
			}, stored...)
	})
	if len(b.Add) > 0 {
		g.Go(func() error { return b.addedStage(ctx, cluster, stored...) })
	}
	g.Go(func() error {
		t, err := b.recipe.overlay(nodeimagedata.Rootfs, map[string]any{"Images": b.images})
		if err != nil {
			return err
		}
		l, err := describe(func(w io.Writer) error { return t.write(w, b.recipe.Epoch) })
		if err != nil {
			return err
		}
		return b.treeStage(&b.rootfs, "rootfs", "Configuration of nodes", func() (*tree, error) { return t, nil }, l.Hash)
	})
	return g.Wait()
}

// storeFormat goes up when the same images are laid down in another way.
const storeFormat = 1

// treeStage describes the layer of a tree, which is made only if its
// description is not cached, or to write it.
func (b *builder) treeStage(into *stageLayer, name, title string, files func() (*tree, error), inputs ...any) error {
	files = sync.OnceValues(files)
	fill := func(w io.Writer) error {
		t, err := files()
		if err != nil {
			return err
		}
		return t.write(w, b.recipe.Epoch)
	}
	_, err := b.stage(into, name, title, func(string) (layer, error) { return describe(fill) }, inputs...)
	into.fill = fill
	return err
}

// stage takes a layer from the cache or makes it, and returns its cache entry.
func (b *builder) stage(into *stageLayer, name, title string, produce func(dir string) (layer, error), inputs ...any) (string, error) {
	done := b.report.start(name, title)
	key, err := keyOf(name, inputs...)
	var dir string
	if err == nil {
		into.layer, dir, into.cached, err = do(b.cache, key, produce)
		into.name, into.by = name, madeBy(name)
	}
	done(err)
	return dir, err
}

// sources returns where images' files come from, and a checksum of each
// program.
func (b *builder) sources() (sources, map[string]string, error) {
	d, err := openDebian(b.basePath)
	if err != nil {
		return sources{}, nil, err
	}
	src := sources{debian: d, programs: map[string]string{}, versions: map[string]string{"kubernetes": b.release.Version}}
	sums := map[string]string{}
	for _, built := range b.built {
		if _, ok := src.versions[built.Part.Name]; !ok {
			src.versions[built.Part.Name] = built.Part.Version
		}
		for _, f := range built.Files {
			src.programs[f.Name] = f.Path
			sums[f.Name] = f.SHA256
		}
	}
	return src, sums, nil
}

// references returns the reference of each image by its short names.
func (b *builder) references(src sources) (map[string]string, error) {
	refs := map[string]string{}
	for _, s := range b.specs {
		if s.Base {
			continue
		}
		ref, err := s.reference(src)
		if err != nil {
			return nil, err
		}
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			refs[name] = ref
		}
	}
	return refs, nil
}

// programTree returns the programs that run on the node itself.
func (b *builder) programTree(src sources) (*tree, error) {
	t := newTree()
	for dir, names := range b.recipe.Programs {
		for _, name := range names {
			from, ok := src.programs[name]
			if !ok {
				return nil, fmt.Errorf("rootfs.yaml: programs: no part has a program %q", name)
			}
			if err := t.file(path.Join(dir, name), 0o755, from); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// finish joins the layers and writes the archive.
func (b *builder) finish() (*Result, error) {
	labels, err := json.Marshal(b.images)
	if err != nil {
		return nil, err
	}
	config := nodeConfig(b.release.Version, string(labels))
	stages := []stageLayer{b.base, b.programs, b.rootfs, b.store}
	ref := Ref(b.release.Version)
	if len(b.Add) > 0 || b.Ref != "" {
		if ref, err = CustomRef(b.Ref, b.release.Version); err != nil {
			return nil, err
		}
	}
	if len(b.Add) > 0 {
		stages = append(stages, b.added)
		if labels, err = json.Marshal(b.addedNames); err != nil {
			return nil, err
		}
		config.Labels[LabelAdded] = string(labels)
	}
	var layers []layer
	for _, s := range stages {
		layers = append(layers, s.layer)
	}
	img, err := assemble(b.arch, b.recipe.Epoch, config, layers)
	if err != nil {
		return nil, err
	}
	a, err := newArchive(img, ref, layers, b.recipe.Epoch)
	if err != nil {
		return nil, err
	}
	res := &Result{
		Path: b.Output, Ref: ref, Digest: a.manifest.Hash.String(),
		KubernetesVersion: b.release.Version, Arch: b.arch, Images: b.images, Added: b.addedNames,
	}
	if res.Path == "" {
		res.Path = filepath.Join(b.CacheDir, fileName(ref)+"-"+b.arch+".tar")
	}
	for _, s := range stages {
		res.Layers = append(res.Layers, Layer{s.name, s.Hash.String(), s.Length, s.cached})
	}
	for _, built := range b.built {
		res.Parts = append(res.Parts, Part{built.Part.Name, built.Part.Version, built.From})
	}
	if res.Size, err = a.size(); err != nil {
		return nil, err
	}
	done := b.report.start("archive", "Writing "+res.Path)
	err = a.save(res.Path)
	done(err)
	return res, err
}

// fileName is a name for the file of an image: "rk-node-v1.36.3" for
// "localhost/rk-node:v1.36.3".
func fileName(ref string) string {
	return strings.NewReplacer("/", "-", ":", "-").Replace(strings.TrimPrefix(ref, "localhost/"))
}

// nodeConfig is how a node container runs.
func nodeConfig(kubernetesVersion, imageLabel string) v1.Config {
	return v1.Config{
		Entrypoint: []string{"/sbin/init"},
		// systemd in a container asks who runs it, and powers off on this signal.
		StopSignal: "SIGRTMIN+3",
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"KUBECONFIG=/etc/kubernetes/admin.conf",
			"container=oci",
		},
		Labels: map[string]string{
			LabelFormat:     Format,
			LabelKubernetes: kubernetesVersion,
			LabelImages:     imageLabel,
		},
	}
}
