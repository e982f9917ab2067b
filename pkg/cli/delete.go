// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

func (a *app) delete() *cobra.Command {
	return group("delete", "Delete clusters and registries", a.deleteCluster(), a.deleteClusters(), a.deleteRegistry())
}

func (a *app) deleteCluster() *cobra.Command {
	var givenName, kubeconfig string
	cmd := &cobra.Command{
		Use: "cluster [NAME]", Short: "Delete a cluster: its nodes, its network and its kubeconfig entry",
		Long: `Delete a cluster: its nodes with everything in them, its network, and its entry
in the kubeconfig. Whatever is already gone is no error, so an interrupted
create or delete can be cleaned up by deleting again.`,
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := a.oneCluster(cmd, args, givenName)
			if err != nil {
				return err
			}
			return a.deleteAll(cmd.Context(), kubeconfig, []string{name})
		},
		ValidArgsFunction: a.completeNames,
	}
	nameFlag(cmd, &givenName, "name of the cluster")
	completeFlag(cmd, "name", a.completeNames)
	kubeconfigFlag(cmd, &kubeconfig)
	return cmd
}

func (a *app) deleteClusters() *cobra.Command {
	var all bool
	var kubeconfig string
	cmd := &cobra.Command{
		Use: "clusters NAME... | --all", Short: "Delete several clusters, or all clusters of this user",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageErrorf(cmd, "either names of clusters or --all must be given")
			}
			for _, name := range args {
				if err := config.ValidateName(name); err != nil {
					return problem.InvalidName.Wrap(err)
				}
			}
			return a.deleteAll(cmd.Context(), kubeconfig, args)
		},
		ValidArgsFunction: a.completeMoreNames,
	}
	cmd.Flags().BoolVarP(&all, "all", "A", false, "delete all clusters of this user")
	kubeconfigFlag(cmd, &kubeconfig)
	return cmd
}

func kubeconfigFlag(cmd *cobra.Command, kubeconfig *string) {
	cmd.Flags().StringVar(kubeconfig, "kubeconfig", "", "the kubeconfig file (default: $KUBECONFIG, else ~/.kube/config)")
}

// deleteAll deletes clusters by name, all there are without a name. One that
// cannot be deleted does not stop the others.
func (a *app) deleteAll(ctx context.Context, kubeconfig string, names []string) error {
	_, err := withEngines(ctx, a, func(ctx context.Context, e engines) (struct{}, error) {
		clusters, err := e.clusters(ctx)
		if err != nil {
			return struct{}{}, err
		}
		on := map[string][]string{} // cluster -> engines
		for _, c := range clusters {
			on[c.Name] = append(on[c.Name], c.Engine)
		}
		if len(names) == 0 {
			names = slices.Sorted(maps.Keys(on))
		}
		if len(names) == 0 {
			a.note("There are no clusters.")
		}
		var errs []error
		for _, name := range names {
			errs = append(errs, a.deleteFrom(ctx, e, on[name], name, kubeconfig))
		}
		return struct{}{}, errors.Join(errs...)
	})
	return err
}

// deleteFrom deletes a cluster from each of the engines on that it is. One
// that is on none may be on an engine that does not answer; else what the
// kubeconfig has of it is deleted.
func (a *app) deleteFrom(ctx context.Context, e engines, on []string, name, kubeconfig string) error {
	if len(on) == 0 && len(e.unusable) > 0 {
		err := error(e.unusable[0])
		if p, ok := problem.Of(err); ok {
			return p.Wrapf("cluster %q was not found, and %w", name, err)
		}
		return err
	}
	if len(on) == 0 {
		return a.deleteOne(ctx, e.all[0], name, kubeconfig, false)
	}
	var errs []error
	for _, engine := range on {
		errs = append(errs, a.deleteOne(ctx, e.named(engine), name, kubeconfig, true))
	}
	return errors.Join(errs...)
}

func (a *app) deleteOne(ctx context.Context, eng engine.Engine, name, kubeconfig string, exists bool) error {
	rep, done := step.Tee(), func() {}
	if exists {
		rep, done = a.reporter()
	}
	err := cluster.Delete(ctx, eng, name, cluster.DeleteOptions{Reporter: rep, Kubeconfig: kubeconfig, Env: a.Env})
	done()
	switch {
	case err != nil:
		return fmt.Errorf("cluster %q: %w", name, err)
	case exists:
		a.note("Cluster %q is deleted.", name)
	default:
		a.note("There is no cluster %q.", name)
	}
	return nil
}
