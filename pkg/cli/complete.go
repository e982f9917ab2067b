// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
)

// completer completes arguments, or the value of a flag.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// completeFlag registers what completes the value of a flag.
func completeFlag(cmd *cobra.Command, flag string, c completer) {
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

// completeCreate completes what a new cluster is made from.
func (a *app) completeCreate(cmd *cobra.Command) {
	completeFlag(cmd, "kubernetes-version", completeVersions)
	completeFlag(cmd, "image", func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if isArchive(toComplete) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		images, directive := a.completeImages(cmd, args, toComplete)
		return images, directive &^ cobra.ShellCompDirectiveNoFileComp // it may be a file
	})
	mustMark(cmd.MarkFlagFilename("config", "yaml", "yml", "json"))
}

// completeVersions completes the Kubernetes versions that an image can be built for.
func completeVersions(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	v, err := part.Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var known []string
	for _, r := range v.Kubernetes.Releases {
		known = append(known, r.Version)
	}
	return known, cobra.ShellCompDirectiveNoFileComp
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

// shells are those that completion scripts are made for.
var shells = map[string]func(root *cobra.Command, w io.Writer, descriptions bool) error{
	"bash": func(root *cobra.Command, w io.Writer, d bool) error { return root.GenBashCompletionV2(w, d) },
	"zsh": func(root *cobra.Command, w io.Writer, d bool) error {
		if d {
			return root.GenZshCompletion(w)
		}
		return root.GenZshCompletionNoDesc(w)
	},
	"fish": func(root *cobra.Command, w io.Writer, d bool) error { return root.GenFishCompletion(w, d) },
	"powershell": func(root *cobra.Command, w io.Writer, d bool) error {
		if d {
			return root.GenPowerShellCompletionWithDesc(w)
		}
		return root.GenPowerShellCompletion(w)
	},
}

// completion replaces cobra's own command, which takes a shell that it does not know for a success.
func (a *app) completion() *cobra.Command {
	names := slices.Sorted(maps.Keys(shells))
	var plain bool
	cmd := &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Print a completion script for a shell",
		Long: `Print a script that completes commands, flags and their values, and the names of
clusters, nodes and images in a shell.`,
		Example: `  source <(rk completion bash)
  rk completion zsh >"${fpath[1]}/_rk"
  rk completion fish >~/.config/fish/completions/rk.fish`,
		ValidArgs: names,
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return fmt.Errorf("the name of a shell is expected: %s", strings.Join(names, ", "))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root(), a.Out, !plain) },
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "complete without explanations")
	return cmd
}
