// SPDX-License-Identifier: Apache-2.0

// Package step runs steps that return their own undo: in order or in
// parallel, with progress events, time-outs, cancellation and roll-back. It
// knows nothing of clusters, engines or terminals.
//
// It must never import os, net or any package of this module but group.
package step

import (
	"context"
	"time"
)

// Undo reverts what a step did. It runs with a fresh, bounded context.
type Undo func(ctx context.Context) error

// Step is one unit of work, or a group made by Parallel.
type Step struct {
	ID      string        // stable, e.g. "node/demo-worker"
	Title   string        // what a user reads, e.g. "Starting nodes"
	Timeout time.Duration // 0: none of its own
	// Do does the work. Its Undo may be non-nil together with an error, so
	// that partial work is undone too. It returns promptly once ctx is done.
	Do func(ctx context.Context) (Undo, error)

	group *parallel // of Parallel or All; Do is nil then
}

// State is where a step stands.
type State string

// The states of a step, in the order in which they can come.
const (
	Started  State = "started"
	Progress State = "progress" // Event.Detail says what is happening
	Done     State = "done"
	Failed   State = "failed"
	Undoing  State = "undoing"
	Undone   State = "undone" // Event.Err is set if the undo did not succeed
	Kept     State = "kept"   // Retain: the undo was not run
)

// Event is one piece of progress.
type Event struct {
	Step    string        `json:"step"`
	Title   string        `json:"title,omitempty"`
	Parent  string        `json:"parent,omitempty"` // ID of the enclosing Parallel step
	State   State         `json:"state"`
	Detail  string        `json:"detail,omitempty"`
	Err     error         `json:"-"`
	Elapsed time.Duration `json:"elapsed,omitempty"` // since the step started
}

// Reporter receives events. Implementations are safe for concurrent use and return quickly.
type Reporter interface{ Report(Event) }

// Options rule a run.
type Options struct {
	Retain          bool          // on failure, keep what was made
	RollbackTimeout time.Duration // for each undo; 0: one minute
	// OnFailure runs after a failure and before any undo, with a fresh
	// bounded context, to collect evidence while it exists. It may return an
	// error that enriches the first cause by wrapping it; nil leaves it as it
	// is. An error that does not wrap the cause is put after it.
	OnFailure func(ctx context.Context, cause error) error
}
