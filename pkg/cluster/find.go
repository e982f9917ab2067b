// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// The states of a cluster.
const (
	StatusRunning    = "running"
	StatusPartly     = "partly running"
	StatusStopped    = "stopped"
	StatusIncomplete = "incomplete" // a network without nodes, or no control plane
)

// List returns all clusters of the engine, ordered by name.
func List(ctx context.Context, eng engine.Engine) ([]Cluster, error) {
	var containers []engine.Container
	var networks []engine.Network
	g, gctx := group.WithContext(ctx)
	g.Go(func() (err error) {
		containers, err = eng.ListContainers(gctx, map[string]string{plan.LabelCluster: ""})
		return err
	})
	g.Go(func() (err error) {
		networks, err = eng.ListNetworks(gctx, map[string]string{plan.LabelCluster: ""})
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, engineError(err)
	}
	found := map[string]*Cluster{}
	get := func(name string) *Cluster {
		if found[name] == nil {
			found[name] = &Cluster{Name: name, Nodes: []Node{}}
		}
		return found[name]
	}
	for _, n := range networks {
		get(n.Labels[plan.LabelCluster])
	}
	for _, n := range containers {
		get(n.Labels[plan.LabelCluster]).add(n)
	}
	out := make([]Cluster, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		c := found[name]
		slices.SortFunc(c.Nodes, func(a, b Node) int { return strings.Compare(a.Role+a.Name, b.Role+b.Name) })
		c.Status = c.status()
		out = append(out, *c)
	}
	return out, nil
}

func (c *Cluster) add(n engine.Container) {
	role := n.Labels[plan.LabelRole]
	info := Node{Name: n.Name, Cluster: c.Name, Role: role, State: n.State, Image: n.Image, Ports: n.Ports}
	if n.IP.IsValid() {
		info.IP = n.IP.String()
	}
	c.Nodes = append(c.Nodes, info)
	if v := n.Labels[plan.LabelKubernetesVersion]; v != "" {
		c.KubernetesVersion = v
	}
	if c.Created.IsZero() || n.Created.Before(c.Created) {
		c.Created = n.Created
	}
	// Of several control planes none publishes the API; the load balancer, which
	// comes later in the order of names, does.
	if i := slices.IndexFunc(n.Ports, isAPI); (role == plan.RoleControlPlane || role == plan.RoleLoadBalancer) && i >= 0 {
		c.APIServer = netip.AddrPortFrom(n.Ports[i].HostIP, n.Ports[i].HostPort).String()
	}
}

// isAPI recognises the API among the ports that a container publishes.
func isAPI(p engine.PortMapping) bool { return p.ContainerPort == plan.APIPort && p.Protocol == "tcp" }

func (c *Cluster) status() string {
	running, controlPlanes := 0, 0
	for _, n := range c.Nodes {
		if n.Role == plan.RoleControlPlane {
			controlPlanes++
		}
		if n.State == engine.StateRunning {
			running++
		}
	}
	switch {
	case controlPlanes == 0:
		return StatusIncomplete
	case running == len(c.Nodes):
		return StatusRunning
	case running == 0:
		return StatusStopped
	}
	return StatusPartly
}

// Find returns one cluster, or problem.ClusterNotFound with the names that exist.
func Find(ctx context.Context, eng engine.Engine, name string) (*Cluster, error) {
	all, err := List(ctx, eng)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	if len(names) == 0 {
		return nil, problem.ClusterNotFound.Wrapf("%q; there are no clusters", name)
	}
	return nil, problem.ClusterNotFound.Wrapf("%q; there are: %s", name, strings.Join(names, ", "))
}

// CheckNew refuses a name that is in use, with problem.ClusterExists.
func CheckNew(ctx context.Context, eng engine.Engine, name string) error {
	_, err := Find(ctx, eng, name)
	switch {
	case err == nil:
		return nameInUse(name)
	case errors.Is(err, problem.ClusterNotFound):
		return nil
	}
	return err
}

// AdminKubeconfig returns a cluster's kubeconfig with the address at which
// the API is published on this host.
func AdminKubeconfig(ctx context.Context, eng engine.Engine, name string) ([]byte, error) {
	c, data, err := adminConf(ctx, eng, name)
	if err != nil {
		return nil, err
	}
	return kube.RewriteKubeconfig(data, plan.ContextName(name), "https://"+c.APIServer)
}

// InternalKubeconfig is AdminKubeconfig with the address of the API in the
// cluster's own network, for use in containers that are in it.
func InternalKubeconfig(ctx context.Context, eng engine.Engine, name string) ([]byte, error) {
	_, data, err := adminConf(ctx, eng, name)
	if err != nil {
		return nil, err
	}
	return kube.RewriteKubeconfig(data, plan.ContextName(name), "")
}

// adminConf reads the kubeconfig of the first control plane, which need not run.
func adminConf(ctx context.Context, eng engine.Engine, name string) (*Cluster, []byte, error) {
	c, err := Find(ctx, eng, name)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Role == plan.RoleControlPlane })
	if i < 0 || c.APIServer == "" {
		return nil, nil, problem.ClusterNotFound.
			Withf("Delete what is left of it: 'rk delete cluster %s'.", name).
			Wrapf("%q has no control plane any more", name)
	}
	data, err := node.New(eng, c.Nodes[i].Name).ReadFile(ctx, "/etc/kubernetes/admin.conf")
	return c, data, engineError(err)
}

// nameInUse is problem.ClusterExists with the ways out.
func nameInUse(name string) error {
	return problem.ClusterExists.
		Withf("Delete it first with 'rk delete cluster %s', or choose another name.", name).Wrapf("the name %q is in use", name)
}

// leftOver is problem.LeftOver with the command for this cluster.
func leftOver(name string, err error) error {
	if errors.Is(err, engine.ErrStorageLeft) { // which deleting again does not find
		return problem.StorageLeft.Wrap(err)
	}
	return problem.LeftOver.
		Withf("Run 'rk delete cluster %s': it removes whatever is left and can be repeated. What remains is listed by 'podman ps -a' and 'podman network ls'.", name).
		Wrap(err)
}

// engineError puts an engine's plain error into the catalogue.
func engineError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := problem.Of(err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, engine.ErrUnreachable) {
		return problem.EngineUnreachable.Wrap(err)
	}
	if errors.Is(err, engine.ErrStorageLeft) {
		return problem.StorageLeft.Wrap(err)
	}
	if strings.Contains(err.Error(), "no space left on device") {
		return problem.DiskFull.Wrap(err)
	}
	if strings.Contains(err.Error(), "remount-ro ") {
		return problem.EngineFailed.With(readOnlyAdvice).Wrap(err)
	}
	return problem.EngineFailed.Wrap(err)
}

// readOnlyAdvice is for what Docker answers when files are copied into a
// container that has a read-only mount: for the copy it mounts everything once
// more, and forgets that a user namespace must keep nosuid, nodev and noexec
// (seen with 26.1; openContainerFS in moby's daemon/containerfs_linux.go).
const readOnlyAdvice = `Rootless Docker cannot make this mount read-only, because the file system of its source has nosuid, nodev or noexec ('findmnt -T PATH' shows it; /tmp often has).
Mount a folder of another file system, for example one in your home, leave readOnly out, or use Podman: --engine podman.`
