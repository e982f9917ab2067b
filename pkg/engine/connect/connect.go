// SPDX-License-Identifier: Apache-2.0

// Package connect finds the user's rootless engine and dials it: the socket
// that CONTAINER_HOST names, else the user's podman.socket, else an API
// service of its own, which ends with the connection. A rootful engine is
// refused. Every error is a Problem with the fix.
//
// It must never import anything above the engine port. It is the one package
// that may run the engine's command, and it does so in service.go only.
package connect

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/podman"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Options rule Dial.
type Options struct {
	// Engine is "auto" (or empty) or "podman".
	Engine string
	// Env looks up environment variables: CONTAINER_HOST, XDG_RUNTIME_DIR and
	// PATH. Default: os.Getenv.
	Env func(string) string
}

// rootfulSockets are where root's Podman listens.
var rootfulSockets = []string{"/run/podman/podman.sock", "/var/run/podman/podman.sock"}

// Dial connects to the user's engine. The caller closes it. Its errors are
// problem.NoUserSession, NoEngine, EngineUnreachable, EngineRootful,
// EngineTooOld, EngineServiceFailed and InvalidUsage.
func Dial(ctx context.Context, o Options) (engine.Engine, error) {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	switch o.Engine {
	case "", "auto", "podman":
		return dialer{env: o.Env, uid: os.Getuid(), peer: peerUID}.podman(ctx)
	default:
		return nil, problem.InvalidUsage.With("Use --engine=podman, or leave the flag out.").Wrapf("engine %q is not supported", o.Engine)
	}
}

// dialer is what Dial knows of its own process.
type dialer struct {
	env  func(string) string
	uid  int
	peer func(ctx context.Context, socket string) (uid int, err error) // who listens there
}

func (d dialer) podman(ctx context.Context) (engine.Engine, error) {
	if host := d.env("CONTAINER_HOST"); host != "" {
		path, err := hostSocket(host)
		if err != nil {
			return nil, err
		}
		return d.attach(ctx, path, "CONTAINER_HOST="+host)
	}
	if d.uid == 0 {
		return nil, problem.EngineRootful.Wrapf("rk runs as root, whose Podman is rootful")
	}
	runtimeDir, err := d.runtimeDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(runtimeDir, "podman", "podman.sock")
	if !answers(ctx, path) {
		if path, err = d.unitSocket(ctx, runtimeDir); err != nil || !answers(ctx, path) {
			return d.serve(ctx, runtimeDir)
		}
	}
	return d.attach(ctx, path, path)
}

// hostSocket returns the socket that CONTAINER_HOST names.
func hostSocket(host string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return "", problem.EngineUnreachable.
			With("rk uses an engine of this machine: set CONTAINER_HOST=unix:///run/user/$UID/podman/podman.sock, or unset it.").
			Wrapf("CONTAINER_HOST=%s does not name a unix socket", host)
	}
	return filepath.Clean(path), nil
}

// attach connects to the API service that listens at path; source says where
// the path is from.
func (d dialer) attach(ctx context.Context, path, source string) (engine.Engine, error) {
	for _, rootful := range rootfulSockets {
		if path == rootful {
			return nil, problem.EngineRootful.Wrapf("%s is the socket of root's Podman", source)
		}
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
			With("Use the engine of the user that runs rk, not another user's: unset CONTAINER_HOST, and do not use sudo or su.").
			Wrapf("%s: permission denied: it belongs to another user", source)
	case err != nil:
		return nil, problem.EngineUnreachable.Wrapf("%s: %w", source, err)
	case peer == 0 && d.uid != 0:
		return nil, problem.EngineRootful.Wrapf("the service at %s belongs to root", source)
	}
	client, err := podman.Dial(ctx, "unix://"+path)
	if err != nil {
		return nil, dialError(ctx, source, err)
	}
	if peer != 0 {
		return client, nil
	}
	return refuseRootful(ctx, client, source)
}

// refuseRootful asks the engine itself, where its owner does not tell: root's
// service seen by root is rootless if that root is one of a user namespace.
func refuseRootful(ctx context.Context, client engine.Engine, source string) (engine.Engine, error) {
	info, err := client.Info(ctx)
	if err == nil && info.Rootless {
		return client, nil
	}
	if err == nil {
		err = problem.EngineRootful.Wrapf("the service at %s belongs to root", source)
	} else {
		err = dialError(ctx, source, err)
	}
	return nil, errors.Join(err, client.Close())
}

func dialError(ctx context.Context, source string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, podman.ErrTooOld):
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
	client, err := d.attach(ctx, s.socket, s.socket)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return served{client, s}, nil
}
