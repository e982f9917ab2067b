// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) create() *cobra.Command {
	return group("create", "Create a cluster or a registry", a.createCluster(), a.createRegistry())
}

// createFlags are the flags of "rk create cluster".
type createFlags struct {
	name, config, image, kubernetesVersion, cgroups, build, kubeconfig string
	nodeCPUs, nodeMemory                                               string
	controlPlanes, workers                                             int
	wait                                                               time.Duration
	registry                                                           int
	retain, dryRun                                                     bool
	ignore                                                             []string
	apply                                                              manifestFlags
}

func (a *app) createCluster() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "cluster [NAME]", Short: "Create a cluster",
		Long: `Create a cluster and put it into the kubeconfig as the current context.

Without --config, a cluster has one control plane and as many workers as
--workers says. Flags win over the configuration file. The node image is built
if the engine does not have it.`,
		Example: `  rk create cluster
  rk create cluster demo --workers 2
  rk create cluster --config demo.yaml --dry-run
  rk create cluster --manifest deploy/ --kustomize overlays/dev`,
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.clusterConfig(cmd, args, f)
			if err != nil {
				return err
			}
			c, objects, err := given(cmd.Context(), c)
			if err != nil {
				return err
			}
			return a.withCheckedEngines(cmd, c, f, func(ctx context.Context, e engines, checked preflight.Facts) error {
				// Before anything is built or loaded for it; cluster.Create looks again.
				if err := a.checkNewName(ctx, e, c.Name); err != nil {
					return err
				}
				a.noteEngine(e.all[0])
				return a.createWith(ctx, e.all[0], c, f, checked, objects)
			})
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	nameFlag(cmd, &f.name, "name of the cluster")
	fs.StringVar(&f.config, "config", "", "configuration file of rk or kind, - for standard input (see docs/config.md)")
	fs.StringVar(&f.image, "image", "", "node image of all nodes: a reference, or an archive FILE.tar that is loaded first")
	fs.StringVar(&f.kubernetesVersion, "kubernetes-version", "", "Kubernetes version, e.g. "+config.DefaultKubernetesVersion+"; picks the node image")
	fs.IntVar(&f.controlPlanes, "control-planes", 1, "number of control planes, up to seven, best an odd number")
	fs.IntVar(&f.workers, "workers", 0, "number of workers")
	fs.StringVar(&f.nodeCPUs, "node-cpus", "", "CPUs that each node has, e.g. 1.5 (default those of the host)")
	fs.StringVar(&f.nodeMemory, "node-memory", "", "memory that each node has, e.g. 2Gi (default that of the host)")
	fs.StringVar(&f.cgroups, "cgroups", config.DefaultCgroups, "use of cgroup controllers: auto, delegated or none")
	registryFlag(cmd, &f.registry)
	fs.StringVar(&f.build, "build", buildAuto, "build the node image: auto (if the engine does not have it), always or never")
	fs.DurationVar(&f.wait, "wait", 5*time.Minute, "how long to wait for Ready nodes; 0 does not wait for them")
	fs.BoolVar(&f.retain, "retain", false, "keep what was made when creation fails, to look into it")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the plan of the cluster as YAML and create nothing")
	fs.StringSliceVar(&f.ignore, "ignore-preflight", nil, "codes of required checks that need not pass, or all")
	kubeconfigFlag(cmd, &f.kubeconfig)
	f.apply.add(cmd)
	a.completeCreate(cmd)
	choices(cmd, "cgroups", "auto", "delegated", "none")
	choices(cmd, "build", buildAuto, buildAlways, buildNever)
	return cmd
}

// clusterConfig is the configuration file with the flags over it, defaulted and validated.
func (a *app) clusterConfig(cmd *cobra.Command, args []string, f createFlags) (config.Cluster, error) {
	if f.wait < 0 {
		return config.Cluster{}, usageErrorf(cmd, "--wait %s is negative", f.wait)
	}
	if err := oneOf(cmd, "build", f.build, buildAuto, buildAlways, buildNever); err != nil {
		return config.Cluster{}, err
	}
	if f.image != "" && f.build == buildAlways {
		return config.Cluster{}, usageErrorf(cmd, "--build=always and --image contradict each other: --kubernetes-version says what to build")
	}
	file, err := a.readConfig(f.config)
	if err != nil {
		return file.cluster, err
	}
	c, err := a.override(cmd, args, file.cluster, f)
	if err != nil {
		return c, err
	}
	c = config.Default(c)
	if err := config.Validate(c); err != nil {
		return c, problem.InvalidConfig.Wrap(err)
	}
	if err := absolute(c); err != nil {
		return c, err
	}
	if c.Proxy, err = config.ProxyFromEnvironment(c.Proxy, a.Env); err != nil {
		return c, problem.InvalidConfig.
			With("Correct the variable, or keep the environment's proxies from nodes with 'proxy: {disabled: true}' in the configuration.").Wrap(err)
	}
	if _, err := plan.Check(c); err != nil { // before anything is built for it
		return c, file.placed(err)
	}
	return c, nil
}

// override puts flags that are set over a configuration.
func (a *app) override(cmd *cobra.Command, args []string, c config.Cluster, f createFlags) (config.Cluster, error) {
	set := cmd.Flags().Changed
	name, err := a.clusterName(cmd, args, f.name)
	if err != nil {
		return c, err
	}
	if name != "" {
		c.Name = name
	}
	if set("image") && set("kubernetes-version") {
		return c, usageErrorf(cmd, "--image and --kubernetes-version cannot be given together: an image holds one version")
	}
	if set("image") || set("kubernetes-version") {
		c.Image, c.KubernetesVersion = f.image, f.kubernetesVersion
		if isArchive(f.image) {
			c.Image = "" // the archive says which, once it is read
		}
		for i := range c.Nodes {
			c.Nodes[i].Image = ""
		}
	}
	c = f.apply.over(c)
	if set("cgroups") {
		c.Cgroups = f.cgroups
	}
	if set("registry") {
		if _, err := strconv.Atoi(c.Name); err == nil && f.registry == 0 && len(args) > 0 {
			return c, usageErrorf(cmd, "a port of the registry is written --registry=%s", c.Name)
		}
		if c.Registries.Local, err = localRegistry(cmd, f.registry); err != nil {
			return c, err
		}
	}
	if set("control-planes") {
		if f.controlPlanes < 1 {
			return c, usageErrorf(cmd, "--control-planes %d: a cluster needs at least one", f.controlPlanes)
		}
		if c.Nodes, err = setCount(c.Nodes, config.RoleControlPlane, f.controlPlanes); err != nil {
			return c, usageErrorf(cmd, "--control-planes: %w", err)
		}
	}
	if set("workers") {
		if f.workers < 0 {
			return c, usageErrorf(cmd, "--workers %d is negative", f.workers)
		}
		if c.Nodes, err = setCount(c.Nodes, config.RoleWorker, f.workers); err != nil {
			return c, usageErrorf(cmd, "--workers: %w", err)
		}
	}
	if len(c.Nodes) == 0 && (set("node-cpus") || set("node-memory")) {
		c.Nodes = []config.Node{{Role: config.RoleControlPlane}}
	}
	for i := range c.Nodes {
		if set("node-cpus") {
			c.Nodes[i].Resources.CPUs = f.nodeCPUs
		}
		if set("node-memory") {
			c.Nodes[i].Resources.Memory = f.nodeMemory
		}
	}
	return c, nil
}

// createWith creates a cluster on an engine, or prints its plan. What was
// found out by the checks is not asked again.
func (a *app) createWith(ctx context.Context, eng engine.Engine, c config.Cluster, f createFlags, checked preflight.Facts, objects []plan.Object) error {
	start := a.Now()
	image, err := a.nodeImage(ctx, eng, c.Image, f)
	if err != nil {
		return err
	}
	c.Image = image.Ref
	facts, err := a.Gather(ctx, preflight.Asked(eng, checked), c, image)
	if err != nil {
		return err
	}
	facts.Objects = objects
	p, err := plan.Make(c, facts)
	if err != nil {
		return err
	}
	for _, w := range p.Warnings {
		a.warn(a.file.worded(w))
	}
	if f.dryRun {
		return a.printPlan(p)
	}
	rep, done := a.reporter()
	created, err := a.Create(ctx, eng, p, cluster.CreateOptions{
		Reporter: rep, Retain: f.retain, Wait: f.wait, Kubeconfig: f.kubeconfig, Env: a.Env,
	})
	done()
	switch {
	case err != nil && f.retain && ctx.Err() != nil:
		return problem.Interrupted.With(keptAdvice(c.Name)).Wrap(err)
	case err != nil && f.retain:
		a.note("%s", keptAdvice(c.Name))
		return err
	case err != nil:
		return err
	}
	return a.printCreated(p, created, f, a.Now().Sub(start))
}

func keptAdvice(name string) string {
	return "What was made is kept, as --retain asks. 'rk delete cluster " + name + "' removes it."
}
