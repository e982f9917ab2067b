// SPDX-License-Identifier: Apache-2.0

// Package group runs functions at the same time, as errgroup does, but turns a
// panic of one into an error: a panic in a goroutine that nobody recovers ends
// the process, and with it the chance to clean up.
//
// It must never import any package of this module.
package group

import (
	"context"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// PanicError is a panic as an error.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked; not part of the message
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recovered calls f and returns its error; a panic of f is a *PanicError.
func Recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Group is errgroup.Group with Recovered functions. The zero value is ready
// and cancels nothing.
type Group struct {
	zero errgroup.Group  // of a Group that WithContext did not make
	made *errgroup.Group // by WithContext
}

// WithContext returns a group and a context that ends when the first of its
// functions fails, or when Wait returns.
func WithContext(ctx context.Context) (*Group, context.Context) {
	g, gctx := errgroup.WithContext(ctx)
	return &Group{made: g}, gctx
}

func (g *Group) group() *errgroup.Group {
	if g.made != nil {
		return g.made
	}
	return &g.zero
}

// SetLimit makes Go wait while n functions run; it is called before Go.
func (g *Group) SetLimit(n int) { g.group().SetLimit(n) }

// Go starts f.
func (g *Group) Go(f func() error) {
	g.group().Go(func() error { return Recovered(f) })
}

// Wait waits for all functions and returns the first error.
func (g *Group) Wait() error { return g.group().Wait() }
