// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// The engines' names, as --engine and RK_ENGINE have them.
const (
	Auto   = "auto"
	Podman = "podman"
	Docker = "docker"
)

// Names are the values of Options.Engine.
var Names = []string{Auto, Podman, Docker}

// Options rule Dial and DialAll.
type Options struct {
	// Engine is "podman", "docker" or "auto". Empty: what RK_ENGINE says, "auto" if it is not set.
	Engine string
	// Env looks up environment variables: CONTAINER_HOST, DOCKER_HOST,
	// DOCKER_CONTEXT, DOCKER_CONFIG, HOME, PATH, RK_ENGINE and
	// XDG_RUNTIME_DIR. Default: os.Getenv.
	Env func(string) string
}

// Connection is an engine and why it was taken.
type Connection struct {
	engine.Engine
	Name string // "podman" or "docker"
	Why  string // e.g. "it is the only engine of this user"
	// Chosen says that there is another engine, which could have been taken.
	Chosen bool
}

// Title is the engine's name as it is written in sentences.
func (c *Connection) Title() string {
	if c.Name == Docker {
		return dockerKind.title
	}
	return podmanKind.title
}

// Unusable is an engine that is there and cannot be used. It wraps a Problem.
type Unusable struct {
	Name string
	Err  error
}

func (u *Unusable) Error() string { return fmt.Sprintf("%s cannot be used: %v", u.Name, u.Err) }
func (u *Unusable) Unwrap() error { return u.Err }

// Dial connects to the engine that new clusters are made on. The caller closes
// it. With "auto" that is the first that can be used, of those whose API
// service listens, Podman before Docker, then of those that can be started;
// unusable are those that come before it and are there. Errors are
// problem.NoUserSession, NoEngine, EngineUnreachable, EngineRootful,
// EngineTooOld, EngineServiceFailed and InvalidUsage.
func Dial(ctx context.Context, o Options) (c *Connection, unusable []*Unusable, err error) {
	d, name := o.dialer()
	return d.first(ctx, name)
}

func (d dialer) first(ctx context.Context, name string) (c *Connection, unusable []*Unusable, err error) {
	candidates, err := d.candidates(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	for _, candidate := range candidates {
		eng, err := candidate.dial(ctx)
		if err == nil {
			return &Connection{eng, candidate.name, candidate.why, len(candidates) > 1}, unusable, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		unusable = append(unusable, &Unusable{candidate.name, err})
	}
	return nil, nil, allUnusable(unusable)
}

// DialAll connects to every engine of the user, in Dial's order, since
// clusters may be on any of them. The caller closes the connections. An engine
// that is there and cannot be used is in unusable; it is an error if all are.
func DialAll(ctx context.Context, o Options) (all []*Connection, unusable []*Unusable, err error) {
	d, name := o.dialer()
	return d.all(ctx, name)
}

func (d dialer) all(ctx context.Context, name string) (all []*Connection, unusable []*Unusable, err error) {
	candidates, err := d.candidates(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	engines, errs := make([]engine.Engine, len(candidates)), make([]error, len(candidates))
	var wg sync.WaitGroup
	for i, c := range candidates {
		wg.Go(func() { engines[i], errs[i] = c.dial(ctx) })
	}
	wg.Wait()
	for i, c := range candidates {
		if errs[i] != nil {
			unusable = append(unusable, &Unusable{c.name, errs[i]})
			continue
		}
		all = append(all, &Connection{engines[i], c.name, c.why, len(candidates) > 1})
	}
	if err := ctx.Err(); err != nil {
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
		return nil, nil, err
	}
	if len(all) == 0 {
		return nil, nil, allUnusable(unusable)
	}
	return all, unusable, nil
}

// allUnusable is the error if no engine can be used: the first one's, which
// names the others.
func allUnusable(unusable []*Unusable) error {
	if len(unusable) == 1 {
		return unusable[0].Err
	}
	errs := make([]error, len(unusable))
	for i, u := range unusable {
		errs[i] = u
	}
	return errors.Join(errs...)
}

// candidate is an engine that may be there.
type candidate struct {
	name, why string
	dial      func(ctx context.Context) (engine.Engine, error)
}

// dialer is this process's, and the engine that the options name.
func (o Options) dialer() (d dialer, name string) {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	return dialer{env: o.Env, uid: os.Getuid(), peer: peerUID}, o.Engine
}

// candidates are the engines to try, the preferred one first.
func (d dialer) candidates(ctx context.Context, name string) ([]candidate, error) {
	source := "--engine"
	if name == "" {
		name, source = d.env("RK_ENGINE"), "RK_ENGINE"
	}
	switch name {
	case "", Auto:
		return d.found(ctx), nil
	case Podman:
		return []candidate{{Podman, source + " says so", d.podman}}, nil
	case Docker:
		return []candidate{{Docker, source + " says so", d.docker}}, nil
	}
	return nil, problem.InvalidUsage.With("Use podman, docker or auto.").Wrapf("%s=%s: there is no such engine", source, name)
}

// found looks which engines are there. It does not connect to them.
func (d dialer) found(ctx context.Context) []candidate {
	podman, docker := candidate{Podman, "", d.podman}, candidate{Docker, "", d.docker}
	listens, podmanWhy := d.podmanListens(ctx)
	_, err := lookPath("podman", d.env("PATH"))
	installed := err == nil && d.uid != 0
	there, dockerWhy := d.dockerThere(ctx, listens || installed)
	const only = "it is the only engine of this user"
	switch {
	case !there:
		podman.why = only
		return []candidate{podman}
	case listens:
		podman.why, docker.why = podmanWhy+", and it goes before Docker", dockerWhy
		return []candidate{podman, docker}
	case installed:
		podman.why, docker.why = "it is installed", dockerWhy+", and Podman has no API service running"
		return []candidate{docker, podman}
	}
	docker.why = only
	return []candidate{docker}
}

func (d dialer) podmanListens(ctx context.Context) (listens bool, why string) {
	if d.env("CONTAINER_HOST") != "" {
		return true, "CONTAINER_HOST is set"
	}
	runtimeDir, err := d.runtimeDir()
	if err != nil || d.uid == 0 {
		return false, ""
	}
	path, listens := d.podmanSocket(ctx, runtimeDir)
	return listens, "it listens at " + path
}

// dockerThere says whether there is a Docker that this user may mean. Beside
// a Podman, that of another machine is none.
func (d dialer) dockerThere(ctx context.Context, podman bool) (there bool, why string) {
	endpoint, err := d.dockerEndpoint(ctx)
	switch {
	case errors.Is(err, problem.NoEngine), errors.Is(err, problem.NoUserSession):
		return false, ""
	case err != nil:
		return true, "it is configured" // and cannot be used, which dial says
	case podman && !strings.HasPrefix(endpoint.host, "unix://"):
		return false, ""
	}
	return true, "it is that of " + endpoint.source
}
