// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Sources of the node image's programs.
const (
	sourceModule = "module"
	sourceDir    = "dir"
)

// BuildOptions say what node image to build.
type BuildOptions struct {
	KubernetesVersion string // "" for the default
	SourceDir         string // folder with the programs; "" compiles them from their Go modules
	Output            string // file to write; "" for one in the cache
	Reporter          step.Reporter
}

func (a *app) build() *cobra.Command {
	return group("build", "Build a node image, or its programs", a.buildNodeImage(), a.buildParts())
}

// buildFlags are the flags of "rk build node-image".
type buildFlags struct {
	kubernetesVersion, source, sourceDir, output string
	load                                         bool
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
the cache.` + knownVersions(),
		Example: `  rk build node-image
  rk build node-image --kubernetes-version v1.35.4 --output node.tar
  rk build node-image --source-dir ./artifacts`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.buildAndLoad(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.kubernetesVersion, "kubernetes-version", config.DefaultKubernetesVersion, "Kubernetes version")
	fs.StringVar(&f.source, "source", sourceModule, "where programs come from: module (compiled from Go modules) or dir (a folder)")
	fs.StringVar(&f.sourceDir, "source-dir", "", "folder with the programs, laid out as PART/PROGRAM; implies --source dir")
	fs.StringVar(&f.output, "output", "", "write the image to this file, an OCI archive")
	fs.BoolVar(&f.load, "load", false, "load the image into the engine also when --output is given")
	completeFlag(cmd, "kubernetes-version", completeVersions)
	choices(cmd, "source", sourceModule, sourceDir)
	return cmd
}

func (f *buildFlags) check(cmd *cobra.Command) error {
	if err := oneOf(cmd, "source", f.source, sourceModule, sourceDir); err != nil {
		return err
	}
	switch set := cmd.Flags().Changed; {
	case f.source == sourceDir && f.sourceDir == "":
		return usageErrorf(cmd, "--source dir needs --source-dir, the folder")
	case f.source == sourceModule && set("source") && f.sourceDir != "":
		return usageErrorf(cmd, "--source module and --source-dir contradict each other")
	case set("output") && f.output == "":
		return usageErrorf(cmd, "--output is empty")
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

// buildAndLoad builds an image, loads it if that is asked for, and prints
// where it is. It connects to the engine before anything is built: a missing
// engine shows at once and not after minutes.
func (a *app) buildAndLoad(ctx context.Context, f buildFlags) error {
	if !f.load {
		_, err := a.buildImage(ctx, f.options())
		return err
	}
	_, err := withEngine(ctx, a, func(ctx context.Context, eng engine.Engine) (string, error) {
		built, err := a.buildImage(ctx, f.options())
		if err != nil {
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

func (f buildFlags) options() BuildOptions {
	return BuildOptions{KubernetesVersion: f.kubernetesVersion, SourceDir: f.sourceDir, Output: f.output}
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
	if o.Output != "" {
		_, err = fmt.Fprintln(a.Out, built.Path)
	}
	return built, err
}

// build is the real Deps.Build.
func build(ctx context.Context, o BuildOptions) (*nodeimage.Result, error) {
	parts, err := part.DefaultCache()
	if err != nil {
		return nil, err
	}
	cache, err := nodeimage.DefaultCache()
	if err != nil {
		return nil, err
	}
	report := func(e part.Event) {
		if e.Kind == part.Downloading || e.Kind == part.Compiling {
			o.Reporter.Report(step.Event{Step: "image/parts", State: step.Progress, Detail: e.Part + ": " + e.Detail})
		}
	}
	var source part.Source = &part.Module{Cache: parts, Arch: runtime.GOARCH, Report: report}
	if o.SourceDir != "" {
		source = &part.Dir{Root: o.SourceDir, Arch: runtime.GOARCH, Report: report}
	}
	return nodeimage.Build(ctx, nodeimage.Options{
		KubernetesVersion: o.KubernetesVersion, Source: source, Output: o.Output, CacheDir: cache, Reporter: o.Reporter,
	})
}
