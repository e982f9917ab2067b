// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) logs() *cobra.Command {
	var o cluster.LogOptions
	var givenName string
	cmd := &cobra.Command{
		Use: "logs [NODE | CLUSTER]", Short: "Show the journal of a node, or of all nodes of a cluster",
		Long: `Show the journals of nodes: what systemd, containerd, the kubelet and every other
unit say there. Logs of pods are shown by 'kubectl logs'. Of a node that does not run,
what its container printed is shown, which tells why it stopped.

With a cluster, lines begin with the name of the node.`,
		Example: `  rk logs demo-control-plane --unit kubelet --tail 50
  rk logs demo --follow`,
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("one node or one cluster is expected")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Follow && !cmd.Flags().Changed("tail") {
				o.Tail = followTail
			}
			if len(args) == 1 && cmd.Flags().Changed("name") {
				return usageErrorf(cmd, "--name and %q contradict each other", args[0])
			}
			if len(args) == 0 {
				name, err := a.oneCluster(cmd, nil, givenName)
				if err != nil {
					return err
				}
				args = []string{name}
			}
			return a.showLogs(cmd.Context(), args[0], o)
		},
		ValidArgsFunction: a.completeNodeOrCluster,
	}
	cmd.Flags().StringVarP(&givenName, "name", "n", "", "all nodes of this cluster (default $"+envClusterName+")")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on with what is said from now on")
	cmd.Flags().IntVar(&o.Tail, "tail", -1, "so many lines of the past; all if negative, 10 with --follow")
	cmd.Flags().StringVarP(&o.Unit, "unit", "u", "", "only of this systemd unit, for example kubelet")
	completeFlag(cmd, "name", a.completeNames)
	choices(cmd, "unit", "containerd", "kubelet", "rk-setup", "rk-haproxy")
	return cmd
}

// followTail is how many lines of the past --follow begins with.
const followTail = 10

// showLogs shows the logs of the node, or else of the nodes of the cluster, of a name.
func (a *app) showLogs(ctx context.Context, name string, o cluster.LogOptions) error {
	_, err := withEngines(ctx, a, func(ctx context.Context, e engines) (struct{}, error) {
		eng, n, err := e.nodeNamed(ctx, name)
		nodes := []cluster.Node{n}
		if errors.Is(err, problem.NodeNotFound) {
			var c *cluster.Cluster
			if eng, c, err = e.holding(ctx, name); err == nil {
				nodes = c.Nodes
			}
		}
		if err != nil {
			return struct{}{}, err
		}
		a.streams.Store(true)
		return struct{}{}, cluster.NodeLogs(ctx, eng, nodes, o, a.Out)
	})
	if ctx.Err() != nil {
		if o.Follow {
			return &exitError{0} // it has no other end
		}
		return &exitError{problem.ExitInterrupted}
	}
	return err
}
