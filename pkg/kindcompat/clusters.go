// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/kind/pkg/cluster"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
)

// Cluster is a cluster of kind's.
type Cluster struct {
	Name     string   `json:"name"`
	Provider string   `json:"provider"` // "podman" or "docker"
	Nodes    []string `json:"nodes"`    // names, ordered
}

// Clusters lists the clusters that kind has on an engine, "podman" or
// "docker", ordered by name. kind asks the program of that name, which must be
// installed and talk to the same engine as rk. Nothing is changed.
func Clusters(ctx context.Context, engineName string) ([]Cluster, error) {
	option := cluster.ProviderWithDocker()
	if engineName == "podman" {
		option = cluster.ProviderWithPodman()
	}
	type result struct {
		clusters []Cluster
		err      error
	}
	done := make(chan result, 1)
	go func() { // kind's calls take no context
		var r result
		err := group.Recovered(func() error {
			r.clusters, r.err = list(cluster.NewProvider(option), engineName)
			return nil
		})
		if err != nil {
			r.err = err
		}
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("kind on %s: %w", engineName, r.err)
		}
		return r.clusters, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func list(p *cluster.Provider, engineName string) ([]Cluster, error) {
	names, err := p.List()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	clusters := []Cluster{}
	for _, name := range names {
		nodes, err := p.ListNodes(name)
		if err != nil {
			return nil, err
		}
		c := Cluster{Name: name, Provider: engineName, Nodes: []string{}}
		for _, n := range nodes {
			c.Nodes = append(c.Nodes, n.String())
		}
		slices.Sort(c.Nodes)
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// labelCluster is the label of kind's nodes that has the cluster's name
// (pkg/cluster/internal/providers/common of kind, which is not to be imported).
const labelCluster = "io.x-k8s.kind.cluster"

// HasCluster says whether kind has a cluster of a name on an engine. It asks
// the engine itself for kind's label, so no program is run.
func HasCluster(ctx context.Context, eng engine.Containers, name string) (bool, error) {
	nodes, err := eng.ListContainers(ctx, map[string]string{labelCluster: name})
	return len(nodes) > 0, err
}
