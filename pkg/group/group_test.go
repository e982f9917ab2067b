// SPDX-License-Identifier: Apache-2.0

package group_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/group"
)

var errBoom = errors.New("boom")

func TestRecovered(t *testing.T) {
	t.Parallel()
	if err := group.Recovered(func() error { return errBoom }); !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	err := group.Recovered(func() error { panic(errBoom) })
	var p *group.PanicError
	if !errors.As(err, &p) || !errors.Is(err, errBoom) || err.Error() != "panic: boom" {
		t.Errorf("got %v", err)
	}
	if p != nil && !strings.Contains(string(p.Stack), "TestRecovered") {
		t.Errorf("the stack does not show where it panicked:\n%s", p.Stack)
	}
	if err := group.Recovered(func() error { panic("a string") }); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("got %v", err)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	var zero group.Group
	zero.Go(func() error { panic(errBoom) })
	zero.Go(func() error { return nil })
	if err := zero.Wait(); !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	g, ctx := group.WithContext(t.Context())
	g.SetLimit(2)
	g.Go(func() error { <-ctx.Done(); return ctx.Err() })
	g.Go(func() error { panic(errBoom) })
	if err := g.Wait(); !errors.Is(err, errBoom) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the first error", err)
	}
}
