// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
	"github.com/rootless-kubernetes/rk/pkg/kindcompat"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// getKindClusters lists kind's clusters on the engines that rk uses.
func (a *app) getKindClusters(ctx context.Context, format ui.Format) error {
	clusters, err := withEngines(ctx, a, func(ctx context.Context, e engines) ([]kindcompat.Cluster, error) {
		all := []kindcompat.Cluster{}
		var errs []error
		for _, c := range e.all {
			list, err := a.KindClusters(ctx, c.Name)
			all = append(all, list...)
			if err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) == len(e.all) {
			return nil, errors.Join(errs...)
		}
		for _, err := range errs {
			a.warn(err.Error())
		}
		slices.SortStableFunc(all, func(x, y kindcompat.Cluster) int { return strings.Compare(x.Name, y.Name) })
		return all, nil
	})
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		a.note("kind has no clusters.")
	}
	type column = ui.Column[kindcompat.Cluster]
	return ui.PrintList(a.Out, format, clusters,
		column{Name: "NAME", Value: func(c kindcompat.Cluster) string { return c.Name }},
		column{Name: "PROVIDER", Value: func(c kindcompat.Cluster) string { return c.Provider }},
		column{Name: "NODES", Value: func(c kindcompat.Cluster) string { return strconv.Itoa(len(c.Nodes)) }},
		column{Name: "NAMES", Wide: true, Value: func(c kindcompat.Cluster) string { return strings.Join(c.Nodes, ",") }},
	)
}

// checkNewName refuses a name that is in use by rk, and warns of one that kind
// uses on the same engine: the names of the nodes are the same, and one of the
// two cannot be made. An engine that does not tell is no reason to stop.
func (a *app) checkNewName(ctx context.Context, e engines, name string) error {
	var asked sync.WaitGroup
	taken := make([]bool, len(e.all))
	for i, c := range e.all {
		asked.Go(func() {
			used, err := kindcompat.HasCluster(ctx, c, name)
			taken[i] = err == nil && used
		})
	}
	err := e.checkNew(ctx, name)
	asked.Wait()
	if err != nil {
		return err
	}
	for i, c := range e.all {
		if taken[i] {
			a.warn(fmt.Sprintf("kind has a cluster %q on %s. Their nodes have the same names, so this one cannot be made there before kind's is deleted; "+
				"its context in the kubeconfig is another one (kind-%[1]s, rk-%[1]s).", name, title(c)))
		}
	}
	return nil
}

func title(c *connect.Connection) string {
	if c.Name == "" {
		return "this engine"
	}
	return c.Name
}
