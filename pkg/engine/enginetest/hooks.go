// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"context"
	"slices"
	"sync"
)

// Call is one operation of a Fake, as hooks and the recording see it.
type Call struct {
	N      int    // position among all calls of the Fake, from 1
	Op     string // the method's name, e.g. "CreateContainer"
	Target string // name of the container, network or image; "" if the operation has none
	Detail string // Exec: argv joined by spaces; CopyIn and CopyOut: the path; else ""
}

// Hook sees a call. An error fails the call; a hook may also panic, block, or
// cancel the context, which it can tell from ctx.
type Hook func(ctx context.Context, c Call) error

// hooks holds what tests inject into calls, and the record of them.
type hooks struct {
	mu     sync.Mutex
	before []Hook
	after  []Hook
	calls  []Call
}

// Before adds a hook that runs before each operation takes effect. If it
// returns an error or cancels the operation's context, nothing happens.
func (h *hooks) Before(hook Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = append(h.before, hook)
}

// After adds a hook that runs once an operation has succeeded. Its error
// replaces the result, while the effect stays: a reply that got lost.
func (h *hooks) After(hook Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after = append(h.after, hook)
}

// Fail makes every call of op on target fail with err before it takes effect.
// An empty op or target matches any.
func (h *hooks) Fail(op, target string, err error) {
	h.Before(func(_ context.Context, c Call) error {
		if (op == "" || op == c.Op) && (target == "" || target == c.Target) {
			return err
		}
		return nil
	})
}

// FailAt makes the n-th call (from 1) fail with err before it takes effect.
func (h *hooks) FailAt(n int, err error) {
	h.Before(func(_ context.Context, c Call) error {
		if c.N == n {
			return err
		}
		return nil
	})
}

// ClearHooks removes all hooks, Fail and FailAt included.
func (h *hooks) ClearHooks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after = nil, nil
}

// Calls returns the calls so far in the order in which they began, also those that failed.
func (h *hooks) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// do runs one operation between the hooks. A hook runs without any lock held,
// so it may use the Fake itself.
func (h *hooks) do(ctx context.Context, c Call, effect func() error) error {
	h.mu.Lock()
	c.N = len(h.calls) + 1
	h.calls = append(h.calls, c)
	before, after := slices.Clone(h.before), slices.Clone(h.after)
	h.mu.Unlock()

	if err := ctx.Err(); err != nil {
		return err
	}
	for _, hook := range before {
		if err := hook(ctx, c); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := effect(); err != nil {
		return err
	}
	for _, hook := range after {
		if err := hook(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
