// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// BuildOptions say what node image to build.
type BuildOptions struct {
	KubernetesVersion string // "" for the default
	Programs          ProgramSource
	Output            string // file to write; "" for one in the cache
	Tag               string // name of the image; "" for the usual one
	Add               []nodeimage.AddedImage
	Reporter          step.Reporter
}

func (a *app) build() *cobra.Command {
	return group("build", "Build a node image, or its programs", a.buildNodeImage(), a.buildParts(), a.buildPins())
}

// buildFlags are the flags of "rk build node-image".
type buildFlags struct {
	kubernetesVersion, source, sourceDir, output, tag string
	arch, mirror, pins                                string
	add                                               []string
	load                                              bool
}

func (a *app) buildNodeImage() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use: "node-image", Short: "Build the image that nodes run, and load it into the engine",
		Long: `Build the image that nodes run: Debian, the programs of Kubernetes, and all
images of a default cluster. It needs no root, no container registry and no
container engine.

The image is loaded into the engine, unless --output names a file to write it
to; with --output and --load, both is done. What was built before is taken from
the cache.

Images given with --add-image lie in the node image as those of the cluster do:
every node has them at once, and they are stored once for all nodes.` + knownVersions(),
		Example: `  rk build node-image
  rk build node-image --kubernetes-version v1.35.4 --output node.tar
  rk build node-image --source-dir ./artifacts
  rk build node-image --add-image web:v1,./db.tar --tag my-node
  rk create cluster --image localhost/my-node`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if f.source == sourceRelease {
				var err error
				if f.mirror, err = a.mirrorOf(cmd, f.mirror); err != nil {
					return err
				}
			}
			return a.buildAndLoad(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.kubernetesVersion, "kubernetes-version", config.DefaultKubernetesVersion, "Kubernetes version")
	fs.StringVar(&f.source, "source", sourceModule, "where programs come from: module (compiled from Go modules), release (official artifacts) or dir (a folder)")
	fs.StringVar(&f.sourceDir, "source-dir", "", "folder with the programs, laid out as PART/PROGRAM; implies --source dir")
	fs.StringVar(&f.output, "output", "", "write the image to this file, an OCI archive")
	fs.BoolVar(&f.load, "load", false, "load the image into the engine also when --output is given")
	fs.StringVar(&f.arch, "arch", runtime.GOARCH, "processor architecture of the nodes: amd64 or arm64")
	fs.StringVar(&f.mirror, "release-mirror", "", "with --source release: server with the files of the projects' sites (default $"+envReleaseMirror+")")
	fs.StringVar(&f.pins, "release-pins", "", "with --source release: file with further checksums, of 'rk build pins'")
	fs.StringSliceVar(&f.add, "add-image", nil, "put these images into the node image too, of the engine or of archives (FILE.tar), separated by commas")
	fs.StringVar(&f.tag, "tag", "", "name of the image (default: localhost/rk-node:VERSION, with --add-image localhost/rk-node-custom:VERSION)")
	completeFlag(cmd, "kubernetes-version", completeVersions)
	completeFlag(cmd, "add-image", a.completeImages)
	choices(cmd, "source", sourceModule, sourceRelease, sourceDir)
	choices(cmd, "arch", architectures...)
	return cmd
}

func (f *buildFlags) check(cmd *cobra.Command) error {
	if err := oneOf(cmd, "source", f.source, sourceModule, sourceRelease, sourceDir); err != nil {
		return err
	}
	if err := oneOf(cmd, "arch", f.arch, architectures...); err != nil {
		return err
	}
	switch set := cmd.Flags().Changed; {
	case f.source == sourceDir && f.sourceDir == "":
		return usageErrorf(cmd, "--source dir needs --source-dir, the folder")
	case f.source != sourceDir && set("source") && f.sourceDir != "":
		return usageErrorf(cmd, "--source %s and --source-dir contradict each other", f.source)
	case f.source != sourceRelease && (f.mirror != "" || f.pins != ""):
		return usageErrorf(cmd, "--release-mirror and --release-pins are for --source release")
	case f.arch != runtime.GOARCH && f.output == "" && !f.load:
		return usageErrorf(cmd, "--arch %s is not this machine's: name a file to write with --output, for a machine of that kind", f.arch)
	case set("output") && f.output == "":
		return usageErrorf(cmd, "--output is empty")
	case set("tag") && f.tag == "":
		return usageErrorf(cmd, "--tag is empty")
	}
	if _, err := nodeimage.CustomRef(f.tag, f.kubernetesVersion); err != nil && f.tag != "" {
		return usageErrorf(cmd, "--tag: %w", err)
	}
	if f.sourceDir != "" {
		f.source = sourceDir
	}
	f.load = f.load || f.output == ""
	return nil
}

// knownVersions is the part of the help that lists what can be built.
func knownVersions() string {
	v, err := part.Load()
	if err != nil {
		return "" // a test of that package sees that the embedded file is right
	}
	var known []string
	for _, r := range v.Kubernetes.Releases {
		known = append(known, r.Version)
	}
	return "\n\nKubernetes versions: " + strings.Join(known, ", ") + "."
}

// needsEngine says whether images are loaded into the engine, or taken from it.
func (f buildFlags) needsEngine() bool {
	return f.load || slices.ContainsFunc(f.add, func(image string) bool { return !isImageFile(image) })
}

// buildAndLoad builds an image, loads it if that is asked for, and prints
// where it is. It connects to the engine before anything is built: a missing
// engine shows at once and not after minutes.
func (a *app) buildAndLoad(ctx context.Context, f buildFlags) error {
	if !f.needsEngine() {
		_, err := a.buildWith(ctx, nil, f)
		return err
	}
	_, err := withEngine(ctx, a, func(ctx context.Context, eng engine.Engine) (string, error) {
		built, err := a.buildWith(ctx, eng, f)
		if err != nil || !f.load {
			return "", err
		}
		ref, err := a.loadArchive(ctx, eng, built.Path)
		if err != nil {
			return "", err
		}
		_, err = fmt.Fprintln(a.Out, ref)
		return ref, err
	})
	return err
}

// buildWith builds an image with the images that are added to it.
func (a *app) buildWith(ctx context.Context, eng engine.Images, f buildFlags) (_ *nodeimage.Result, err error) {
	added, err := a.openAdded(ctx, eng, f.add, f.arch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, added.close()) }()
	o := f.options()
	o.Add = added.images
	return a.buildImage(ctx, o)
}

func (f buildFlags) options() BuildOptions {
	return BuildOptions{
		KubernetesVersion: f.kubernetesVersion, Output: f.output, Tag: f.tag,
		Programs: ProgramSource{Kind: f.source, Arch: f.arch, Dir: f.sourceDir, Mirror: f.mirror, Pins: f.pins},
	}
}

// buildImage builds an image, shows progress, and prints the file if it was
// asked for.
func (a *app) buildImage(ctx context.Context, o BuildOptions) (*nodeimage.Result, error) {
	rep, done := a.reporter()
	o.Reporter = rep
	built, err := a.Build(ctx, o)
	done()
	if err != nil {
		return nil, err
	}
	a.note("Built %s: %d MB, %s", built.Ref, built.Size/1_000_000, built.Digest)
	a.noteSources(o.Programs.Kind, built.Parts)
	if len(built.Added) > 0 {
		a.note("With %s", strings.Join(built.Added, ", "))
	}
	if o.Output != "" {
		_, err = fmt.Fprintln(a.Out, built.Path)
	}
	return built, err
}

// build is the real Deps.Build.
func build(ctx context.Context, o BuildOptions) (*nodeimage.Result, error) {
	cache, err := nodeimage.DefaultCache()
	if err != nil {
		return nil, err
	}
	source, err := o.Programs.open(func(e part.Event) {
		switch e.Kind {
		case part.Downloading, part.Compiling, part.Elsewhere:
			o.Reporter.Report(step.Event{Step: "image/parts", State: step.Progress, Detail: e.Part + ": " + e.Detail})
		}
	})
	if err != nil {
		return nil, err
	}
	return nodeimage.Build(ctx, nodeimage.Options{
		KubernetesVersion: o.KubernetesVersion, Source: source, Arch: o.Programs.Arch, Add: o.Add, Ref: o.Tag,
		Output: o.Output, CacheDir: cache, Reporter: o.Reporter,
	})
}
