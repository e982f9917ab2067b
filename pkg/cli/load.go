// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

func (a *app) load() *cobra.Command {
	return group("load", "Load images into the nodes of a cluster", a.loadImage(), a.loadDockerImage(), a.loadImageArchive())
}

// loadFlags are the flags of the commands that load images.
type loadFlags struct {
	name, archive, layout, as, output string
	nodes                             []string
}

func (f *loadFlags) add(a *app, cmd *cobra.Command) {
	nameFlag(cmd, &f.name, "name of the cluster")
	cmd.Flags().StringSliceVar(&f.nodes, "nodes", nil, "only into these nodes, separated by commas (default: all)")
	cmd.Flags().StringVar(&f.as, "as", "", "a further name of the image in the nodes, if it is one image")
	outputFlag(cmd, &f.output, documentFormats...)
	completeFlag(cmd, "name", a.completeNames)
	completeFlag(cmd, "nodes", a.completeNodes)
}

func (a *app) loadImage() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "image NAME... | --archive FILE | --oci-layout DIR", Short: "Load images of the engine, or of a file, into the nodes",
		Long: `Load images into all nodes of a cluster at the same time: of the container
engine's store, of an archive as 'podman save' or 'docker save' writes it (also an
OCI archive, plain or compressed with gzip), or of a folder with an OCI layout. Of
an image for several platforms, the nodes get theirs.

Only what a node lacks is sent to it: images that it has are not even saved, of
others it gets the layers that it has not. A pod that asks for 'web' finds an image
loaded as 'web'; images of Podman keep their name 'localhost/web', too.`,
		Example: `  rk load image web:v1
  rk load image localhost/web:v1 db --name demo --nodes demo-worker
  rk load image --archive web.tar
  docker save web | rk load image --archive -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := 0
			for _, yes := range []bool{len(args) > 0, f.archive != "", f.layout != ""} {
				if yes {
					given++
				}
			}
			if given != 1 {
				return usageErrorf(cmd, "either names of images, --archive or --oci-layout must be given")
			}
			return a.loadInto(cmd, f, args)
		},
		ValidArgsFunction: a.completeImages,
	}
	f.add(a, cmd)
	cmd.Flags().StringVar(&f.archive, "archive", "", "load all images of this archive, - for standard input")
	cmd.Flags().StringVar(&f.layout, "oci-layout", "", "load all images of this folder, an OCI layout")
	mustMark(cmd.MarkFlagDirname("oci-layout"))
	return cmd
}

// loadDockerImage is kind's spelling. The engine may as well be Podman.
func (a *app) loadDockerImage() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "docker-image NAME...", Short: "The same as 'rk load image NAME...', as kind spells it",
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("names of images are missing")
			}
			return nil
		}),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.loadInto(cmd, f, args) },
		ValidArgsFunction: a.completeImages,
	}
	f.add(a, cmd)
	return cmd
}

// loadImageArchive is kind's spelling.
func (a *app) loadImageArchive() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "image-archive FILE", Short: "The same as 'rk load image --archive FILE', as kind spells it",
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("one archive is expected, and %d are given", len(args))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.archive = args[0]
			return a.loadInto(cmd, f, nil)
		},
	}
	f.add(a, cmd)
	return cmd
}

func (a *app) loadInto(cmd *cobra.Command, f loadFlags, images []string) (err error) {
	format, err := ui.ParseFormat(f.output, documentFormats...)
	if err != nil {
		return err
	}
	name, err := a.oneCluster(cmd, nil, f.name)
	if err != nil {
		return err
	}
	if f.as != "" {
		if _, err := imagearchive.FullName(f.as); err != nil {
			return usageErrorf(cmd, "--as: %w", err)
		}
		if len(images) > 1 {
			return usageErrorf(cmd, "--as names one image, and %d are given", len(images))
		}
	}
	options := cluster.LoadOptions{Images: images, As: f.as, Nodes: f.nodes}
	loaded, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) (_ []cluster.Loaded, err error) {
		eng, _, err := e.holding(ctx, name)
		if err != nil {
			return nil, err
		}
		if options.Archive, err = a.openArchive(f); err != nil {
			return nil, err
		}
		if options.Archive != nil {
			defer func() { err = errors.Join(err, options.Archive.Close()) }()
		}
		options.Sources = []engine.Images{eng}
		for _, other := range e.all {
			if other != eng {
				options.Sources = append(options.Sources, other)
			}
		}
		rep, done := a.reporter()
		defer done()
		options.Reporter = rep
		return cluster.LoadImages(ctx, eng, name, options)
	})
	if err != nil {
		return err
	}
	a.noteLoaded(loaded)
	if format == ui.FormatTable {
		return nil
	}
	return ui.PrintValue(a.Out, format, loaded)
}

// openArchive opens what --archive or --oci-layout names, nil without them.
func (a *app) openArchive(f loadFlags) (*imagearchive.Archive, error) {
	switch {
	case f.archive == "-":
		return imagearchive.Read("standard input", a.In)
	case f.archive != "":
		return imagearchive.Open(f.archive)
	case f.layout != "":
		return imagearchive.OpenLayout(f.layout)
	}
	return nil, nil //nolint:nilnil // there need not be one
}

// noteLoaded says what was sent where.
func (a *app) noteLoaded(loaded []cluster.Loaded) {
	var names, had []string
	for _, l := range loaded {
		for _, name := range l.Images {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(l.New) == 0 {
			had = append(had, l.Node)
			continue
		}
		what := fmt.Sprintf("%.1f MB sent", float64(l.Bytes)/1e6)
		if l.Layers > 0 {
			what += fmt.Sprintf(", %d of %d layers", l.LayersSent, l.Layers)
		}
		a.note("%s: %s", l.Node, what)
	}
	switch {
	case len(had) == len(loaded):
		a.note("All nodes have it already: %s", strings.Join(names, ", "))
		return
	case len(had) > 0:
		a.note("Already there: %s", strings.Join(had, ", "))
	}
	a.note("Loaded %s", strings.Join(names, ", "))
}
