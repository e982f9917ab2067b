// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// engines are the engines of this user that answer, the preferred one first,
// and what is to be said of those that do not.
type engines struct {
	all      []*connect.Connection
	unusable []*connect.Unusable
}

func (a *app) connectOptions() connect.Options {
	return connect.Options{Engine: a.engineFromKind(), Env: a.Env}
}

// The variables that name the engine: rk's, and kind's.
const (
	envEngine       = "RK_ENGINE"
	envKindProvider = "KIND_EXPERIMENTAL_PROVIDER"
)

// engineFromKind is --engine, or what kind's variable says if nothing of rk's does.
func (a *app) engineFromKind() string {
	provider := a.Env(envKindProvider)
	if a.engine != "" || provider == "" || a.Env(envEngine) != "" {
		return a.engine
	}
	if provider != connect.Podman && provider != connect.Docker {
		a.warn("$" + envKindProvider + "=" + provider + " is ignored: rk runs on podman and docker")
		return ""
	}
	return provider
}

// dial connects to the engine for something new, and says which one it is.
func (a *app) dial(ctx context.Context) (engine.Engine, error) {
	c, unusable, err := connect.Dial(ctx, a.connectOptions())
	a.warnUnusable(unusable)
	if err != nil {
		return nil, err
	}
	a.noteEngine(c)
	return c, nil
}

// dialOne is DialAll for a Dial that was given.
func (a *app) dialOne(ctx context.Context) ([]*connect.Connection, []*connect.Unusable, error) {
	eng, err := a.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	return []*connect.Connection{{Engine: eng}}, nil, nil
}

func (a *app) warnUnusable(unusable []*connect.Unusable) {
	for _, u := range unusable {
		a.warn(u.Error())
	}
}

// noteEngine says which engine was taken: always if there was a choice.
func (a *app) noteEngine(c *connect.Connection) {
	if c.Chosen || a.verbose {
		a.note("Using %s: %s.", c.Title(), c.Why)
	}
}

// withEngine calls f with the engine for something new, and closes it afterwards.
func withEngine[T any](ctx context.Context, a *app, f func(context.Context, engine.Engine) (T, error)) (T, error) {
	eng, err := a.Dial(ctx)
	if err != nil {
		var none T
		return none, err
	}
	result, err := f(ctx, eng)
	if closeErr := eng.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return result, err
}

// withEngines calls f with all engines, and closes them afterwards.
func withEngines[T any](ctx context.Context, a *app, f func(context.Context, engines) (T, error)) (T, error) {
	all, unusable, err := a.DialAll(ctx)
	if err != nil {
		var none T
		return none, err
	}
	a.warnUnusable(unusable)
	result, err := f(ctx, engines{all, unusable})
	if closeErr := closeAll(all); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return result, err
}

func closeAll(all []*connect.Connection) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// clusters lists the clusters of all engines, ordered by name.
func (e engines) clusters(ctx context.Context) ([]cluster.Cluster, error) {
	out := []cluster.Cluster{}
	for _, c := range e.all {
		list, err := cluster.List(ctx, c)
		if err != nil {
			return nil, err
		}
		for i := range list {
			list[i].Engine = c.Name
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b cluster.Cluster) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// holding returns the engine that has a cluster, and the cluster. It is
// problem.ClusterNotFound if none has, and problem.InvalidUsage if several have.
func (e engines) holding(ctx context.Context, name string) (*connect.Connection, *cluster.Cluster, error) {
	if len(e.all) == 1 {
		c, err := cluster.Find(ctx, e.all[0], name)
		return e.all[0], c, err
	}
	clusters, err := e.clusters(ctx)
	if err != nil {
		return nil, nil, err
	}
	var found []*cluster.Cluster
	var names []string
	for i := range clusters {
		if clusters[i].Name == name {
			found = append(found, &clusters[i])
		}
		names = append(names, clusters[i].Name)
	}
	switch {
	case len(found) == 1:
		return e.named(found[0].Engine), found[0], nil
	case len(found) > 1:
		return nil, nil, problem.InvalidUsage.With("Say which one is meant with --engine.").Wrapf("%q is the name of a cluster on each of the engines", name)
	case len(names) == 0:
		return nil, nil, problem.ClusterNotFound.Wrapf("%q; there are no clusters", name)
	}
	return nil, nil, problem.ClusterNotFound.Wrapf("%q; there are: %s", name, strings.Join(names, ", "))
}

func (e engines) named(name string) *connect.Connection {
	i := slices.IndexFunc(e.all, func(c *connect.Connection) bool { return c.Name == name })
	return e.all[i] // clusters have their engine's name from there
}

// nodeNamed returns a node and the engine that has it, or problem.NodeNotFound.
func (e engines) nodeNamed(ctx context.Context, name string) (*connect.Connection, cluster.Node, error) {
	clusters, err := e.clusters(ctx)
	if err != nil {
		return nil, cluster.Node{}, err
	}
	var found []cluster.Node
	var on, names []string
	for _, c := range clusters {
		for _, n := range c.Nodes {
			names = append(names, n.Name)
			if n.Name == name {
				found, on = append(found, n), append(on, c.Engine)
			}
		}
	}
	switch {
	case len(found) == 1 && len(e.all) == 1:
		return e.all[0], found[0], nil
	case len(found) == 1:
		return e.named(on[0]), found[0], nil
	case len(found) > 1:
		return nil, cluster.Node{}, problem.InvalidUsage.With("Say which one is meant with --engine.").Wrapf("%q is the name of a node on each of the engines", name)
	case len(names) == 0:
		return nil, cluster.Node{}, problem.NodeNotFound.Wrapf("%q; there are no nodes", name)
	}
	return nil, cluster.Node{}, problem.NodeNotFound.Wrapf("%q; there are: %s", name, strings.Join(names, ", "))
}

// checkNew refuses a name that is in use on any engine: the kubeconfig, which
// they share, has room for one.
func (e engines) checkNew(ctx context.Context, name string) error {
	for _, c := range e.all {
		if err := cluster.CheckNew(ctx, c, name); err != nil {
			return err
		}
	}
	return nil
}
