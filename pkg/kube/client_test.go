// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectRefusesBadKubeconfig(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "nonsense", "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"} {
		if c, err := Connect([]byte(in)); err == nil {
			t.Errorf("%q: got %v", in, c)
		}
	}
}

// The client is made, and asked, before anything listens.
func TestWaitServingFromBeforeTheAPIListens(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(api.kubeconfig("https://" + addr))
	if err != nil {
		t.Fatal(err)
	}
	refused := c.get(t.Context(), "/readyz", nil)
	if refused == nil || !strings.Contains(refused.Error(), "connection refused") {
		t.Fatalf("got %v", refused)
	}
	done := make(chan error, 1)
	go func() { done <- c.WaitServing(t.Context()) }()

	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	go func() { // a port forwarder: first it closes what it accepts, then it forwards
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n < 3 {
				_ = conn.Close()
				continue
			}
			go forward(conn, api.Listener.Addr().String())
		}
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = l.Close()
}

func forward(a net.Conn, addr string) {
	b, err := net.Dial("tcp", addr)
	if err != nil {
		_ = a.Close()
		return
	}
	go func() { _, _ = copyAndClose(b, a) }()
	_, _ = copyAndClose(a, b)
}

func TestWaitServingNeedsAnAnswerFromStorage(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	answers := []struct {
		code int
		body string
	}{
		{503, statusBody(503, "ServiceUnavailable", "the request has been made before all known HTTP paths have been installed, please try again")},
		{403, statusBody(403, "Forbidden", "not yet")},
		{404, "404 page not found"},
		{500, statusBody(500, "InternalError", "etcdserver: not ready")},
	}
	var n atomic.Int32
	api.setFault(func(*http.Request) (int, string) {
		if i := int(n.Add(1)) - 1; i < len(answers) {
			return answers[i].code, answers[i].body
		}
		return 0, ""
	})
	if err := api.client().WaitServing(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := int(n.Load()); got != len(answers)+1 {
		t.Errorf("took %d requests, want %d", got, len(answers)+1)
	}
}

func TestWaitReadyzNamesTheFailedChecks(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int32
	api.setFault(func(r *http.Request) (int, string) {
		if n.Add(1) == 3 {
			cancel()
		}
		return 500, "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed"
	})
	err := api.client().WaitReadyz(ctx)
	if err == nil || err.Error() != "API server is not ready: etcd, poststarthook/rbac/bootstrap-roles" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	api.setFault(func(r *http.Request) (int, string) { return 200, "ok" })
	if err := api.client().WaitReadyz(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRetryKeepsTheLastCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errCause := errors.New("connection refused")
		tries := 0
		err := retry(ctx, func(error) bool { return true }, func(ctx context.Context) error {
			if tries++; time.Second/retryInterval > time.Duration(tries) {
				return errCause
			}
			<-ctx.Done() // the last attempt is cut off, and has nothing to say
			return ctx.Err()
		})
		if !errors.Is(err, errCause) || !errors.Is(err, context.DeadlineExceeded) || err.Error() != errCause.Error() {
			t.Errorf("got %v", err)
		}
	})
}

func TestNoClientSideThrottling(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	if l := api.client().rest.GetRateLimiter(); l != nil && l.QPS() >= 0 {
		t.Errorf("client is limited to %v requests per second", l.QPS())
	}
}

func copyAndClose(dst, src net.Conn) (int64, error) {
	defer func() { _ = dst.Close() }()
	return io.Copy(dst, src)
}
