// SPDX-License-Identifier: Apache-2.0

// Package connect finds the user's rootless engines and dials them. Podman: the
// socket that CONTAINER_HOST names, else the user's podman.socket, else an API
// service of its own, which ends with the connection. Docker: see docker.go. A
// rootful engine is refused. Every error is a Problem with the fix.
//
// It must never import anything above the engine port. It is the one package
// that may run an engine's command, and it does so in service.go only.
package connect

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/docker"
	"github.com/rootless-kubernetes/rk/pkg/engine/podman"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// dialer is what this package knows of its own process.
type dialer struct {
	env  func(string) string
	uid  int
	peer func(ctx context.Context, socket string) (uid int, err error) // who listens there
}

// kind is what differs between engines when a socket is attached to.
type kind struct {
	title     string   // for messages
	rootful   []string // where root's engine listens
	forwarded bool     // its socket is often served by somebody who is not the engine
	variable  string   // names the socket
	dial      func(ctx context.Context, uri string) (engine.Engine, error)
}

var (
	podmanKind = kind{
		title: "Podman", variable: "CONTAINER_HOST",
		rootful: []string{"/run/podman/podman.sock", "/var/run/podman/podman.sock"},
		dial: func(ctx context.Context, uri string) (engine.Engine, error) {
			c, err := podman.Dial(ctx, uri)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
	}
	dockerKind = kind{
		title: "Docker", variable: "DOCKER_HOST", forwarded: true,
		rootful: []string{"/run/docker.sock", "/var/run/docker.sock"},
		dial: func(ctx context.Context, uri string) (engine.Engine, error) {
			c, err := docker.Dial(ctx, uri)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
	}
)

func (d dialer) podman(ctx context.Context) (engine.Engine, error) {
	if host := d.env("CONTAINER_HOST"); host != "" {
		path, err := hostSocket("CONTAINER_HOST", host, "podman/podman.sock")
		if err != nil {
			return nil, err
		}
		return d.attach(ctx, podmanKind, path, "CONTAINER_HOST="+host)
	}
	if d.uid == 0 {
		return nil, problem.EngineRootful.Wrapf("rk runs as root, whose Podman is rootful")
	}
	runtimeDir, err := d.runtimeDir()
	if err != nil {
		return nil, err
	}
	path, listens := d.podmanSocket(ctx, runtimeDir)
	if !listens {
		return d.serve(ctx, runtimeDir)
	}
	return d.attach(ctx, podmanKind, path, path)
}

// podmanSocket returns where the user's API service listens, if it does.
func (d dialer) podmanSocket(ctx context.Context, runtimeDir string) (path string, listens bool) {
	path = filepath.Join(runtimeDir, "podman", "podman.sock")
	if answers(ctx, path) {
		return path, true
	}
	path, err := d.unitSocket(ctx, runtimeDir)
	return path, err == nil && answers(ctx, path)
}

// hostSocket returns the socket that an environment variable names; usual is
// where it usually is, in the runtime directory.
func hostSocket(variable, host, usual string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return "", problem.EngineUnreachable.
			Withf("rk uses an engine of this machine: set %s=unix:///run/user/$UID/%s, or unset it.", variable, usual).
			Wrapf("%s=%s does not name a unix socket", variable, host)
	}
	return filepath.Clean(path), nil
}

// attach connects to the API service that listens at path; source says where
// the path is from.
func (d dialer) attach(ctx context.Context, k kind, path, source string) (engine.Engine, error) {
	if slices.Contains(k.rootful, path) {
		return nil, problem.EngineRootful.Wrapf("%s is the socket of root's %s", source, k.title)
	}
	peer, err := d.peer(ctx, path)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, syscall.ENOENT):
		return nil, problem.EngineUnreachable.Wrapf("%s: there is no such socket", source)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, problem.EngineUnreachable.Wrapf("%s: nothing listens there; the socket was left by a service that has ended", source)
	case errors.Is(err, syscall.EACCES):
		return nil, problem.EngineUnreachable.
			Withf("Use the engine of the user that runs rk, not another user's: unset %s, and do not use sudo or su.", k.variable).
			Wrapf("%s: permission denied: it belongs to another user", source)
	case err != nil:
		return nil, problem.EngineUnreachable.Wrapf("%s: %w", source, err)
	case peer == 0 && d.uid != 0:
		return nil, problem.EngineRootful.Wrapf("the service at %s belongs to root", source)
	}
	client, err := k.dial(ctx, "unix://"+path)
	if errors.Is(err, docker.ErrPodman) {
		return d.attach(ctx, podmanKind, path, source)
	}
	if err != nil {
		return nil, dialError(ctx, source, err)
	}
	if peer != 0 && !k.forwarded {
		return client, nil
	}
	return refuseRootful(ctx, client, source)
}

// refuseRootful asks the engine itself, where its owner does not tell: root's
// service seen by root is rootless if that root is one of a user namespace,
// and behind a user's socket can be root's service, as with Docker Desktop.
func refuseRootful(ctx context.Context, client engine.Engine, source string) (engine.Engine, error) {
	info, err := client.Info(ctx)
	if err == nil && info.Rootless {
		return client, nil
	}
	if err == nil {
		err = problem.EngineRootful.Wrapf("the %s at %s runs as root", info.Name, source)
	} else {
		err = dialError(ctx, source, err)
	}
	return nil, errors.Join(err, client.Close())
}

func dialError(ctx context.Context, source string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, podman.ErrTooOld), errors.Is(err, docker.ErrTooOld):
		return problem.EngineTooOld.Wrapf("%s: %w", source, err)
	default:
		return problem.EngineUnreachable.Wrapf("%s: %w", source, err)
	}
}

// runtimeDir returns the user's runtime directory, which a session of systemd
// makes: XDG_RUNTIME_DIR, or where it usually is if su or a service manager
// dropped the variable.
func (d dialer) runtimeDir() (string, error) {
	dir, source := d.env("XDG_RUNTIME_DIR"), "XDG_RUNTIME_DIR"
	if dir == "" {
		dir, source = "/run/user/"+strconv.Itoa(d.uid), "XDG_RUNTIME_DIR is not set, and its usual value"
	}
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", problem.NoUserSession.Wrapf("%s %s does not exist", source, dir)
	}
	if err != nil {
		return "", problem.NoUserSession.Wrapf("%s: %w", source, err)
	}
	if !info.IsDir() {
		return "", problem.NoUserSession.Wrapf("%s %s is not a directory", source, dir)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != d.uid {
		return "", problem.NoUserSession.Wrapf("%s %s belongs to another user (uid %d)", source, dir, owner.Uid)
	}
	return dir, nil
}

// served is a connection to a service of its own.
type served struct {
	engine.Engine
	service *service
}

// Close implements engine.Engine.
func (s served) Close() error { return errors.Join(s.Engine.Close(), s.service.stop()) }

// serve starts a private API service and connects to it.
func (d dialer) serve(ctx context.Context, runtimeDir string) (engine.Engine, error) {
	command, err := lookPath("podman", d.env("PATH"))
	if err != nil {
		return nil, problem.NoEngine.Wrapf("nothing listens at %s, and Podman is not installed: %w", filepath.Join(runtimeDir, "podman", "podman.sock"), err)
	}
	s, err := startService(ctx, command, runtimeDir)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, problem.EngineServiceFailed.Wrap(err)
	}
	client, err := d.attach(ctx, podmanKind, s.socket, s.socket)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return served{client, s}, nil
}
