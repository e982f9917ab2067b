// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// idleConns is how many connections are kept for the next calls: the engine is
// asked by as many steps at once as a cluster has nodes.
const idleConns = 16

// settleTime is how long a creation may go on once its caller has given up, so
// that what it makes can be taken back.
const settleTime = 15 * time.Second

// ErrTooOld is wrapped by Dial's error for a Podman before minVersion.
var ErrTooOld = errors.New("this version of Podman is too old")

// The oldest Podman that rk is tested with is Debian bookworm's, 4.3.
const minMajor, minMinor = 4, 3

var errScheme = errors.New("only unix sockets of this machine are supported")

// Client is a connection to one Podman API service. It is safe for concurrent use.
type Client struct {
	uri  string
	path string
	// values is the bindings' context: they keep the connection in it. It
	// never ends; each call adds its own cancellation (see bound).
	values context.Context // the bindings' connection exists only as a context
	conn   *bindings.Connection
}

var _ engine.Engine = (*Client)(nil)

// Dial connects to the API service at uri, "unix:///path/of/its.sock", and
// pings it. The error wraps engine.ErrUnreachable if nothing answers there.
func Dial(ctx context.Context, uri string) (*Client, error) {
	path, ok := strings.CutPrefix(uri, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("engine address %s: %w", uri, errScheme)
	}
	c := &Client{uri: uri, path: path}
	// The bindings try everything three times, with pauses; a look at the
	// socket first makes the usual failure immediate, and its reason exact.
	probe, err := c.dial(ctx)
	if err != nil {
		return nil, noAnswer(ctx, err)
	}
	_ = probe.Close()
	values, err := bindings.NewConnection(ctx, (&url.URL{Scheme: "unix", Path: path}).String())
	if err != nil {
		return nil, connectError(ctx, err)
	}
	if v := bindings.ServiceVersion(values); v.Major < minMajor || v.Major == minMajor && v.Minor < minMinor {
		return nil, fmt.Errorf("%w: it is %s, and %d.%d is needed", ErrTooOld, v, minMajor, minMinor)
	}
	c.values = context.WithoutCancel(values)
	if c.conn, err = bindings.GetClient(values); err != nil {
		return nil, err
	}
	c.conn.Client.CloseIdleConnections()
	c.conn.Client = &http.Client{Transport: &transport{http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConns:        idleConns,
		MaxIdleConnsPerHost: idleConns,
		DisableCompression:  true,
	}}}
	return c, nil
}

func connectError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.Contains(err.Error(), "server API version is too old"): // the bindings', for Podman 3
		return fmt.Errorf("%w: %w", ErrTooOld, err)
	default:
		return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
	}
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", c.path)
}

// Close closes the idle connections. The API service and its objects stay.
func (c *Client) Close() error {
	c.conn.Client.CloseIdleConnections()
	return nil
}

// transport sends each request once. The bindings repeat a request that could
// not be sent or was not answered twice more, with pauses of 0.6 s in all,
// also one that creates something, or whose caller has gone. So a failure is
// noted in the call and they are given an answer which says that it failed.
type transport struct{ http.Transport }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	call, ok := r.Context().Value(callKey{}).(*call)
	if err == nil || !ok {
		return response, err
	}
	call.fail(err)
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Status: "503 not sent", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(err.Error())), Request: r,
	}, nil
}

// call is one operation's failure to be sent or answered.
type call struct {
	mu  sync.Mutex
	err error
}

func (c *call) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *call) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

type callKey struct{}

// bound is the caller's context with the bindings' connection in it.
type bound struct {
	context.Context                 // it is a context
	values          context.Context // likewise
	call            *call
}

// Value implements context.Context.
func (b bound) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return b.call
	}
	if v := b.Context.Value(key); v != nil {
		return v
	}
	return b.values.Value(key)
}

// do runs one call of the bindings and translates its error.
func (c *Client) do(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	call := &call{}
	err := f(bound{ctx, c.values, call})
	if unanswered := call.failure(); unanswered != nil {
		return noAnswer(ctx, unanswered)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return answered(err)
}

// request is do for an endpoint that the bindings have no good function for.
// The caller closes the body of the response, which has status 2xx.
func (c *Client) request(ctx context.Context, method, endpoint string, query url.Values, body io.Reader, names ...string) (*bindings.APIResponse, error) {
	var response *bindings.APIResponse
	err := c.do(ctx, func(ctx context.Context) error {
		r, err := c.conn.DoRequest(ctx, body, method, endpoint, query, nil, names...)
		if err != nil {
			return err
		}
		if !r.IsSuccess() {
			defer r.Body.Close()
			if err := r.Process(nil); err != nil {
				return err
			}
			return fmt.Errorf("unexpected status %s", r.Status) // nothing can be done about it
		}
		response = r
		return nil
	})
	return response, err
}

// source marks the errors of a request's body, which is the caller's.
type source struct{ io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	return n, err
}

type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// noAnswer translates the error of a request that was not answered.
func noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if broken := new(sourceError); errors.As(err, &broken) {
		return broken.error
	}
	return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
}

// failure translates an error of copying a stream, which is the connection's
// or the caller's.
func failure(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &op), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
	default:
		return err
	}
}

// settling returns a context that ends settleTime after ctx does.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(settleTime, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() { stop(); cancel() }
}
