// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/redact"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Registry is a registry beside the clusters, as found by its labels.
type Registry struct {
	Name     string       `json:"name"`
	Kind     string       `json:"kind"`               // "local" or "cache"
	Upstream string       `json:"upstream,omitempty"` // URL that a cache is of
	Address  string       `json:"address,omitempty"`  // on the host, e.g. "localhost:5001"; a cache has none
	State    engine.State `json:"state"`
	Clusters []string     `json:"clusters"`         // that use it, sorted
	Engine   string       `json:"engine,omitempty"` // name of the engine that it is on; empty if that is not known
	Created  time.Time    `json:"created"`
}

// Registries returns all registries of the engine, ordered by name.
func Registries(ctx context.Context, eng engine.Engine) ([]Registry, error) {
	containers, err := registryContainers(ctx, eng)
	if err != nil {
		return nil, engineError(err)
	}
	users, err := registryUsers(ctx, eng)
	if err != nil {
		return nil, engineError(err)
	}
	list := make([]Registry, len(containers))
	for i, c := range containers {
		list[i] = Registry{
			Name: c.Name, Kind: c.Labels[plan.LabelRegistry], Upstream: c.Labels[plan.LabelUpstream], State: c.State,
			Clusters: append([]string{}, users[c.Name]...), Created: c.Created,
		}
		if len(c.Ports) > 0 {
			list[i].Address = fmt.Sprintf("localhost:%d", c.Ports[0].HostPort)
		}
	}
	return list, nil
}

func registryContainers(ctx context.Context, eng engine.Engine) ([]engine.Container, error) {
	return eng.ListContainers(ctx, map[string]string{plan.LabelRegistry: ""})
}

// registryUsers are the clusters that use registries, by the registry's name: those
// whose network says so.
func registryUsers(ctx context.Context, eng engine.Engine) (map[string][]string, error) {
	networks, err := eng.ListNetworks(ctx, map[string]string{plan.LabelRegistries: ""})
	users := map[string][]string{}
	for _, n := range networks {
		for _, name := range plan.RegistriesOf(n.Labels) {
			users[name] = append(users[name], n.Labels[plan.LabelCluster])
		}
	}
	for _, clusters := range users {
		slices.Sort(clusters)
	}
	return users, err
}

// CreateRegistry makes a registry that no cluster uses yet. One that is there is
// started if it does not run, and is no error if it is the same.
func CreateRegistry(ctx context.Context, eng engine.Engine, r plan.Registry, n engine.NetworkSpec, reporter step.Reporter) error {
	reg := &registries{engine: eng, network: n, id: rand.Text(), now: time.Now()}
	s := step.Step{ID: "registry", Title: "Starting the registry", Timeout: registryTimeout, Do: func(ctx context.Context) (step.Undo, error) {
		return reg.undo([]plan.Registry{r}), reg.ensure(ctx, r)
	}}
	return step.Run(ctx, reporter, []step.Step{s}, step.Options{})
}

// DeleteRegistry removes a registry with everything in it. It is problem.RegistryInUse
// if clusters use it, unless force, and problem.RegistryNotFound if there is none.
func DeleteRegistry(ctx context.Context, eng engine.Engine, name string, force bool) error {
	list, err := Registries(ctx, eng)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	i := slices.Index(names, name)
	switch {
	case i < 0 && len(names) == 0:
		return problem.RegistryNotFound.Wrapf("%q; there are no registries", name)
	case i < 0:
		return problem.RegistryNotFound.Wrapf("%q; there are: %s", name, strings.Join(names, ", "))
	case len(list[i].Clusters) > 0 && !force:
		return problem.RegistryInUse.Wrapf("%s is used by: %s", name, strings.Join(list[i].Clusters, ", "))
	}
	if err := eng.RemoveContainer(ctx, name); err != nil {
		return engineError(err)
	}
	if len(list) == 1 {
		return engineError(eng.RemoveNetwork(ctx, plan.RegistryNetworkName))
	}
	return nil
}

const (
	registryTimeout = 2 * time.Minute
	// registryPatience is how long a registry may take from its start until it listens: it does
	// so within 0.1 s on an idle machine.
	registryPatience = 30 * time.Second
	otherPatience    = 10 * time.Second // with another rk, between making and starting a registry
	registryInterval = 50 * time.Millisecond
)

// registriesStep makes the registries of the cluster, as far as they are not there, and
// attaches them to its network. What is made for this cluster and nobody else uses
// goes with it when the creation fails.
func (c *creation) registriesStep() []step.Step {
	if len(c.plan.Registries) == 0 {
		return nil
	}
	reg := &registries{engine: c.engine, network: *c.plan.RegistryNetwork, cluster: c.plan.Network.Name, id: c.id, now: c.now}
	return []step.Step{{
		ID: "registries", Title: "Connecting registries", Timeout: registryTimeout,
		Do: c.withUndo(reg.undo(c.plan.Registries), func(ctx context.Context) error {
			for _, r := range c.plan.Registries {
				if err := reg.ensure(ctx, r); err != nil {
					return err
				}
				if err := c.engine.ConnectNetwork(ctx, c.plan.Network.Name, r.Name(), r.Address); err != nil && !errors.Is(err, engine.ErrConflict) {
					return engineError(err)
				}
			}
			return nil
		}),
	}}
}

// registries makes registries for a cluster, or for none.
type registries struct {
	engine  engine.Engine
	network engine.NetworkSpec // that registries share
	cluster string             // network of the cluster; empty: there is none
	id      string             // of the creation
	now     time.Time
}

// ensure sees to it that a registry is there and runs. Another rk may do the same at the same time.
func (r *registries) ensure(ctx context.Context, want plan.Registry) error {
	found, err := r.find(ctx, want)
	if err != nil {
		return err
	}
	if found == nil {
		if err := r.engine.CreateNetwork(ctx, r.network); err != nil && !errors.Is(err, engine.ErrConflict) {
			return engineError(err)
		}
		err := r.create(ctx, want)
		if !errors.Is(err, engine.ErrConflict) {
			return err
		}
		// Made by another rk just now, which starts it; or something else of that name.
		if found, err = r.find(ctx, want); err != nil || found == nil {
			return cmp.Or(err, problem.RegistryDiffers.Wrapf("a container %s is there that is no registry of rk", want.Name()))
		}
	}
	if found.State == engine.StateCreated {
		if found, err = r.awaitOther(ctx, want); err != nil {
			return err
		}
	}
	if found.State == engine.StateRunning {
		return r.login(ctx, want)
	}
	return r.fill(ctx, found.ID, want)
}

// awaitOther waits until a registry runs that was made and not started, as another rk may
// be about to do. One that a killed rk left behind stays as it is.
func (r *registries) awaitOther(ctx context.Context, want plan.Registry) (*engine.Container, error) {
	deadline := time.Now().Add(otherPatience)
	for {
		found, err := r.find(ctx, want)
		switch {
		case err != nil:
			return nil, err
		case found == nil:
			return nil, problem.RegistryDiffers.Wrapf("%s was removed again by another program", want.Name())
		case found.State != engine.StateCreated || time.Now().After(deadline):
			return found, nil
		}
		if err := pause(ctx, registryInterval); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// find returns the registry that is there, nil if none is. It is
// problem.RegistryDiffers if that is another one than is wanted.
func (r *registries) find(ctx context.Context, want plan.Registry) (*engine.Container, error) {
	list, err := registryContainers(ctx, r.engine)
	if err != nil {
		return nil, engineError(err)
	}
	i := slices.IndexFunc(list, func(c engine.Container) bool { return c.Name == want.Name() })
	if i < 0 {
		return nil, nil
	}
	return &list[i], SameRegistry(list[i], want)
}

// SameRegistry returns problem.RegistryDiffers if a registry that is there is not as it is wanted.
func SameRegistry(c engine.Container, want plan.Registry) error {
	if has, wants := c.Labels[plan.LabelUpstream], want.Container.Labels[plan.LabelUpstream]; has != wants {
		return problem.RegistryDiffers.Wrapf("%s is the cache of %s, and %s is wanted", c.Name, has, wants)
	}
	if len(c.Ports) > 0 && len(want.Container.Ports) > 0 && c.Ports[0].HostPort != want.Container.Ports[0].HostPort {
		return problem.RegistryDiffers.Wrapf("%s listens on port %d, and port %d is wanted", c.Name, c.Ports[0].HostPort, want.Container.Ports[0].HostPort)
	}
	return nil
}

func (r *registries) create(ctx context.Context, want plan.Registry) error {
	spec := want.Container
	spec.Labels = maps.Clone(spec.Labels)
	spec.Labels[plan.LabelCreation] = r.id
	id, err := r.engine.CreateContainer(ctx, spec)
	if err != nil {
		if errors.Is(err, engine.ErrConflict) && !errors.Is(err, engine.ErrStorageLeft) {
			return err
		}
		return engineError(err)
	}
	return r.fill(ctx, id, want)
}

// fill puts the files of a registry into its container and starts it.
func (r *registries) fill(ctx context.Context, id string, want plan.Registry) error {
	var files []node.File
	for _, f := range want.Files {
		files = append(files, node.File{Path: f.Path, Mode: f.Mode, Data: []byte(f.Content)})
	}
	if err := node.New(r.engine, id).WriteFiles(ctx, files, r.now); err != nil {
		return engineError(err)
	}
	if err := r.login(ctx, want); err != nil {
		return err
	}
	return r.start(ctx, id, want)
}

// login gives a cache the credentials for its upstream as they are now. One that
// runs takes note of them.
func (r *registries) login(ctx context.Context, want plan.Registry) error {
	files, err := secretFiles(want.Secrets)
	if err != nil || len(files) == 0 {
		return err
	}
	return engineError(node.New(r.engine, want.Name()).WriteFiles(ctx, files, r.now))
}

// start starts a registry and waits until it listens.
func (r *registries) start(ctx context.Context, id string, want plan.Registry) error {
	var before bytes.Buffer
	if err := r.engine.ContainerLogs(ctx, id, &before); err != nil {
		return engineError(err)
	}
	err := r.engine.StartContainer(ctx, id)
	if errors.Is(err, engine.ErrPortInUse) {
		return problem.PortTaken.
			With("Stop the other program, or choose another port for the registry: 'rk create cluster --registry=PORT' or registries.local.port.").
			Wrapf("port %d of the registry: %w", want.Container.Ports[0].HostPort, err)
	}
	if err != nil && strings.Contains(err.Error(), want.Container.Entrypoint[0]) { // crun and runc name what they do not find
		return problem.RegistryNotServing.
			Withf("The node image %s has no registry, as it was built by an older rk. Build it again: 'rk build node-image'.", want.Container.Image).Wrap(err)
	}
	if err != nil {
		return engineError(err)
	}
	deadline := time.Now().Add(registryPatience)
	for {
		var log bytes.Buffer
		if err := r.engine.ContainerLogs(ctx, id, &log); err != nil {
			return engineError(err)
		}
		said := log.Bytes()[min(before.Len(), log.Len()):]
		if bytes.Contains(said, []byte("listening on ")) {
			return nil
		}
		if time.Now().After(deadline) {
			return problem.RegistryNotServing.Wrapf("%s said: %s", want.Name(), strings.Join(lastLines(redact.Bytes(said)), "; "))
		}
		if err := pause(ctx, registryInterval); err != nil {
			return err
		}
	}
}

// undo detaches registries from the cluster's network, and removes those that were
// made by this creation and that no other cluster uses meanwhile.
func (r *registries) undo(list []plan.Registry) step.Undo {
	return func(ctx context.Context) error {
		var errs []error
		if r.cluster != "" {
			for _, reg := range list {
				errs = append(errs, r.engine.DisconnectNetwork(ctx, r.cluster, reg.Name()))
			}
		}
		containers, err := registryContainers(ctx, r.engine)
		errs = append(errs, err)
		users, uerr := r.otherUsers(ctx)
		if errs = append(errs, uerr); err != nil || uerr != nil {
			return engineError(errors.Join(errs...))
		}
		left := len(containers)
		for _, c := range containers {
			if c.Labels[plan.LabelCreation] == r.id && len(users[c.Name]) == 0 {
				errs = append(errs, r.engine.RemoveContainer(ctx, c.ID))
				left--
			}
		}
		if left == 0 {
			errs = append(errs, r.engine.RemoveNetwork(ctx, r.network.Name))
		}
		return engineError(errors.Join(errs...))
	}
}

// otherUsers is registryUsers without the cluster itself.
func (r *registries) otherUsers(ctx context.Context) (map[string][]string, error) {
	networks, err := r.engine.ListNetworks(ctx, map[string]string{plan.LabelRegistries: ""})
	users := map[string][]string{}
	for _, n := range networks {
		if n.Name == r.cluster {
			continue
		}
		for _, name := range plan.RegistriesOf(n.Labels) {
			users[name] = append(users[name], n.Name)
		}
	}
	return users, err
}

// detach takes registries out of a network, so that it can be removed. A registry
// that was deleted meanwhile is none.
func detach(ctx context.Context, eng engine.Engine, n engine.Network) error {
	var errs []error
	for _, name := range plan.RegistriesOf(n.Labels) {
		errs = append(errs, eng.DisconnectNetwork(ctx, n.Name, name))
	}
	return errors.Join(errs...)
}
