// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
)

// completion completes arguments, or the value of a flag.
type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// completeFlag registers what completes the value of a flag.
func completeFlag(cmd *cobra.Command, flag string, c completion) {
	mustMark(cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return c(cmd, nil, toComplete) // arguments do not matter for a flag
	}))
}

// mustMark sees that a flag exists which is spoken of: it is named a few lines before.
func mustMark(err error) {
	if err != nil {
		panic(err)
	}
}

// completeNames completes the name of one cluster.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeMoreNames(cmd, args, "")
}

// completeMoreNames completes names of clusters, each once.
func (a *app) completeMoreNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	clusters, err := completing(cmd, a, listAll)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range clusters {
		if !slices.Contains(args, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNode completes the name of one node, or what comes first of a list of them.
func (a *app) completeNode(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, err := a.nodeNames(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes a list of nodes, separated by commas: of the cluster
// that --name says, if it says one.
func (a *app) completeNodes(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	names, err := a.nodeNames(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	before := toComplete[:strings.LastIndex(toComplete, ",")+1]
	given := strings.Split(before, ",")
	var out []string
	for _, name := range names {
		if !slices.Contains(given, name) {
			out = append(out, before+name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeNodeOrCluster completes the name of a node or of a cluster.
func (a *app) completeNodeOrCluster(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	clusters, directive := a.completeNames(cmd, args, toComplete)
	if len(args) > 0 || directive == cobra.ShellCompDirectiveError {
		return clusters, directive
	}
	nodes, directive := a.completeNode(cmd, args, toComplete)
	return append(clusters, nodes...), directive
}

func (a *app) nodeNames(cmd *cobra.Command) ([]string, error) {
	name := ""
	if f := cmd.Flag("name"); f != nil {
		var err error
		if name, err = a.clusterName(cmd, nil, f.Value.String()); err != nil {
			return nil, err
		}
	}
	nodes, err := completing(cmd, a, func(ctx context.Context, e engines) ([]cluster.Node, error) {
		return e.nodesOf(ctx, name)
	})
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names, err
}

// completeImages completes names of images of the engines.
func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	images, err := completing(cmd, a, func(ctx context.Context, e engines) ([]string, error) {
		var names []string
		for _, c := range e.all {
			list, err := c.ListImages(ctx)
			if err != nil {
				return nil, err
			}
			names = append(names, list...)
		}
		return names, nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	slices.Sort(images)
	images = slices.Compact(images)
	return slices.DeleteFunc(images, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
}

// completing is withEngines without warnings: it runs between the user's keys.
func completing[T any](cmd *cobra.Command, a *app, f func(context.Context, engines) (T, error)) (T, error) {
	all, unusable, err := a.DialAll(cmd.Context())
	if err != nil {
		var none T
		return none, err
	}
	result, err := f(cmd.Context(), engines{all, unusable})
	return result, errors.Join(err, closeAll(all))
}
