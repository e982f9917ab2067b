// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Delete removes everything of a cluster: containers with their volumes, the
// network and the kubeconfig entries. What is absent is no error, so that an
// interrupted delete, or a killed create, can be finished by deleting again.
//
// One thing that cannot be removed does not keep the others. The error joins
// problem.LeftOver, for what the engine still has, with that of each
// kubeconfig file that could not be changed.
func Delete(ctx context.Context, eng engine.Engine, name string, o DeleteOptions) error {
	sel := map[string]string{plan.LabelCluster: name}
	containers, err := eng.ListContainers(ctx, sel)
	if err != nil {
		return engineError(err)
	}
	remove := make([]step.Step, len(containers))
	for i, n := range containers {
		remove[i] = step.Step{ID: "node/" + n.Name, Title: n.Name, Do: func(ctx context.Context) (step.Undo, error) {
			return nil, eng.RemoveContainer(ctx, n.ID)
		}}
	}
	steps := []step.Step{
		step.All("nodes", "Deleting nodes", remove...),
		{ID: "network", Title: "Deleting the network", Do: func(ctx context.Context) (step.Undo, error) {
			networks, err := eng.ListNetworks(ctx, sel)
			for _, n := range networks {
				err = errors.Join(err, detach(ctx, eng, n), eng.RemoveNetwork(ctx, n.Name))
			}
			return nil, err
		}},
	}
	err = step.Run(ctx, o.Reporter, steps, step.Options{})
	if err != nil {
		err = leftOver(name, err)
	}
	for _, path := range kube.KubeconfigPaths(o.Kubeconfig, o.Env.get("KUBECONFIG"), o.Env.get("HOME")) {
		_, kerr := kube.RemoveKubeconfig(ctx, path, plan.ContextName(name))
		err = errors.Join(err, stale(kerr, path, name))
	}
	return err
}

// stale tells how to remove a kubeconfig entry that is left.
func stale(err error, path, name string) error {
	p, ok := problem.Of(err)
	if !ok || !errors.Is(err, problem.KubeconfigUnwritable) {
		return err
	}
	return p.Withf("The entry %s is left in %s. Make the file and its folder writable for yourself, then run 'rk delete cluster %s' again.",
		plan.ContextName(name), path, name)
}
