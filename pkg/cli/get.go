// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
)

func (a *app) get() *cobra.Command {
	return group("get", "Show clusters, nodes, or a kubeconfig", a.getClusters(), a.getNodes(), a.getKubeconfig())
}

// listFormats are the values of -o for lists.
var listFormats = []string{"table", "wide", "json", "yaml", "name"}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table, wide, json, yaml or name")
	choices(cmd, "output", listFormats...)
}

func (a *app) getClusters() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "clusters", Aliases: []string{"cluster"}, Short: "List the clusters of this user",
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "output", output, listFormats...); err != nil {
				return err
			}
			clusters, err := withEngine(cmd.Context(), a, cluster.List)
			if err != nil {
				return err
			}
			return a.printClusters(output, clusters)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

func (a *app) printClusters(output string, clusters []cluster.Cluster) error {
	l := list{header: []string{"NAME", "STATUS", "NODES", "KUBERNETES", "AGE"}, wide: []string{"API SERVER"}, empty: "no clusters"}
	for _, c := range clusters {
		l.names = append(l.names, c.Name)
		l.rows = append(l.rows, []string{
			c.Name, c.Status, fmt.Sprint(len(c.Nodes)), dash(c.KubernetesVersion), a.age(c.Created), dash(c.APIServer),
		})
	}
	return a.printList(output, l, clusters)
}

func (a *app) getNodes() *cobra.Command {
	var output, nameFlag string
	cmd := &cobra.Command{
		Use: "nodes [NAME]", Aliases: []string{"node"}, Short: "List the nodes of a cluster, or of all clusters",
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "output", output, listFormats...); err != nil {
				return err
			}
			name, err := clusterName(cmd, args, nameFlag)
			if err != nil {
				return err
			}
			nodes, err := withEngine(cmd.Context(), a, func(ctx context.Context, eng engine.Engine) ([]cluster.Node, error) {
				return nodesOf(ctx, eng, name)
			})
			if err != nil {
				return err
			}
			return a.printNodes(output, nodes)
		},
		ValidArgsFunction: a.completeNames,
	}
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&nameFlag, "name", "", "only the nodes of this cluster")
	return cmd
}

// nodesOf lists the nodes of the cluster name, of all clusters if it is "".
func nodesOf(ctx context.Context, eng engine.Engine, name string) ([]cluster.Node, error) {
	nodes := []cluster.Node{}
	if name != "" {
		c, err := cluster.Find(ctx, eng, name)
		if err != nil {
			return nil, err
		}
		return append(nodes, c.Nodes...), nil
	}
	clusters, err := cluster.List(ctx, eng)
	for _, c := range clusters {
		nodes = append(nodes, c.Nodes...)
	}
	return nodes, err
}

func (a *app) printNodes(output string, nodes []cluster.Node) error {
	l := list{header: []string{"NAME", "CLUSTER", "ROLE", "STATE"}, wide: []string{"IP", "IMAGE"}, empty: "no nodes"}
	for _, n := range nodes {
		l.names = append(l.names, n.Name)
		l.rows = append(l.rows, []string{n.Name, n.Cluster, n.Role, string(n.State), dash(n.IP), n.Image})
	}
	return a.printList(output, l, nodes)
}

func (a *app) getKubeconfig() *cobra.Command {
	var output, nameFlag string
	cmd := &cobra.Command{
		Use: "kubeconfig [NAME]", Short: "Print the kubeconfig of a cluster, for use on this host",
		Example: "  rk get kubeconfig demo > demo.kubeconfig",
		Args:    usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "output", output, "yaml", "json"); err != nil {
				return err
			}
			name, err := clusterName(cmd, args, nameFlag)
			if err != nil {
				return err
			}
			if name == "" {
				name = config.DefaultName
			}
			data, err := withEngine(cmd.Context(), a, func(ctx context.Context, eng engine.Engine) ([]byte, error) {
				return cluster.AdminKubeconfig(ctx, eng, name)
			})
			if err != nil {
				return err
			}
			return a.printYAML(output, data)
		},
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	choices(cmd, "output", "yaml", "json")
	cmd.Flags().StringVar(&nameFlag, "name", config.DefaultName, "name of the cluster")
	return cmd
}

// age is how long ago t was, as kubectl writes it: "45s", "12m", "3h", "2d".
func (a *app) age(t time.Time) string {
	if t.IsZero() {
		return "-"
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

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// completeNames completes the name of a cluster.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	clusters, err := withEngine(cmd.Context(), a, cluster.List)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range clusters {
		names = append(names, c.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
