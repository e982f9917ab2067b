// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// defaultContext is the docker context that stands for the command's own
// default, root's socket.
const defaultContext = "default"

var errNoDocker = errors.New("no rootless Docker was found")

// docker connects to the daemon that the docker command would use: the one of
// DOCKER_HOST, else that of the docker context, else the user's own at
// $XDG_RUNTIME_DIR/docker.sock, where dockerd-rootless.sh lets it listen.
func (d dialer) docker(ctx context.Context) (engine.Engine, error) {
	endpoint, err := d.dockerEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	path, err := hostSocket(endpoint.variable, endpoint.host, "docker.sock")
	if err != nil {
		return nil, err
	}
	return d.attach(ctx, dockerKind, path, endpoint.source)
}

// endpoint is where a Docker daemon listens.
type endpoint struct {
	host     string // "unix:///…", or what rk does not support
	source   string // where it is from, for messages
	variable string // what to set instead
}

func (d dialer) dockerEndpoint(ctx context.Context) (endpoint, error) {
	if host := d.env("DOCKER_HOST"); host != "" {
		return endpoint{host, "DOCKER_HOST=" + host, "DOCKER_HOST"}, nil
	}
	name, source, err := d.dockerContext()
	if err != nil {
		return endpoint{}, err
	}
	if name != defaultContext {
		host, err := d.contextHost(name)
		if err != nil {
			return endpoint{}, problem.EngineUnreachable.
				With("Choose a docker context that exists with 'docker context use NAME', or set DOCKER_HOST.").
				Wrapf("the docker context %q of %s: %w", name, source, err)
		}
		return endpoint{host, fmt.Sprintf("docker context %q (%s)", name, host), "DOCKER_HOST"}, nil
	}
	runtimeDir, err := d.runtimeDir()
	if err != nil {
		return endpoint{}, err
	}
	path := filepath.Join(runtimeDir, "docker.sock")
	if _, err := os.Lstat(path); err != nil {
		return endpoint{}, noDocker(ctx, path)
	}
	return endpoint{"unix://" + path, path, "DOCKER_HOST"}, nil
}

// noDocker is the error of a user who has no Docker; root's may be there.
func noDocker(ctx context.Context, path string) error {
	for _, rootful := range dockerKind.rootful {
		if _, err := os.Lstat(rootful); err == nil && ctx.Err() == nil {
			return problem.NoEngine.
				With("Install a rootless Docker of this user's beside root's: 'dockerd-rootless-setuptool.sh install'. Or use Podman: --engine podman.").
				Wrapf("%w: there is no %s, and %s is root's Docker", errNoDocker, path, rootful)
		}
	}
	return problem.NoEngine.
		With("Start it with 'systemctl --user enable --now docker'; 'dockerd-rootless-setuptool.sh install' makes that unit. Or set DOCKER_HOST.").
		Wrapf("%w: there is no %s", errNoDocker, path)
}

// dockerContext returns the name of the current docker context, and what says so.
func (d dialer) dockerContext() (name, source string, err error) {
	if name := d.env("DOCKER_CONTEXT"); name != "" {
		return name, "DOCKER_CONTEXT", nil
	}
	file := filepath.Join(d.dockerConfig(), "config.json")
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	switch err := readJSON(file, &config); {
	case errors.Is(err, fs.ErrNotExist), err == nil && config.CurrentContext == "":
		return defaultContext, file, nil
	case err != nil:
		return "", "", problem.EngineUnreachable.
			With("Repair the docker command's configuration file, or set DOCKER_HOST=unix:///run/user/$UID/docker.sock.").Wrap(err)
	}
	return config.CurrentContext, file, nil
}

// contextHost returns where a docker context's daemon listens. The file's name
// is a digest of the context's (github.com/docker/cli, cli/context/store).
func (d dialer) contextHost(name string) (string, error) {
	digest := sha256.Sum256([]byte(name))
	file := filepath.Join(d.dockerConfig(), "contexts", "meta", hex.EncodeToString(digest[:]), "meta.json")
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	switch err := readJSON(file, &meta); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no such context: %w", err)
	case err != nil:
		return "", err
	}
	host := meta.Endpoints["docker"].Host
	if host == "" {
		return "", fmt.Errorf("%s: it has no Docker endpoint", file)
	}
	return host, nil
}

// dockerConfig is the docker command's configuration folder.
func (d dialer) dockerConfig() string {
	if dir := d.env("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(d.env("HOME"), ".docker")
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
