// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// idleConns is how many connections are kept for the next calls: the engine is
// asked by as many steps at once as a cluster has nodes.
const idleConns = 16

// settleTime is how long a creation may go on once its caller has given up, so
// that what it makes can be taken back.
const settleTime = 15 * time.Second

// minAPIVersion is that of Docker 20.10, Debian bookworm's, the oldest that rk
// is tested with.
const minAPIVersion = "1.41"

var (
	// ErrTooOld is wrapped by Dial's error for a Docker before 20.10.
	ErrTooOld = errors.New("this version of Docker is too old")
	// ErrPodman is wrapped by Dial's error for a Podman, whose API service
	// speaks Docker's API too, but not all of it.
	ErrPodman = errors.New("this is a Podman that speaks Docker's API")

	errScheme = errors.New("only unix sockets of this machine are supported")
)

// Client is a connection to one Docker daemon. It is safe for concurrent use.
type Client struct {
	version types.Version // what answered when it was dialled
	uri     string
	path    string
	api     *client.Client
}

var _ engine.Engine = (*Client)(nil)

// Dial connects to the daemon at uri, "unix:///path/of/its.sock", and agrees
// with it on an API version. The error wraps engine.ErrUnreachable if nothing
// answers there, else ErrTooOld or ErrPodman.
func Dial(ctx context.Context, uri string) (*Client, error) {
	path, ok := strings.CutPrefix(uri, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("engine address %s: %w", uri, errScheme)
	}
	c := &Client{uri: uri, path: path}
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConns:        idleConns,
		MaxIdleConnsPerHost: idleConns,
		DisableCompression:  true,
	}
	var err error
	c.api, err = client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}),
		client.WithScheme("http"), client.WithHost(uri), client.WithDialContext(transport.DialContext),
		client.WithAPIVersionNegotiation(),
	)
	if err != nil {
		return nil, err
	}
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// greet agrees on an API version and looks who it is that answers.
func (c *Client) greet(ctx context.Context) error {
	ping, err := c.api.Ping(ctx)
	if err != nil {
		return answered(ctx, err)
	}
	c.api.NegotiateAPIVersionPing(ping)
	version, err := c.api.ServerVersion(ctx)
	if err != nil {
		return answered(ctx, err)
	}
	c.version = version
	return check(version)
}

// check refuses daemons that rk does not run on.
func check(v types.Version) error {
	for _, component := range v.Components {
		if component.Name == "Podman Engine" {
			return fmt.Errorf("%w: %s", ErrPodman, v.Version)
		}
	}
	if v.APIVersion == "" || versions.LessThan(v.APIVersion, minAPIVersion) {
		return fmt.Errorf("%w: it is %s with API version %s, and 20.10 with %s is needed", ErrTooOld, v.Version, v.APIVersion, minAPIVersion)
	}
	return nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", c.path)
}

// Close closes the idle connections. The daemon and its objects stay.
func (c *Client) Close() error { return c.api.Close() }

// settling returns a context that ends settleTime after ctx does.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(settleTime, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() { stop(); cancel() }
}
