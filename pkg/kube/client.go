// SPDX-License-Identifier: Apache-2.0

// Package kube is rk's side of the Kubernetes API: apply manifests, create
// nodes, wait for conditions by watch, and merge kubeconfig files under a
// lock. It is the only package that imports client-go, and it knows nothing
// of engines and containers.
//
// It must never import engine, plan, cluster, cli or ui.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// retryInterval is the pause between two attempts at something that is
	// expected to work soon: an endpoint that does not listen yet, a namespace
	// that is being created. It is short because a create waits for it, and long
	// enough not to take CPU from the API server that it waits for.
	retryInterval = 25 * time.Millisecond
	// requestTimeout ends a single attempt that hangs. Admission webhooks may
	// take up to 30 s by the API's own limit.
	requestTimeout = 35 * time.Second
)

// Client talks to one cluster.
type Client struct {
	rest *rest.RESTClient
}

// Connect returns a client for the current context of a kubeconfig. It does
// not connect: the API may come up later. There is no client-side throttling.
func Connect(kubeconfig []byte) (*Client, error) {
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme), batchv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.UserAgent = "rk"
	cfg.ContentType = runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	c, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return &Client{rest: c}, nil
}

// WaitServing returns as soon as the API server answers requests from its
// storage, which is when writes become possible. It is earlier than
// WaitReadyz: the server's post-start hooks may still be running. When ctx
// ends, the error holds the last answer.
func (c *Client) WaitServing(ctx context.Context) error {
	return c.poll(ctx, func(ctx context.Context) error {
		err := c.get(ctx, "/api/v1/namespaces/kube-system", &corev1.Namespace{})
		// A NotFound about the namespace comes from the storage; one about the
		// path comes from a server that has not installed its paths yet.
		var status *apierrors.StatusError
		if errors.As(err, &status) && apierrors.IsNotFound(err) && status.ErrStatus.Details != nil && status.ErrStatus.Details.Name == "kube-system" {
			return nil
		}
		return err
	})
}

// WaitReadyz returns as soon as the API server's /readyz says ok. When ctx
// ends, the error names the checks that failed last.
func (c *Client) WaitReadyz(ctx context.Context) error {
	return c.poll(ctx, c.readyz)
}

func (c *Client) readyz(ctx context.Context) error {
	res := c.request(http.MethodGet, "/readyz").Do(ctx)
	body, err := res.Raw()
	if err == nil {
		return nil
	}
	text := string(body)
	// Of an answer in plain text, as this one is, client-go keeps the beginning in the error alone.
	var status *apierrors.StatusError
	if errors.As(err, &status) && text == "" && status.ErrStatus.Details != nil {
		for _, cause := range status.ErrStatus.Details.Causes {
			text += cause.Message + "\n"
		}
	}
	var failed []string
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ = strings.Cut(name, " ")
			failed = append(failed, name)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("API server is not ready: %s", strings.Join(failed, ", "))
	}
	return err
}

// poll tries f until it succeeds. One attempt gets 1 s at first and twice as
// long each time that it is used up: a forwarded port may swallow the first
// ones, a slow machine may need long for a TLS handshake.
func (c *Client) poll(ctx context.Context, f func(context.Context) error) error {
	limit := time.Second
	return retry(ctx, func(error) bool { return true }, func(ctx context.Context) error {
		actx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err := f(actx)
		if err != nil && actx.Err() != nil && ctx.Err() == nil {
			limit = min(2*limit, requestTimeout)
			return fmt.Errorf("no answer: %w", err)
		}
		return err
	})
}

func (c *Client) request(verb, path string) *rest.Request {
	return c.rest.Verb(verb).AbsPath(path).MaxRetries(0)
}

func (c *Client) get(ctx context.Context, path string, into runtime.Object) error {
	return c.request(http.MethodGet, path).Do(ctx).Into(into)
}

// send sends a JSON body of some media type.
func (c *Client) send(ctx context.Context, verb, path, mediaType string, body any, params map[string]string) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := c.request(verb, path).SetHeader("Content-Type", mediaType).Body(data)
	for k, v := range params {
		req = req.Param(k, v)
	}
	return req.Do(ctx).Error()
}

// retry calls f until it succeeds, fails with an error that is not
// transient, or ctx ends. In the last case the error is what f returned last,
// and is ctx's error too.
func retry(ctx context.Context, transient func(error) bool, f func(context.Context) error) error {
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			if last == nil {
				last = err
			}
			return stopped(ctx, last)
		}
		if last = err; !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return stopped(ctx, last)
		case <-time.After(retryInterval):
		}
	}
}

// stopped is the end of waiting because ctx ended, with the last cause.
func stopped(ctx context.Context, last error) error {
	if errors.Is(last, ctx.Err()) {
		return last
	}
	return &stoppedError{ctx: ctx.Err(), last: last}
}

type stoppedError struct{ ctx, last error }

func (e *stoppedError) Error() string   { return e.last.Error() }
func (e *stoppedError) Unwrap() []error { return []error{e.last, e.ctx} }

// permanentError is an error that no repetition mends.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// isTransient reports whether an API request may succeed when it is repeated
// soon. While a cluster comes up almost everything may: the endpoint does not
// listen yet, storage is not ready (5xx), RBAC's default roles are not there
// yet (403), a namespace does not exist yet (404), an object was changed
// meanwhile (409), the service address allocator is not ready, or an attempt
// that timed out still has the Service's address, or had it when the API server
// ended (422; the server's repair of addresses without a Service frees it).
func isTransient(err error) bool {
	if errors.As(err, new(*permanentError)) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // no answer from the API: connection refused, reset, EOF, time-out of one attempt
	}
	switch code := status.Status().Code; {
	case code >= http.StatusInternalServerError:
		// Server-side apply answers a field of the wrong type with 500 (seen with Kubernetes 1.36).
		return !strings.Contains(err.Error(), "failed to create typed patch object")
	case code == http.StatusUnprocessableEntity:
		// pkg/registry/core/service/storage/alloc.go and ipallocator/interfaces.go of Kubernetes 1.36
		msg := err.Error()
		return strings.Contains(msg, "failed to allocate IP") &&
			(strings.Contains(msg, "does not match the current range") || strings.Contains(msg, "allocator not ready") ||
				strings.Contains(msg, "provided IP is already allocated"))
	default:
		return code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusNotFound ||
			code == http.StatusConflict || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
	}
}
