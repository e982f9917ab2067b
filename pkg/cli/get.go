// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

func (a *app) get() *cobra.Command {
	return group("get", "Show clusters, nodes, images, registries, or a kubeconfig", a.getClusters(), a.getNodes(), a.getImages(), a.getRegistries(), a.getKubeconfig())
}

var (
	listFormats     = []ui.Format{ui.FormatWide, ui.FormatJSON, ui.FormatYAML, ui.FormatName}
	documentFormats = []ui.Format{ui.FormatJSON, ui.FormatYAML}
)

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command, output *string, formats ...ui.Format) {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = string(f)
	}
	cmd.Flags().StringVarP(output, "output", "o", "", "how the result is written: "+strings.Join(names, ", "))
	choices(cmd, "output", names...)
}

func (a *app) getClusters() *cobra.Command {
	var output string
	var ofKind bool
	cmd := &cobra.Command{
		Use: "clusters", Aliases: []string{"cluster"}, Short: "List the clusters of this user",
		Example: `  rk get clusters -o wide
  rk get clusters --kind`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := ui.ParseFormat(output, listFormats...)
			if err != nil {
				return err
			}
			if ofKind {
				return a.getKindClusters(cmd.Context(), format)
			}
			clusters, err := withEngines(cmd.Context(), a, listAll)
			if err != nil {
				return err
			}
			return a.printClusters(format, clusters)
		},
	}
	outputFlag(cmd, &output, listFormats...)
	cmd.Flags().BoolVar(&ofKind, "kind", false, "list kind's clusters on the same engines instead")
	return cmd
}

func listAll(ctx context.Context, e engines) ([]cluster.Cluster, error) { return e.clusters(ctx) }

func (a *app) printClusters(format ui.Format, clusters []cluster.Cluster) error {
	if len(clusters) == 0 {
		a.note("There are no clusters.")
	}
	type column = ui.Column[cluster.Cluster]
	return ui.PrintList(a.Out, format, clusters,
		column{Name: "NAME", Value: func(c cluster.Cluster) string { return c.Name }},
		column{Name: "STATUS", Value: func(c cluster.Cluster) string { return c.Status }},
		column{Name: "NODES", Value: func(c cluster.Cluster) string { return strconv.Itoa(len(c.Nodes)) }},
		column{Name: "KUBERNETES", Value: func(c cluster.Cluster) string { return c.KubernetesVersion }},
		column{Name: "AGE", Value: func(c cluster.Cluster) string { return a.age(c.Created) }},
		column{Name: "ENGINE", Wide: true, Value: func(c cluster.Cluster) string { return c.Engine }},
		column{Name: "API-SERVER", Wide: true, Value: func(c cluster.Cluster) string { return c.APIServer }},
	)
}

func (a *app) getNodes() *cobra.Command {
	var output, givenName string
	var all bool
	cmd := &cobra.Command{
		Use: "nodes [NAME]", Aliases: []string{"node"}, Short: "List the nodes of a cluster, or of all clusters",
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := ui.ParseFormat(output, listFormats...)
			if err != nil {
				return err
			}
			if all && (len(args) > 0 || cmd.Flags().Changed("name")) {
				return usageErrorf(cmd, "--all-clusters and the name of one contradict each other")
			}
			name, err := a.clusterName(cmd, args, givenName)
			if err != nil {
				return err
			}
			if all {
				name = ""
			}
			nodes, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) ([]cluster.Node, error) {
				return e.nodesOf(ctx, name)
			})
			if err != nil {
				return err
			}
			return a.printNodes(format, nodes)
		},
		ValidArgsFunction: a.completeNames,
	}
	outputFlag(cmd, &output, listFormats...)
	cmd.Flags().BoolVarP(&all, "all-clusters", "A", false, "the nodes of all clusters: the default, unless $"+envClusterName+" is set")
	cmd.Flags().StringVarP(&givenName, "name", "n", "", "only the nodes of this cluster (default $"+envClusterName+")")
	completeFlag(cmd, "name", a.completeNames)
	return cmd
}

// nodesOf lists the nodes of the cluster name, of all clusters if it is "".
func (e engines) nodesOf(ctx context.Context, name string) ([]cluster.Node, error) {
	nodes := []cluster.Node{}
	if name != "" {
		_, c, err := e.holding(ctx, name)
		if err != nil {
			return nil, err
		}
		return append(nodes, c.Nodes...), nil
	}
	clusters, err := e.clusters(ctx)
	for _, c := range clusters {
		nodes = append(nodes, c.Nodes...)
	}
	return nodes, err
}

func (a *app) printNodes(format ui.Format, nodes []cluster.Node) error {
	if len(nodes) == 0 {
		a.note("There are no nodes.")
	}
	type column = ui.Column[cluster.Node]
	return ui.PrintList(a.Out, format, nodes,
		column{Name: "NAME", Value: func(n cluster.Node) string { return n.Name }},
		column{Name: "CLUSTER", Value: func(n cluster.Node) string { return n.Cluster }},
		column{Name: "ROLE", Value: func(n cluster.Node) string { return n.Role }},
		column{Name: "STATE", Value: func(n cluster.Node) string { return string(n.State) }},
		column{Name: "IP", Wide: true, Value: func(n cluster.Node) string { return n.IP }},
		column{Name: "IMAGE", Wide: true, Value: func(n cluster.Node) string { return n.Image }},
	)
}

func (a *app) getKubeconfig() *cobra.Command {
	var output, givenName string
	var internal bool
	cmd := &cobra.Command{
		Use: "kubeconfig [NAME]", Short: "Print the kubeconfig of a cluster, for use on this host",
		Example: `  rk get kubeconfig demo > demo.kubeconfig
  rk get kubeconfig demo --internal`,
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
			data, err := a.kubeconfig(cmd.Context(), name, internal)
			if err != nil {
				return err
			}
			switch format {
			case ui.FormatName: // the context
				_, err = fmt.Fprintln(a.Out, plan.ContextName(name))
				return err
			case ui.FormatTable, ui.FormatWide, ui.FormatYAML:
				_, err = a.Out.Write(data)
				return err
			case ui.FormatJSON:
			}
			var doc any
			if err := yaml.Unmarshal(data, &doc); err != nil {
				return err
			}
			return ui.PrintValue(a.Out, format, doc)
		},
		ValidArgsFunction: a.completeNames,
	}
	outputFlag(cmd, &output, listFormats...)
	nameFlag(cmd, &givenName, "name of the cluster")
	completeFlag(cmd, "name", a.completeNames)
	internalFlag(cmd, &internal)
	return cmd
}

func internalFlag(cmd *cobra.Command, internal *bool) {
	cmd.Flags().BoolVar(internal, "internal", false, "the API's address in the network of the cluster, for containers in it")
}

// kubeconfig reads the kubeconfig of a cluster.
func (a *app) kubeconfig(ctx context.Context, name string, internal bool) ([]byte, error) {
	return withEngines(ctx, a, func(ctx context.Context, e engines) ([]byte, error) {
		eng, _, err := e.holding(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case internal:
			return cluster.InternalKubeconfig(ctx, eng, name)
		}
		return cluster.AdminKubeconfig(ctx, eng, name)
	})
}

// age is how long ago t was, as kubectl writes it: "45s", "12m", "3h", "2d".
func (a *app) age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := max(a.Now().Sub(t), 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
