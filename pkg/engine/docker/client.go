// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// Info implements engine.Engine.
func (c *Client) Info(ctx context.Context) (engine.Info, error) {
	if err := ctx.Err(); err != nil {
		return engine.Info{}, err
	}
	report, err := c.api.Info(ctx)
	if err != nil {
		return engine.Info{}, fmt.Errorf("engine info: %w", answered(ctx, err))
	}
	return withRootlessKit(toInfo(report, c.uri), c.version), nil
}

// CreateContainer implements engine.Containers. It is not abandoned half-way:
// once sent, the answer is waited for (up to 15 s), and a container whose
// creator was cancelled meanwhile is removed again.
func (c *Client) CreateContainer(ctx context.Context, s engine.ContainerSpec) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	// Docker looks for the network when the container starts, and not before.
	if s.Network != "" {
		if _, err := c.api.NetworkInspect(ctx, s.Network, network.InspectOptions{}); err != nil {
			return "", fmt.Errorf("create container %s: %w", s.Name, answered(ctx, err))
		}
	}
	longer, cancel := settling(ctx)
	defer cancel()
	r := createRequest(s)
	created, err := c.api.ContainerCreate(longer, r.Config, r.HostConfig, r.NetworkingConfig, nil, s.Name)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", fmt.Errorf("create container %s: %w", s.Name, classify(answered(longer, err), creating))
	case ctx.Err() != nil:
		return "", errors.Join(ctx.Err(), c.RemoveContainer(longer, created.ID))
	}
	return created.ID, nil
}

// StartContainer implements engine.Containers.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.api.ContainerStart(ctx, id, container.StartOptions{})
	return wrap(classify(answered(ctx, err), starting), "start container %s", id)
}

// StopContainer implements engine.Containers.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seconds := int(max(0, grace+time.Second-1) / time.Second)
	err := answered(ctx, c.api.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds}))
	if err == nil {
		err = c.awaitStopped(ctx, id)
	}
	return wrap(err, "stop container %s", id)
}

// awaitStopped waits until a stopped container is listed as one: the list is
// of copies that the daemon makes a little later (container/view.go).
func (c *Client) awaitStopped(ctx context.Context, id string) error {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		live, err := c.api.ContainerInspect(ctx, id)
		if err != nil {
			return answered(ctx, err)
		}
		if live.ContainerJSONBase == nil || live.State == nil || live.State.Running {
			return nil // it was started again
		}
		list, err := c.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("id", live.ID))})
		if err != nil {
			return answered(ctx, err)
		}
		if len(list) == 0 || state(list[0].State) != engine.StateRunning {
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// RemoveContainer implements engine.Containers.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := answered(ctx, c.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true}))
	if removing(err) {
		err = c.awaitRemoval(ctx, id)
	}
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "remove container %s", id)
}

// awaitRemoval waits until a container is gone that somebody else removes.
func (c *Client) awaitRemoval(ctx context.Context, id string) error {
	done, failed := c.api.ContainerWait(ctx, id, container.WaitConditionRemoved)
	select {
	case <-done:
		return nil
	case err := <-failed:
		return answered(ctx, err)
	}
}

// ListContainers implements engine.Containers. It needs one call, and one
// more for each container that does not run.
func (c *Client) ListContainers(ctx context.Context, sel map[string]string) ([]engine.Container, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reports, err := c.api.ContainerList(ctx, container.ListOptions{All: true, Filters: labelFilters(sel)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", answered(ctx, err))
	}
	list := make([]engine.Container, len(reports))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(idleConns / 2)
	for i, r := range reports {
		list[i] = toContainer(r)
		if list[i].State == engine.StateRunning {
			continue
		}
		group.Go(func() error {
			details, err := c.api.ContainerInspect(groupCtx, r.ID)
			if err := answered(groupCtx, err); err != nil {
				if errors.Is(err, engine.ErrNotFound) {
					return nil // removed meanwhile
				}
				return err
			}
			complete(&list[i], details)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	slices.SortFunc(list, func(a, b engine.Container) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// InspectContainer implements engine.Containers.
func (c *Client) InspectContainer(ctx context.Context, id string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, raw, err := c.api.ContainerInspectWithRaw(ctx, id, false)
	if err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", id, answered(ctx, err))
	}
	return raw, nil
}

// ContainerLogs implements engine.Containers.
func (c *Client) ContainerLogs(ctx context.Context, id string, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stream, err := c.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", id, answered(ctx, err))
	}
	defer stream.Close()
	return wrap(failure(ctx, demultiplex(stream, w, w)), "logs of container %s", id)
}

// CopyIn implements engine.Execer.
func (c *Client) CopyIn(ctx context.Context, id, dir string, tar io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.api.CopyToContainer(ctx, id, dir, source{tar}, container.CopyToContainerOptions{})
	return wrap(answered(ctx, err), "copy to %s:%s", id, dir)
}

// CopyOut implements engine.Execer.
func (c *Client) CopyOut(ctx context.Context, id, path string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stream, _, err := c.api.CopyFromContainer(ctx, id, path)
	if err != nil {
		return nil, fmt.Errorf("copy from %s:%s: %w", id, path, answered(ctx, err))
	}
	return stream, nil
}

// CreateNetwork implements engine.Networks. Like CreateContainer, it is not
// abandoned half-way; what it made when it was cancelled stays.
func (c *Client) CreateNetwork(ctx context.Context, n engine.NetworkSpec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	longer, cancel := settling(ctx)
	defer cancel()
	_, err := c.api.NetworkCreate(longer, n.Name, networkOptions(n))
	return wrap(classify(answered(longer, err), networking), "create network %s", n.Name)
}

// ListNetworks implements engine.Networks.
func (c *Client) ListNetworks(ctx context.Context, sel map[string]string) ([]engine.Network, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reports, err := c.api.NetworkList(ctx, network.ListOptions{Filters: labelFilters(sel)})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", answered(ctx, err))
	}
	list := make([]engine.Network, len(reports))
	for i, r := range reports {
		list[i] = toNetwork(r)
	}
	slices.SortFunc(list, func(a, b engine.Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// ConnectNetwork implements engine.Networks.
func (c *Client) ConnectNetwork(ctx context.Context, name, id string, ip netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	endpoint := &network.EndpointSettings{}
	setAddresses(endpoint, ip)
	err := classify(answered(ctx, c.api.NetworkConnect(ctx, name, id, endpoint)), attaching)
	return wrap(err, "connect container %s to network %s", id, name)
}

// DisconnectNetwork implements engine.Networks.
func (c *Client) DisconnectNetwork(ctx context.Context, name, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := classify(answered(ctx, c.api.NetworkDisconnect(ctx, name, id, false)), detaching)
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "disconnect container %s from network %s", id, name)
}

// RemoveNetwork implements engine.Networks.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := answered(ctx, c.api.NetworkRemove(ctx, name))
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "remove network %s", name)
}
