// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Create carries out a plan. On failure nothing of the cluster is left,
// unless o.Retain. Errors hold a problem.Problem; a failure after the first
// node was started also carries the nodes' own words (problem.Logs).
func Create(ctx context.Context, eng engine.Engine, p *plan.Plan, o CreateOptions) (*Created, error) {
	if err := CheckNew(ctx, eng, p.Cluster); err != nil {
		return nil, err
	}
	c := &creation{engine: eng, plan: p, options: o, now: time.Now(), id: rand.Text()}
	if err := c.makeKeys(); err != nil {
		return nil, err
	}
	steps := append([]step.Step{c.networkStep()}, c.registriesStep()...)
	steps = append(steps,
		step.Parallel("nodes", "Starting nodes", 0, c.nodeSteps()...),
		step.Step{ID: "api", Title: c.apiTitle(), Timeout: o.forAPI(), Do: c.guarded(c.waitAPI)},
		step.Step{ID: "addons", Title: "Applying add-ons", Timeout: o.forAPI(), Do: c.guarded(c.apply)},
	)
	if o.Wait > 0 {
		steps = append(steps,
			step.Step{ID: "ready", Title: "Waiting for nodes and DNS", Timeout: o.Wait, Do: c.guarded(c.waitReady)},
			step.Step{ID: "addons-ready", Title: "Waiting for the network of each node", Timeout: o.Wait, Do: c.guarded(c.waitNetwork)},
		)
	}
	steps = append(steps, c.manifestSteps()...)
	steps = append(steps, c.kubeconfigStep())
	err := step.Run(ctx, o.Reporter, steps, step.Options{Retain: o.Retain, OnFailure: c.evidence})
	if err != nil {
		return nil, err
	}
	return &Created{Kubeconfig: c.kubeconfigPath, Context: p.Admin.Context}, nil
}

// forAPI bounds the start of the control plane: at least five minutes, more if
// the user waits longer for the whole.
func (o CreateOptions) forAPI() time.Duration {
	if o.apiTimeout > 0 {
		return o.apiTimeout
	}
	return max(o.Wait, 5*time.Minute)
}

// creation is the state of one Create.
type creation struct {
	engine  engine.Engine
	plan    *plan.Plan
	options CreateOptions
	now     time.Time
	id      string // of this creation, on everything that it makes

	keys           *pki.Authorities
	bootstrap      []byte // kubeconfig of system:masters, for rk alone and never written
	admin          []byte // the user's kubeconfig
	client         *kube.Client
	kubeconfigPath string
}

func (c *creation) makeKeys() (err error) {
	if c.keys, err = pki.New(c.plan.CAs, c.now, rand.Reader); err != nil {
		return err
	}
	bootstrap := c.plan.Admin
	bootstrap.CommonName, bootstrap.Organizations = "rk-bootstrap", []string{"system:masters"}
	if c.bootstrap, err = c.keys.Kubeconfig(bootstrap); err != nil {
		return err
	}
	if c.admin, err = c.keys.Kubeconfig(c.plan.Admin); err != nil {
		return err
	}
	c.client, err = kube.Connect(c.bootstrap)
	return err
}

// withUndo makes a step's function of f. The undo is known before f runs, so
// that it holds whatever happens in there; f takes it back by returning a
// notMine error.
func (c *creation) withUndo(undo step.Undo, f func(context.Context) error) func(context.Context) (step.Undo, error) {
	return func(ctx context.Context) (step.Undo, error) {
		err := group.Recovered(func() error { return f(ctx) })
		var foreign *notMine
		if errors.As(err, &foreign) {
			return nil, foreign.error
		}
		return func(ctx context.Context) error {
			if err := group.Recovered(func() error { return undo(ctx) }); err != nil {
				return leftOver(c.plan.Cluster, err)
			}
			return nil
		}, err
	}
}

// notMine says that what a step would have made is there already, and is somebody else's.
type notMine struct{ error }

func (c *creation) networkStep() step.Step {
	spec := c.plan.Network
	spec.Labels = c.own(spec.Labels)
	return step.Step{ID: "network", Title: "Creating the network", Timeout: time.Minute, Do: c.withUndo(c.removeNetworks, func(ctx context.Context) error {
		err := c.engine.CreateNetwork(ctx, spec)
		if errors.Is(err, engine.ErrConflict) {
			return &notMine{c.clash(ctx, err)}
		}
		return engineError(err)
	})}
}

// clash says what it means that the network's name or subnet is taken: when
// another rk creates a cluster of this name, both may have found it free.
func (c *creation) clash(ctx context.Context, err error) error {
	list, lerr := c.engine.ListNetworks(ctx, map[string]string{plan.LabelCluster: c.plan.Cluster})
	if lerr == nil && len(list) > 0 {
		return nameInUse(c.plan.Cluster)
	}
	return problem.SubnetClash.Wrap(err)
}

// own returns labels with the one of this creation.
func (c *creation) own(labels map[string]string) map[string]string {
	labels = maps.Clone(labels)
	labels[plan.LabelCreation] = c.id
	return labels
}

// mine selects what this creation made.
func (c *creation) mine() map[string]string {
	return map[string]string{plan.LabelCluster: c.plan.Cluster, plan.LabelCreation: c.id}
}

// removeNode and removeNetworks remove by label and not by name: an
// interrupted call may not tell whether the name was somebody else's.
func (c *creation) removeNode(ctx context.Context, name string) error {
	list, err := c.engine.ListContainers(ctx, c.mine())
	if err != nil {
		return engineError(err)
	}
	for _, n := range list {
		if n.Name == name {
			return engineError(c.engine.RemoveContainer(ctx, n.ID))
		}
	}
	return nil
}

func (c *creation) removeNetworks(ctx context.Context) error {
	list, err := c.engine.ListNetworks(ctx, c.mine())
	for _, n := range list {
		err = errors.Join(err, detach(ctx, c.engine, n), c.engine.RemoveNetwork(ctx, n.Name))
	}
	return engineError(err)
}

func (c *creation) nodeSteps() []step.Step {
	var steps []step.Step
	add := func(spec engine.ContainerSpec, files func() ([]node.File, error)) {
		spec.Labels = c.own(spec.Labels)
		undo := func(ctx context.Context) error { return c.removeNode(ctx, spec.Name) }
		steps = append(steps, step.Step{ID: "node/" + spec.Name, Title: spec.Name, Timeout: 5 * time.Minute, Do: c.withUndo(undo, func(ctx context.Context) error {
			return c.startContainer(ctx, spec, files)
		})})
	}
	for _, n := range c.plan.Nodes {
		add(n.Container, func() ([]node.File, error) { return c.files(n) })
	}
	if l := c.plan.LoadBalancer; l != nil {
		add(l.Container, func() ([]node.File, error) { return c.loadBalancerFiles(l) })
	}
	return steps
}

// startContainer makes a container, puts files in and starts it. The files,
// and the keys among them, are made while the engine makes the container.
func (c *creation) startContainer(ctx context.Context, spec engine.ContainerSpec, prepare func() ([]node.File, error)) error {
	var files []node.File
	var g group.Group
	g.Go(func() (err error) {
		files, err = prepare()
		return err
	})
	id, err := c.engine.CreateContainer(ctx, spec)
	if err := errors.Join(err, g.Wait()); err != nil {
		switch {
		case errors.Is(err, engine.ErrStorageLeft):
			return &notMine{engineError(err)}
		case errors.Is(err, engine.ErrConflict):
			return &notMine{problem.ClusterExists.Wrapf("a container %s is there already: %w", spec.Name, err)}
		}
		return engineError(err)
	}
	if err := node.New(c.engine, id).WriteFiles(ctx, files, c.now); err != nil {
		return engineError(err)
	}
	err = c.engine.StartContainer(ctx, id)
	if errors.Is(err, engine.ErrPortInUse) {
		return problem.PortTaken.Wrapf("%s: %w", published(spec), err)
	}
	return engineError(err)
}

// published are the ports of the host that a container takes, for messages.
func published(spec engine.ContainerSpec) string {
	var list []string
	for _, p := range spec.Ports {
		list = append(list, fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Protocol))
	}
	return strings.Join(list, ", ")
}

// rendered are the files that a plan has.
func rendered(files []plan.File) []node.File {
	var out []node.File
	for _, f := range files {
		out = append(out, node.File{Path: f.Path, Mode: f.Mode, UID: f.UID, GID: f.GID, Data: []byte(f.Content)})
	}
	return out
}

func (c *creation) loadBalancerFiles(l *plan.LoadBalancer) ([]node.File, error) {
	ca, err := c.keys.Certificate(pki.ClusterCA)
	if err != nil {
		return nil, err
	}
	return append(rendered(l.Files), node.File{Path: plan.ClusterCAFile, Mode: 0o644, Data: ca}), nil
}

// files are all files of a node, the rendered and the secret ones.
func (c *creation) files(n plan.Node) ([]node.File, error) {
	out := rendered(n.Files)
	secrets, err := secretFiles(n.Secrets)
	if err != nil {
		return nil, err
	}
	out = append(out, secrets...)
	add := func(files []pki.File) {
		for _, f := range files {
			out = append(out, node.File{Path: f.Path, Mode: f.Mode, Data: f.Data})
		}
	}
	if n.Role == plan.RoleControlPlane {
		files, err := c.keys.Files()
		if err != nil {
			return nil, err
		}
		add(files)
	} else {
		ca, err := c.keys.Certificate(pki.ClusterCA)
		if err != nil {
			return nil, err
		}
		add([]pki.File{{Path: plan.ClusterCAFile, Mode: 0o644, Data: ca}})
	}
	for _, cert := range n.Certificates {
		files, err := c.keys.Issue(cert)
		if err != nil {
			return nil, err
		}
		add(files)
	}
	for _, k := range n.Kubeconfigs {
		data, err := c.keys.Kubeconfig(k)
		if err != nil {
			return nil, err
		}
		add([]pki.File{{Path: k.Path, Mode: 0o600, Data: data}})
	}
	return out, nil
}

func (c *creation) waitAPI(ctx context.Context) error {
	if err := c.client.WaitServing(ctx); err != nil {
		return problem.APINotServing.Wrap(err)
	}
	return nil
}

// apply registers the nodes and applies every add-on, all at once: nodes get
// their pod subnets before the controller manager is up, so that the
// addresses in the nodes' files hold.
func (c *creation) apply(ctx context.Context) error {
	g, ctx := group.WithContext(ctx)
	for _, n := range c.plan.Nodes {
		g.Go(func() error {
			taints := make([]kube.Taint, len(n.Taints))
			for i, t := range n.Taints {
				taints[i] = kube.Taint(t)
			}
			var cidrs []string
			for _, p := range n.PodCIDRs() {
				cidrs = append(cidrs, p.String())
			}
			return c.client.EnsureNode(ctx, n.Name, cidrs, n.Labels, taints...)
		})
	}
	var manifests []string
	for _, a := range c.plan.Addons {
		if !a.Deferred || c.options.Wait == 0 {
			manifests = append(manifests, a.Manifest)
		}
	}
	info, err := c.keys.ClusterInfo(c.plan.Nodes[0].Kubeconfigs[0].Server)
	if err != nil {
		return err
	}
	manifests = append(manifests, info)
	for _, m := range manifests {
		g.Go(func() error { return c.client.Apply(ctx, m) })
	}
	if err := g.Wait(); err != nil {
		return problem.AddonRejected.Wrap(err)
	}
	return nil
}

// apiTitle names the step that waits for the API.
func (c *creation) apiTitle() string {
	if c.plan.LoadBalancer != nil {
		return "Starting the control planes"
	}
	return "Starting the control plane"
}

func (c *creation) nodeNames() []string {
	names := make([]string, len(c.plan.Nodes))
	for i, n := range c.plan.Nodes {
		names[i] = n.Name
	}
	return names
}

// waitReady waits for nodes and DNS. Neither comes up in a cluster that is
// still to get its network.
func (c *creation) waitReady(ctx context.Context) error {
	if c.plan.ExternalCNI {
		return nil
	}
	report := func(s string) { step.Report(ctx, s) }
	var g group.Group
	var nodes error
	g.Go(func() error {
		nodes = c.client.Wait(ctx, report, kube.NodesReady(c.nodeNames()...))
		return nil
	})
	var dns error
	if c.plan.Addon(plan.AddonCoreDNS) {
		dns = c.client.Wait(ctx, report, kube.DeploymentAvailable("kube-system", "coredns"))
	}
	if err := g.Wait(); err != nil {
		return err
	}
	switch { // what runs on nodes that are not Ready is no news
	case nodes != nil:
		return problem.NodesNotReady.Wrap(nodes)
	case dns != nil:
		return problem.AddonNotAvailable.Wrap(dns)
	}
	return nil
}

// waitNetwork waits until Flannel and kube-proxy serve on every node, as far
// as there are any, then applies what would only have been in their way.
func (c *creation) waitNetwork(ctx context.Context) error {
	var conditions []kube.Condition
	for _, d := range [][3]string{{plan.AddonFlannel, "kube-flannel", "kube-flannel-ds"}, {plan.AddonKubeProxy, "kube-system", "kube-proxy"}} {
		if c.plan.Addon(d[0]) {
			conditions = append(conditions, kube.DaemonSetReady(d[1], d[2], c.nodeNames()...))
		}
	}
	if len(conditions) > 0 {
		if err := c.client.Wait(ctx, func(s string) { step.Report(ctx, s) }, conditions...); err != nil {
			return problem.AddonNotAvailable.Wrap(err)
		}
	}
	for _, a := range c.plan.Addons {
		if a.Deferred {
			if err := c.client.Apply(ctx, a.Manifest); err != nil {
				return problem.AddonRejected.Wrap(err)
			}
		}
	}
	return nil
}

func (c *creation) kubeconfigStep() step.Step {
	path := kube.ResolvePath(c.options.Kubeconfig, c.options.Env.get("KUBECONFIG"), c.options.Env.get("HOME"))
	c.kubeconfigPath = path
	undo := func(ctx context.Context) error {
		_, err := kube.RemoveKubeconfig(ctx, path, c.plan.Admin.Context)
		return err
	}
	return step.Step{ID: "kubeconfig", Title: "Writing the kubeconfig", Timeout: time.Minute, Do: c.withUndo(undo, func(ctx context.Context) error {
		return kube.MergeKubeconfig(ctx, path, c.admin)
	})}
}

// guarded makes a step's function of f that ends at once when a node's
// container stops, with that as the cause.
func (c *creation) guarded(f func(context.Context) error) func(context.Context) (step.Undo, error) {
	return func(ctx context.Context) (step.Undo, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		var watch group.Group
		watch.Go(func() error {
			err := group.Recovered(func() error { return c.watchNodes(ctx) })
			cancel(err)
			return nil
		})
		err := group.Recovered(func() error { return f(ctx) })
		var panicked *group.PanicError
		switch cause := context.Cause(ctx); {
		case err != nil && (errors.Is(cause, problem.NodeExited) || errors.Is(cause, problem.DiskFull)):
			err = cause
		case err != nil && errors.As(cause, &panicked):
			err = panicked
		}
		cancel(nil)
		_ = watch.Wait() // what it found is the context's cause
		return nil, err
	}
}

// How often nodes are looked at. The engine port has no events; a list of
// containers costs the engine about 10 ms. The nodes' logs are read because a
// full disk shows there long before a step's time is up: the shell that does it
// costs a node about 0.1 s, and most steps are over before the first.
const (
	watchInterval = 2 * time.Second
	logRounds     = 5 // looks at the containers for one at the logs
)

// watchShare bounds what looking costs on a slow host: a look is followed by a
// pause of so many times as long.
const watchShare = 20

// watchNodes returns NodeExited when a node's container has ended, DiskFull
// when a node says so, nil when ctx ends.
func (c *creation) watchNodes(ctx context.Context) error {
	interval := cmp.Or(c.options.watchInterval, watchInterval)
	pause, nextLogs := interval, time.Now().Add(logRounds*interval)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		start := time.Now()
		list, err := c.engine.ListContainers(ctx, map[string]string{plan.LabelCluster: c.plan.Cluster})
		pause = max(interval, watchShare*time.Since(start))
		if err != nil {
			continue // an engine that does not answer shows in the step itself
		}
		for _, n := range list {
			if n.State == engine.StateExited {
				return problem.NodeExited.Wrapf("container %s ended with exit code %d", n.Name, n.ExitCode)
			}
		}
		if start.Before(nextLogs) {
			continue
		}
		start = time.Now()
		logs, err := c.nodeLogs(ctx, list)
		if err != nil {
			return err
		}
		nextLogs = time.Now().Add(max(logRounds*interval, watchShare*time.Since(start)))
		if host, line := hostAtFault(logs); host != nil && host.Code == problem.DiskFull.Code { // with too few files, a cluster may come up all the same
			return host.Wrapf("%s", line)
		}
	}
}
