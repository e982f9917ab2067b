// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// registryFlag adds --registry, whose value may be left out.
func registryFlag(cmd *cobra.Command, port *int) {
	cmd.Flags().IntVar(port, "registry", 0, "use the local registry, on this port of 127.0.0.1: "+
		"it is made if there is none, and shared by all clusters")
	cmd.Flags().Lookup("registry").NoOptDefVal = "0" // that of the registry that there is, or the default
	completeFlag(cmd, "registry", cobra.NoFileCompletions)
}

// localRegistry is the configuration that a port given by a flag stands for; 0
// leaves it to the registry that there is.
func localRegistry(cmd *cobra.Command, port int) (*config.LocalRegistry, error) {
	if port != 0 {
		if err := config.ValidateRegistryPort(port); err != nil {
			return nil, usageErrorf(cmd, "the port of the registry: %w", err)
		}
	}
	return &config.LocalRegistry{Port: port}, nil
}

// absoluteRegistries makes paths of registries.hosts absolute.
func absoluteRegistries(r config.Registries) error {
	for i := range r.Hosts {
		h := &r.Hosts[i]
		for name, path := range map[string]*string{
			"caFile": &h.CAFile, "clientCertFile": &h.ClientCertFile, "clientKeyFile": &h.ClientKeyFile, "authFile": &h.AuthFile,
		} {
			if *path == "" || name == "authFile" && *path == config.AuthFileAuto {
				continue
			}
			abs, err := filepath.Abs(*path)
			if err != nil {
				return problem.InvalidConfig.Wrapf("registries.hosts[%d].%s: %w", i, name, err)
			}
			*path = abs
		}
	}
	return nil
}

func (a *app) createRegistry() *cobra.Command {
	var port int
	var image, build string
	cmd := &cobra.Command{
		Use: "registry", Short: "Create the local registry, which clusters share",
		Long: `Create the local registry, on a port of 127.0.0.1. Clusters that are created with
--registry pull images from it that were pushed to localhost:PORT on this host;
it stays when they are deleted. 'rk create cluster --registry' makes it, too.`,
		Example: `  rk create registry
  rk create registry --port 5002`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := localRegistry(cmd, port); err != nil {
				return err
			}
			if err := oneOf(cmd, "build", build, buildAuto, buildNever); err != nil {
				return err
			}
			f := createFlags{image: image, build: build}
			_, err := withEngine(cmd.Context(), a, func(ctx context.Context, eng engine.Engine) (struct{}, error) {
				return struct{}{}, a.createRegistryOn(ctx, eng, port, f)
			})
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().IntVar(&port, "port", 0, fmt.Sprintf("port of 127.0.0.1 (default %d, or that of the registry that there is)", config.DefaultRegistryPort))
	cmd.Flags().StringVar(&image, "image", "", "node image that has the registry: a reference, or an archive FILE.tar that is loaded first")
	cmd.Flags().StringVar(&build, "build", buildAuto, "build the node image: auto (if the engine does not have it) or never")
	completeFlag(cmd, "port", cobra.NoFileCompletions)
	choices(cmd, "build", buildAuto, buildNever)
	return cmd
}

func (a *app) createRegistryOn(ctx context.Context, eng engine.Engine, want int, f createFlags) error {
	port, err := preflight.RegistryPort(ctx, eng, want)
	if err != nil {
		return err
	}
	ref := f.image
	if ref == "" {
		ref = config.NodeImage(config.DefaultKubernetesVersion)
	}
	facts, err := a.nodeImage(ctx, eng, ref, f)
	if err != nil {
		return err
	}
	r, err := plan.LocalRegistry(facts.Ref, port)
	if err != nil {
		return err
	}
	rep, done := a.reporter()
	err = cluster.CreateRegistry(ctx, eng, r, plan.RegistryNetwork(preflight.MTU()), rep)
	done()
	if err != nil {
		return err
	}
	a.note("The registry is at localhost:%d. Push with:", port)
	a.note("  %s", pushCommand(ctx, eng, port))
	return nil
}

// pushCommand is how images get into the local registry.
func pushCommand(ctx context.Context, eng engine.Engine, port uint16) string {
	image := "localhost:" + strconv.Itoa(int(port)) + "/NAME:TAG"
	if info, err := eng.Info(ctx); err == nil && info.Name == "docker" {
		return "docker push " + image
	}
	return "podman push --tls-verify=false " + image
}

func (a *app) getRegistries() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "registries", Aliases: []string{"registry"}, Short: "List the local registry and the caches of this user",
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := ui.ParseFormat(output, listFormats...)
			if err != nil {
				return err
			}
			list, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) ([]cluster.Registry, error) { return e.registries(ctx) })
			if err != nil {
				return err
			}
			return a.printRegistries(format, list)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	outputFlag(cmd, &output, listFormats...)
	return cmd
}

// registries lists the registries of all engines, ordered by name.
func (e engines) registries(ctx context.Context) ([]cluster.Registry, error) {
	out := []cluster.Registry{}
	for _, c := range e.all {
		list, err := cluster.Registries(ctx, c)
		if err != nil {
			return nil, err
		}
		for i := range list {
			list[i].Engine = c.Name
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b cluster.Registry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (a *app) printRegistries(format ui.Format, list []cluster.Registry) error {
	if len(list) == 0 {
		a.note("There are no registries.")
	}
	type column = ui.Column[cluster.Registry]
	return ui.PrintList(a.Out, format, list,
		column{Name: "NAME", Value: func(r cluster.Registry) string { return r.Name }},
		column{Name: "KIND", Value: func(r cluster.Registry) string { return r.Kind }},
		column{Name: "STATE", Value: func(r cluster.Registry) string { return string(r.State) }},
		column{Name: "ADDRESS", Value: func(r cluster.Registry) string { return r.Address }},
		column{Name: "CLUSTERS", Value: func(r cluster.Registry) string { return strings.Join(r.Clusters, ",") }},
		column{Name: "AGE", Value: func(r cluster.Registry) string { return a.age(r.Created) }},
		column{Name: "UPSTREAM", Wide: true, Value: func(r cluster.Registry) string { return r.Upstream }},
		column{Name: "ENGINE", Wide: true, Value: func(r cluster.Registry) string { return r.Engine }},
	)
}

func (a *app) deleteRegistry() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "registry [NAME]", Short: "Delete a registry with everything in it",
		Long: `Delete the local registry, or the registry or cache NAME, with all images in it.
One that clusters use is deleted with --force alone: these then pull from it no
more, and are deleted as usual.`,
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := plan.LocalRegistryName
			if len(args) > 0 {
				name = args[0]
			}
			_, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) (struct{}, error) {
				return struct{}{}, a.deleteRegistryFrom(ctx, e, name, force)
			})
			return err
		},
		ValidArgsFunction: a.completeRegistry,
	}
	cmd.Flags().BoolVar(&force, "force", false, "also if clusters use it")
	return cmd
}

// deleteRegistryFrom deletes a registry from each engine that has it.
func (a *app) deleteRegistryFrom(ctx context.Context, e engines, name string, force bool) error {
	list, err := e.registries(ctx)
	if err != nil {
		return err
	}
	var errs []error
	found := false
	for _, r := range list {
		if r.Name == name {
			found = true
			errs = append(errs, cluster.DeleteRegistry(ctx, e.named(r.Engine), name, force))
		}
	}
	if !found {
		return cluster.DeleteRegistry(ctx, e.all[0], name, force) // which says what there is
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.note("Registry %q is deleted.", name)
	return nil
}

// completeRegistry completes the name of one registry.
func (a *app) completeRegistry(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := completing(cmd, a, func(ctx context.Context, e engines) ([]cluster.Registry, error) { return e.registries(ctx) })
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
