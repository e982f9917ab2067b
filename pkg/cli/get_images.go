// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

func (a *app) getImages() *cobra.Command {
	var output, givenName string
	var only []string
	cmd := &cobra.Command{
		Use: "images [NAME]", Aliases: []string{"image"}, Short: "List the images that the nodes of a cluster have",
		Example: `  rk get images demo
  rk get images demo --nodes demo-worker -o name`,
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := ui.ParseFormat(output, listFormats...)
			if err != nil {
				return err
			}
			name, err := a.oneCluster(cmd, args, givenName)
			if err != nil {
				return err
			}
			var silent []string
			images, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) (images []cluster.NodeImages, err error) {
				eng, c, err := e.holding(ctx, name)
				if err != nil {
					return nil, err
				}
				images, silent, err = cluster.Images(ctx, eng, c, only)
				return images, err
			})
			if err != nil {
				return err
			}
			return a.printImages(format, images, silent)
		},
		ValidArgsFunction: a.completeNames,
	}
	outputFlag(cmd, &output, listFormats...)
	nameFlag(cmd, &givenName, "name of the cluster")
	cmd.Flags().StringSliceVar(&only, "nodes", nil, "only of these nodes, separated by commas (default: all)")
	completeFlag(cmd, "name", a.completeNames)
	completeFlag(cmd, "nodes", a.completeNodes)
	return cmd
}

func (a *app) printImages(format ui.Format, images []cluster.NodeImages, silent []string) error {
	for _, node := range silent {
		a.warn(node + " does not run: its images are not known")
	}
	if len(images) == 0 && len(silent) > 0 {
		return problem.NodeNotRunning.Wrapf("none of the nodes runs: %s", strings.Join(silent, ", "))
	}
	nodes := map[string]bool{}
	for _, img := range images {
		for _, n := range img.Nodes {
			nodes[n] = true
		}
	}
	type column = ui.Column[cluster.NodeImages]
	return ui.PrintList(a.Out, format, images,
		column{Name: "IMAGE", Value: func(i cluster.NodeImages) string { return i.Name }},
		column{Name: "ID", Value: func(i cluster.NodeImages) string { return shortID(i.ID) }},
		column{Name: "SIZE", Value: func(i cluster.NodeImages) string { return bytesText(i.Size) }},
		column{Name: "NODES", Value: func(i cluster.NodeImages) string { return fmt.Sprintf("%d of %d", len(i.Nodes), len(nodes)) }},
		column{Name: "ON", Wide: true, Value: func(i cluster.NodeImages) string { return strings.Join(i.Nodes, ",") }},
	)
}

// shortID is an image's ID as engines show it.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}
