// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/group"
)

const defaultRollbackTimeout = time.Minute

// Error is the failure of one step.
type Error struct {
	Step  string // its ID
	Title string
	Err   error
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// PanicError is a panic of a step's function, as an error.
type PanicError = group.PanicError

// TimeoutError says that a step was not done within its Timeout. It is a
// context.DeadlineExceeded too.
type TimeoutError struct {
	After time.Duration
	Err   error // what the step returned
}

func (e *TimeoutError) Error() string {
	if e.Err == context.DeadlineExceeded { //nolint:errorlint // only the bare error has nothing to add
		return fmt.Sprintf("not done after %s", e.After)
	}
	return fmt.Sprintf("not done after %s: %v", e.After, e.Err)
}

// Unwrap returns the step's own error and context.DeadlineExceeded.
func (e *TimeoutError) Unwrap() []error { return []error{e.Err, context.DeadlineExceeded} }

type parallel struct {
	limit     int
	keepGoing bool // a failure does not cancel the others
	steps     []Step
}

// Parallel returns a step that runs steps at the same time, at most limit of
// them (0: all; 1: one after the other in the order given). When one fails,
// the others are cancelled and those that wait for their turn never start;
// Parallel always waits for every step that was started. Its error is the
// first failure, joined with failures of other steps that are more than the
// consequence of being cancelled.
func Parallel(id, title string, limit int, steps ...Step) Step {
	return Step{ID: id, Title: title, group: &parallel{limit: limit, steps: steps}}
}

// All is Parallel without a limit for steps that do not depend on each other:
// every step runs, whether or not others fail. Its error joins all failures.
func All(id, title string, steps ...Step) Step {
	return Step{ID: id, Title: title, group: &parallel{keepGoing: true, steps: steps}}
}

// Run runs steps in order. At the first failure, which includes a cancelled
// ctx (even if the step that runs then succeeds) and a panic, it calls o.OnFailure, then every undo that the steps
// returned, also the failed one's, in reverse order of their completion. Each
// undo gets a fresh context with a time limit, and no error of one stops the
// others. A reporter that panics fails the step that it was told of. The result joins the first cause with the errors of the undos, the
// cause first; the cause holds an *Error. rep may be nil.
func Run(ctx context.Context, rep Reporter, steps []Step, o Options) error {
	if o.RollbackTimeout <= 0 {
		o.RollbackTimeout = defaultRollbackTimeout
	}
	if rep == nil {
		rep = Tee()
	}
	r := &run{rep: &guard{rep: rep}}
	for _, s := range steps {
		if err := r.step(ctx, s, ""); err != nil {
			return r.fail(context.WithoutCancel(ctx), err, o)
		}
	}
	return nil
}

// Report reports a Progress event with this detail for the step that ctx was
// given to. Outside of Run it does nothing.
func Report(ctx context.Context, detail string) {
	if p, ok := ctx.Value(progressKey{}).(*progress); ok {
		p.event(Event{State: Progress, Detail: detail})
	}
}

// run is the state of one Run.
type run struct {
	rep *guard

	mu    sync.Mutex
	undos []undo // in order of completion
}

// guard is a reporter that survives a panic of the one behind it, which then
// gets no more events and fails the run.
type guard struct {
	rep Reporter

	mu  sync.Mutex
	err error
}

func (g *guard) Report(e Event) {
	if g.failure() != nil {
		return
	}
	err := group.Recovered(func() error { g.rep.Report(e); return nil })
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.err = err
	}
}

func (g *guard) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

type undo struct {
	progress
	do Undo
}

// progress reports the events of one step.
type progress struct {
	rep               Reporter
	id, title, parent string
	start             time.Time
}

type progressKey struct{}

func (p *progress) event(e Event) {
	e.Step, e.Title, e.Parent = p.id, p.title, p.parent
	if e.State != Started {
		e.Elapsed = time.Since(p.start)
	}
	p.rep.Report(e)
}

func (r *run) step(ctx context.Context, s Step, parent string) error {
	p := progress{rep: r.rep, id: s.ID, title: s.Title, parent: parent, start: time.Now()}
	p.event(Event{State: Started})
	err := r.work(ctx, s, p)
	if err == nil {
		err = r.rep.failure()
	}
	if err != nil {
		// A group's error is that of its steps, which name themselves, unless it is its own time-out.
		_, own := err.(*TimeoutError) //nolint:errorlint // a time-out inside belongs to another step
		if own || !errors.As(err, new(*Error)) || s.group == nil {
			err = &Error{Step: s.ID, Title: s.Title, Err: err}
		}
		p.event(Event{State: Failed, Err: err})
		return err
	}
	p.event(Event{State: Done})
	return nil
}

// work does the work of s within its time limit and registers its undo.
func (r *run) work(ctx context.Context, s Step, p progress) error {
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	sctx := context.WithValue(ctx, progressKey{}, &p)
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		sctx, cancel = context.WithTimeout(sctx, s.Timeout)
		defer cancel()
	}
	var err error
	if s.group != nil {
		err = r.parallel(sctx, s)
	} else {
		var u Undo
		err = group.Recovered(func() (err error) { u, err = s.Do(sctx); return err })
		if u != nil {
			r.mu.Lock()
			r.undos = append(r.undos, undo{progress: p, do: u})
			r.mu.Unlock()
		}
	}
	switch {
	case ctx.Err() != nil && err == nil && p.parent != "":
		return nil // done before a sibling's failure reached it; the group fails
	case ctx.Err() != nil && (err == nil || err == ctx.Err()): //nolint:errorlint // only the bare error has nothing to add
		return cancelled(ctx)
	case err != nil && ctx.Err() == nil && errors.Is(sctx.Err(), context.DeadlineExceeded):
		return &TimeoutError{After: s.Timeout, Err: err}
	}
	return err
}

func (r *run) parallel(ctx context.Context, s Step) error {
	gctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := s.group.limit
	if limit <= 0 || limit > len(s.group.steps) {
		limit = len(s.group.steps)
	}
	slots := make(chan struct{}, limit)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error // in order of time
	)
	for _, child := range s.group.steps {
		slots <- struct{}{}
		if gctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := r.step(gctx, child, s.ID); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				if !s.group.keepGoing {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if len(errs) == 0 {
		return ctx.Err()
	}
	// What follows the first failure only because it was cancelled is no news.
	kept := errs[:1]
	for _, err := range errs[1:] {
		if !errors.Is(err, context.Canceled) {
			kept = append(kept, err)
		}
	}
	if len(kept) == 1 {
		return kept[0]
	}
	return errors.Join(kept...)
}

// fail collects evidence and rolls back; ctx is not cancelled.
func (r *run) fail(ctx context.Context, cause error, o Options) error {
	if o.OnFailure != nil {
		err := bounded(ctx, o.RollbackTimeout, func(ctx context.Context) error { return o.OnFailure(ctx, cause) })
		switch {
		case err == nil:
		case errors.Is(err, cause):
			cause = err
		default:
			cause = errors.Join(cause, err)
		}
	}
	errs := []error{cause}
	for i := len(r.undos) - 1; i >= 0; i-- {
		u := r.undos[i]
		if o.Retain {
			u.event(Event{State: Kept})
			continue
		}
		u.start = time.Now()
		u.event(Event{State: Undoing})
		err := bounded(ctx, o.RollbackTimeout, u.do)
		if err != nil {
			err = fmt.Errorf("undo %s: %w", u.id, err)
			errs = append(errs, err)
		}
		u.event(Event{State: Undone, Err: err})
	}
	if len(errs) == 1 {
		return cause
	}
	return errors.Join(errs...)
}

// bounded calls f with a context of its own that ends after d.
func bounded(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return group.Recovered(func() error { return f(ctx) })
}

// cancelled is the error of a done ctx, with the reason if one was given.
func cancelled(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}
