// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/images"
	networks "github.com/containers/podman/v5/pkg/bindings/network"
	"github.com/containers/podman/v5/pkg/bindings/system"
	"github.com/containers/podman/v5/pkg/domain/entities/types"
	nettypes "go.podman.io/common/libnetwork/types"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
)

// Info implements engine.Engine. It is the slowest of all calls (0.3 s and
// more on Debian): Podman asks the package manager about each of its helpers.
func (c *Client) Info(ctx context.Context) (engine.Info, error) {
	var report *define.Info
	err := c.do(ctx, func(ctx context.Context) (err error) {
		report, err = system.Info(ctx, nil)
		return err
	})
	if err != nil {
		return engine.Info{}, fmt.Errorf("engine info: %w", err)
	}
	return info(report, c.uri), nil
}

// CreateContainer implements engine.Containers. It is not abandoned half-way:
// once sent, the answer is waited for (up to 15 s), and a container whose
// creator was cancelled meanwhile is removed again.
func (c *Client) CreateContainer(ctx context.Context, s engine.ContainerSpec) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	spec, err := containerSpec(s)
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", s.Name, err)
	}
	longer, cancel := settling(ctx)
	defer cancel()
	var created types.ContainerCreateResponse
	create := func() error {
		err := c.do(longer, func(ctx context.Context) (err error) {
			created, err = containers.CreateWithSpec(ctx, spec, nil)
			return err
		})
		return classify(err, creating)
	}
	err = create()
	// A service that was killed while it made or removed a container of this
	// name leaves storage without a container, which nobody else can use.
	if errors.Is(err, engine.ErrConflict) && c.storageLeft(ctx, s.Name, s.Image) {
		if removeErr := c.remove(ctx, s.Name); removeErr != nil {
			err = fmt.Errorf("%w: %w", engine.ErrStorageLeft, removeErr)
		} else {
			err = create()
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", fmt.Errorf("create container %s: %w", s.Name, err)
	case ctx.Err() != nil:
		return "", errors.Join(ctx.Err(), c.RemoveContainer(longer, created.ID))
	}
	return created.ID, nil
}

// StartContainer implements engine.Containers.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	err := c.do(ctx, func(ctx context.Context) error { return containers.Start(ctx, id, nil) })
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, classify(err, starting))
	}
	return nil
}

// StopContainer implements engine.Containers.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := uint(max(0, grace+time.Second-1) / time.Second)
	err := c.do(ctx, func(ctx context.Context) error {
		return containers.Stop(ctx, id, new(containers.StopOptions).WithTimeout(seconds))
	})
	if err == nil || errors.Is(err, engine.ErrNotFound) || ctx.Err() != nil {
		return wrap(err, "stop container %s", id)
	}
	// A container that never ran cannot be stopped in Podman's view.
	if d, inspectErr := c.inspect(ctx, id); inspectErr == nil && d.State != nil && state(d.State.Status) == engine.StateCreated {
		return nil
	}
	return wrap(err, "stop container %s", id)
}

// RemoveContainer implements engine.Containers.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	c.awaitCopies(ctx, id)
	err := c.remove(ctx, id)
	if err == nil || errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	// Podman also reports what it could not tidy up, such as the DNS entries of
	// a container whose start failed, though it has removed the container.
	if _, inspectErr := c.inspect(ctx, id); !errors.Is(inspectErr, engine.ErrNotFound) {
		return wrap(err, "remove container %s", id)
	}
	if !c.storageLeft(ctx, id, "") {
		return nil
	}
	// What is left is to Podman a container of another program now, and can be removed as such.
	if err := c.remove(ctx, id); err != nil && !errors.Is(err, engine.ErrNotFound) {
		return fmt.Errorf("remove container %s: %w: %w", id, engine.ErrStorageLeft, err)
	}
	return nil
}

func (c *Client) remove(ctx context.Context, id string) error {
	options := new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithTimeout(0)
	return c.do(ctx, func(ctx context.Context) error {
		reports, err := containers.Remove(ctx, id, options)
		for _, r := range reports {
			err = errors.Join(err, r.Err)
		}
		return err
	})
}

// awaitCopies waits (up to settleTime) until nothing is copied any more to a
// container that never ran, as when the copying rk was killed a moment ago.
// Podman mounts such a container for a copy, does not take note of it when it
// removes the container, and the files that arrive meanwhile then keep it from
// removing the storage.
func (c *Client) awaitCopies(ctx context.Context, id string) {
	d, err := c.inspect(ctx, id)
	if err != nil || d.State == nil || state(d.State.Status) != engine.StateCreated {
		return // an engine that does not answer shows in the removal itself
	}
	deadline := time.After(settleTime)
	for {
		var mounted map[string]string
		err := c.do(ctx, func(ctx context.Context) (err error) {
			mounted, err = containers.GetMountedContainerPaths(ctx, nil)
			return err
		})
		if _, ok := mounted[d.ID]; !ok || err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-deadline:
			return // mounted for something else, such as "podman mount"
		case <-time.After(copyInterval):
		}
	}
}

// copyInterval is the pause between two looks at whether a copy has ended.
const copyInterval = 20 * time.Millisecond

// storageLeft says that there is storage of a container, but no such container;
// if image is not empty, only one of that image counts.
func (c *Client) storageLeft(ctx context.Context, nameOrID, image string) bool {
	var reports []types.ListContainer
	err := c.do(ctx, func(ctx context.Context) (err error) {
		reports, err = containers.List(ctx, new(containers.ListOptions).WithAll(true).WithExternal(true))
		return err
	})
	return err == nil && slices.ContainsFunc(reports, func(r types.ListContainer) bool {
		return r.State == "storage" && (r.ID == nameOrID || slices.Contains(r.Names, nameOrID)) && (image == "" || r.Image == image)
	})
}

// ListContainers implements engine.Containers. It needs one call, and one
// more for each running container in a user-defined network.
func (c *Client) ListContainers(ctx context.Context, sel map[string]string) ([]engine.Container, error) {
	var reports []types.ListContainer
	options := new(containers.ListOptions).WithAll(true).WithFilters(labelFilters(sel))
	err := c.do(ctx, func(ctx context.Context) (err error) {
		reports, err = containers.List(ctx, options)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	list := make([]engine.Container, len(reports))
	g, gctx := group.WithContext(ctx)
	g.SetLimit(idleConns / 2)
	for i, r := range reports {
		list[i] = container(r)
		network, ok := userNetwork(r)
		if !ok || list[i].State != engine.StateRunning {
			continue
		}
		g.Go(func() (err error) {
			list[i].IP, err = c.address(gctx, r.ID, network)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	slices.SortFunc(list, func(a, b engine.Container) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// address asks for a container's address; one that has gone has none.
func (c *Client) address(ctx context.Context, id, network string) (netip.Addr, error) {
	d, err := c.inspect(ctx, id)
	if errors.Is(err, engine.ErrNotFound) {
		return netip.Addr{}, nil
	}
	if err != nil {
		return netip.Addr{}, err
	}
	return address(d, network), nil
}

func (c *Client) inspect(ctx context.Context, id string) (*define.InspectContainerData, error) {
	var d *define.InspectContainerData
	err := c.do(ctx, func(ctx context.Context) (err error) {
		d, err = containers.Inspect(ctx, id, nil)
		return err
	})
	return d, err
}

// InspectContainer implements engine.Containers.
func (c *Client) InspectContainer(ctx context.Context, id string) ([]byte, error) {
	response, err := c.request(ctx, http.MethodGet, "/containers/%s/json", nil, nil, id)
	if err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", id, err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return raw, wrap(failure(ctx, err), "inspect container %s", id)
}

// ContainerLogs implements engine.Containers.
func (c *Client) ContainerLogs(ctx context.Context, id string, w io.Writer) error {
	query := url.Values{"stdout": {"true"}, "stderr": {"true"}}
	response, err := c.request(ctx, http.MethodGet, "/containers/%s/logs", query, nil, id)
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", id, err)
	}
	defer response.Body.Close()
	if err := demultiplex(response.Body, w, w); err != nil {
		return fmt.Errorf("logs of container %s: %w", id, failure(ctx, err))
	}
	return nil
}

// CopyIn implements engine.Execer.
func (c *Client) CopyIn(ctx context.Context, id, dir string, tar io.Reader) error {
	// Without copyUIDGID=false everything would belong to the container's user.
	query := url.Values{"path": {dir}, "copyUIDGID": {"false"}}
	response, err := c.request(ctx, http.MethodPut, "/containers/%s/archive", query, source{tar}, id)
	if err != nil {
		return fmt.Errorf("copy to %s:%s: %w", id, dir, err)
	}
	return response.Body.Close()
}

// CopyOut implements engine.Execer.
func (c *Client) CopyOut(ctx context.Context, id, path string) (io.ReadCloser, error) {
	response, err := c.request(ctx, http.MethodGet, "/containers/%s/archive", url.Values{"path": {path}}, nil, id)
	if err != nil {
		return nil, fmt.Errorf("copy from %s:%s: %w", id, path, err)
	}
	return response.Body, nil
}

// InspectImage implements engine.Images.
func (c *Client) InspectImage(ctx context.Context, ref string) (engine.Image, error) {
	var report *types.ImageInspectReport
	err := c.do(ctx, func(ctx context.Context) (err error) {
		report, err = images.GetImage(ctx, ref, nil)
		return err
	})
	if err != nil {
		return engine.Image{}, fmt.Errorf("image %s: %w", ref, err)
	}
	return image(report), nil
}

// ListImages implements engine.Images.
func (c *Client) ListImages(ctx context.Context) ([]string, error) {
	var reports []*types.ImageSummary
	err := c.do(ctx, func(ctx context.Context) (err error) {
		reports, err = images.List(ctx, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	refs := []string{}
	for _, r := range reports {
		refs = append(refs, r.RepoTags...)
	}
	slices.Sort(refs)
	return refs, nil
}

// LoadImage implements engine.Images.
func (c *Client) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	var report *types.ImageLoadReport
	err := c.do(ctx, func(ctx context.Context) (err error) {
		report, err = images.Load(ctx, source{archive})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	return report.Names, nil
}

// SaveImages implements engine.Images. Podman writes the archive to a file of
// its own before it sends it.
func (c *Client) SaveImages(ctx context.Context, refs []string) (io.ReadCloser, error) {
	for _, ref := range refs { // the service answers an unknown one with status 400
		if _, err := c.InspectImage(ctx, ref); err != nil {
			return nil, fmt.Errorf("save images: %w", err)
		}
	}
	// The bindings' Export writes into a writer until the end, and would need a goroutine to read from.
	query := url.Values{"format": {define.V2s2Archive}, "references": refs}
	response, err := c.request(ctx, http.MethodGet, "/images/export", query, nil)
	if err != nil {
		return nil, fmt.Errorf("save images: %w", err)
	}
	return response.Body, nil
}

// PullImage implements engine.Images.
func (c *Client) PullImage(ctx context.Context, ref string) error {
	err := c.do(ctx, func(ctx context.Context) error {
		_, err := images.Pull(ctx, ref, new(images.PullOptions).WithQuiet(true))
		return err
	})
	return wrap(err, "pull image %s", ref)
}

// RemoveImage implements engine.Images.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	response, err := c.request(ctx, http.MethodDelete, "/images/%s", nil, nil, ref)
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return response.Body.Close()
}

// CreateNetwork implements engine.Networks. Like CreateContainer, it is not
// abandoned half-way; what it made when it was cancelled stays.
func (c *Client) CreateNetwork(ctx context.Context, n engine.NetworkSpec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	longer, cancel := settling(ctx)
	defer cancel()
	err := c.do(longer, func(ctx context.Context) error {
		_, err := networks.Create(ctx, networkSpec(n))
		return err
	})
	return wrap(classify(err, networking), "create network %s", n.Name)
}

// ListNetworks implements engine.Networks.
func (c *Client) ListNetworks(ctx context.Context, sel map[string]string) ([]engine.Network, error) {
	var reports []nettypes.Network
	err := c.do(ctx, func(ctx context.Context) (err error) {
		reports, err = networks.List(ctx, new(networks.ListOptions).WithFilters(labelFilters(sel)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	list := make([]engine.Network, len(reports))
	for i, r := range reports {
		list[i] = network(r)
	}
	slices.SortFunc(list, func(a, b engine.Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// RemoveNetwork implements engine.Networks.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	err := c.do(ctx, func(ctx context.Context) error {
		_, err := networks.Remove(ctx, name, nil)
		return err
	})
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "remove network %s", name)
}

// ConnectNetwork implements engine.Networks.
func (c *Client) ConnectNetwork(ctx context.Context, network, id string, ip netip.Addr) error {
	err := c.do(ctx, func(ctx context.Context) error {
		return networks.Connect(ctx, network, id, &nettypes.PerNetworkOptions{StaticIPs: []net.IP{ip.AsSlice()}})
	})
	err = classify(err, attaching)
	if err != nil && !errors.Is(err, engine.ErrConflict) && !errors.Is(err, engine.ErrNotFound) {
		// Up to Podman 5.4, a container whose attachment fails is in the network for
		// Podman's records, and can no longer be listed. What this answers does not matter.
		longer, cancel := settling(ctx)
		defer cancel()
		_ = c.DisconnectNetwork(longer, network, id)
	}
	return wrap(err, "connect container %s to network %s", id, network)
}

// DisconnectNetwork implements engine.Networks.
func (c *Client) DisconnectNetwork(ctx context.Context, network, id string) error {
	err := c.do(ctx, func(ctx context.Context) error { return networks.Disconnect(ctx, network, id, nil) })
	if err = classify(err, detaching); errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "disconnect container %s from network %s", id, network)
}

// wrap adds what was done to an error, if there is one.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...) // the format is this file's
}
