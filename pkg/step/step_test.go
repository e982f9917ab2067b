// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errBoom = errors.New("boom")

// journal notes what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

// step does nothing but note itself, its undo likewise.
func (j *journal) step(id string, err error) Step {
	return Step{ID: id, Title: "Step " + id, Do: func(context.Context) (Undo, error) {
		j.add("do " + id)
		return func(context.Context) error { j.add("undo " + id); return nil }, err
	}}
}

func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, j.lines); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

// states renders the events as "step state", in order.
func states(events []Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.Step+" "+string(e.State))
	}
	return out
}

func TestSuccessRunsInOrderAndUndoesNothing(t *testing.T) {
	t.Parallel()
	var j journal
	var rec Recorder
	if err := Run(t.Context(), &rec, []Step{j.step("a", nil), j.step("b", nil)}, Options{}); err != nil {
		t.Fatal(err)
	}
	j.want(t, "do a", "do b")
	want := []string{"a started", "a done", "b started", "b done"}
	if diff := cmp.Diff(want, states(rec.Events())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestFailureUndoesInReverseIncludingTheFailedStep(t *testing.T) {
	t.Parallel()
	var j journal
	var rec Recorder
	err := Run(t.Context(), &rec, []Step{j.step("a", nil), j.step("b", nil), j.step("c", errBoom), j.step("d", nil)}, Options{})
	if !errors.Is(err, errBoom) || err.Error() != "c: boom" {
		t.Errorf("got %v", err)
	}
	var se *Error
	if !errors.As(err, &se) || se.Step != "c" || se.Title != "Step c" {
		t.Errorf("the error does not name its step: %+v", se)
	}
	j.want(t, "do a", "do b", "do c", "undo c", "undo b", "undo a")
	want := []string{
		"a started", "a done", "b started", "b done", "c started", "c failed",
		"c undoing", "c undone", "b undoing", "b undone", "a undoing", "a undone",
	}
	if diff := cmp.Diff(want, states(rec.Events())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestUndoErrorsDoNotStopOthersAndComeAfterTheCause(t *testing.T) {
	t.Parallel()
	var j journal
	errUndo, undoPanic := errors.New("cannot undo"), "undo went wrong"
	bad := Step{ID: "bad", Do: func(context.Context) (Undo, error) {
		return func(context.Context) error { return errUndo }, nil
	}}
	worse := Step{ID: "worse", Do: func(context.Context) (Undo, error) {
		return func(context.Context) error { panic(undoPanic) }, nil
	}}
	var rec Recorder
	err := Run(t.Context(), &rec, []Step{j.step("a", nil), bad, worse, j.step("c", errBoom)}, Options{})
	j.want(t, "do a", "do c", "undo c", "undo a")
	if !errors.Is(err, errBoom) || !errors.Is(err, errUndo) || !errors.As(err, new(*PanicError)) {
		t.Errorf("an error is lost: %v", err)
	}
	want := "c: boom\nundo worse: panic: undo went wrong\nundo bad: cannot undo"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	for _, e := range rec.Events() {
		if e.State == Undone && (e.Err != nil) != (e.Step == "bad" || e.Step == "worse") {
			t.Errorf("undone event of %s has error %v", e.Step, e.Err)
		}
	}
}

type ctxKey struct{}

func TestUndoGetsFreshBoundedContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "value"))
		slow := Step{ID: "slow", Do: func(context.Context) (Undo, error) {
			return func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil
		}}
		var undone bool
		after := Step{ID: "after", Do: func(ctx context.Context) (Undo, error) {
			return func(ctx context.Context) error {
				undone = true
				if ctx.Err() != nil {
					t.Errorf("context of the undo is already done: %v", ctx.Err())
				}
				if d, ok := ctx.Deadline(); !ok || time.Until(d) != 7*time.Second {
					t.Errorf("deadline of the undo: %v, %v", time.Until(d), ok)
				}
				if ctx.Value(ctxKey{}) != "value" {
					t.Error("values of the context are lost")
				}
				return nil
			}, nil
		}}
		stop := Step{ID: "stop", Do: func(ctx context.Context) (Undo, error) { cancel(); return nil, ctx.Err() }}

		err := Run(ctx, nil, []Step{after, slow, stop}, Options{RollbackTimeout: 7 * time.Second})
		if !undone || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "undo slow: context deadline exceeded") {
			t.Errorf("undone %v, got %v", undone, err)
		}
	})
}

func TestPanicBecomesAnErrorAndRollsBack(t *testing.T) {
	t.Parallel()
	var j journal
	bad := Step{ID: "bad", Do: func(context.Context) (Undo, error) { panic("oh no") }}
	err := Run(t.Context(), nil, []Step{j.step("a", nil), bad}, Options{})
	j.want(t, "do a", "undo a")
	var pe *PanicError
	if !errors.As(err, &pe) || pe.Value != "oh no" || !strings.Contains(string(pe.Stack), "step_test.go") {
		t.Errorf("got %#v", pe)
	}
	if err.Error() != "bad: panic: oh no" {
		t.Errorf("got %q", err)
	}
}

func TestCancelledContextIsFailureOfTheCurrentStep(t *testing.T) {
	t.Parallel()
	errSignal := errors.New("received SIGINT")
	for _, when := range []string{"before", "during"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var j journal
			first := j.step("first", nil)
			do := first.Do
			first.Do = func(ctx context.Context) (Undo, error) { cancel(errSignal); return do(ctx) }
			want := []string{"do first", "undo first"}
			if when == "before" {
				cancel(errSignal)
				want = nil
			}
			var rec Recorder
			err := Run(ctx, &rec, []Step{first, j.step("second", nil)}, Options{})
			j.want(t, want...)
			if !errors.Is(err, context.Canceled) || !errors.Is(err, errSignal) || err.Error() != "first: context canceled: received SIGINT" {
				t.Errorf("got %v", err)
			}
			if got := states(rec.Events())[:2]; !slices.Equal(got, []string{"first started", "first failed"}) {
				t.Errorf("events: %v", got)
			}
		})
	}
}

func TestTimeoutNamesStepAndDuration(t *testing.T) {
	t.Parallel()
	errLast := errors.New("last answer: 503")
	wait := func(extra error) func(context.Context) (Undo, error) {
		return func(ctx context.Context) (Undo, error) {
			<-ctx.Done()
			if extra != nil {
				return nil, extra
			}
			return nil, ctx.Err()
		}
	}
	timedGroup := Parallel("group", "", 0, Step{ID: "child", Do: wait(errLast)})
	timedGroup.Timeout = time.Minute
	for _, tc := range []struct {
		name string
		step Step
		want string
	}{
		{"bare", Step{ID: "api", Timeout: time.Minute, Do: wait(nil)}, "api: not done after 1m0s"},
		{"with cause", Step{ID: "api", Timeout: time.Minute, Do: wait(errLast)}, "api: not done after 1m0s: last answer: 503"},
		{"group", timedGroup, "group: not done after 1m0s: child: last answer: 503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := Run(t.Context(), nil, []Step{tc.step}, Options{})
				if err == nil || err.Error() != tc.want || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want %s", err, tc.want)
				}
			})
		})
	}
}

func TestSuccessAtTheDeadlineIsSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := Step{ID: "a", Timeout: time.Second, Do: func(ctx context.Context) (Undo, error) { <-ctx.Done(); return nil, nil }}
		if err := Run(t.Context(), nil, []Step{s}, Options{}); err != nil {
			t.Error(err)
		}
	})
}

func TestParallelCancelsSiblingsAndWaitsForAll(t *testing.T) {
	t.Parallel()
	var j journal
	var running atomic.Int32
	var started sync.WaitGroup
	started.Add(2)
	sibling := func(id string) Step {
		return Step{ID: id, Do: func(ctx context.Context) (Undo, error) {
			running.Add(1)
			started.Done()
			defer running.Add(-1)
			<-ctx.Done()
			return func(context.Context) error {
				if n := running.Load(); n != 0 {
					t.Errorf("%d steps still run during the roll-back", n)
				}
				j.add("undo " + id)
				return nil
			}, ctx.Err()
		}}
	}
	bad := Step{ID: "bad", Do: func(context.Context) (Undo, error) { started.Wait(); return nil, errBoom }}
	err := Run(t.Context(), nil, []Step{Parallel("group", "Group", 0, sibling("x"), sibling("y"), bad)}, Options{})
	if err == nil || err.Error() != "bad: boom" {
		t.Errorf("got %v", err)
	}
	slices.Sort(j.lines)
	j.want(t, "undo x", "undo y")
}

func TestParallelKeepsEveryRealError(t *testing.T) {
	t.Parallel()
	errOther := errors.New("other")
	var started sync.WaitGroup
	started.Add(2)
	a := Step{ID: "a", Do: func(context.Context) (Undo, error) { started.Wait(); return nil, errBoom }}
	b := Step{ID: "b", Do: func(ctx context.Context) (Undo, error) { started.Done(); <-ctx.Done(); return nil, errOther }}
	c := Step{ID: "c", Do: func(ctx context.Context) (Undo, error) {
		started.Done()
		<-ctx.Done()
		return nil, fmt.Errorf("wait: %w", ctx.Err())
	}}
	err := Run(t.Context(), nil, []Step{Parallel("g", "", 0, b, c, a)}, Options{})
	if err == nil || err.Error() != "a: boom\nb: other" {
		t.Errorf("got %v", err)
	}
}

func TestAllRunsEveryStepAndTellsEveryError(t *testing.T) {
	t.Parallel()
	errOther := errors.New("other")
	failed := make(chan struct{})
	a := Step{ID: "a", Do: func(context.Context) (Undo, error) { defer close(failed); return nil, errBoom }}
	b := Step{ID: "b", Do: func(ctx context.Context) (Undo, error) { <-failed; return nil, errors.Join(errOther, ctx.Err()) }}
	var done atomic.Bool
	c := Step{ID: "c", Do: func(ctx context.Context) (Undo, error) { <-failed; done.Store(true); return nil, ctx.Err() }}
	err := Run(t.Context(), nil, []Step{All("g", "", a, b, c)}, Options{})
	if !errors.Is(err, errBoom) || !errors.Is(err, errOther) || errors.Is(err, context.Canceled) || !done.Load() {
		t.Errorf("got %v, the step after the failure done: %v", err, done.Load())
	}
}

// panicAt is a reporter that panics at one event.
type panicAt struct {
	step  string
	state State
}

func (p panicAt) Report(e Event) {
	if e.Step == p.step && e.State == p.state {
		panic(errBoom)
	}
}

func TestPanicOfTheReporterRollsBack(t *testing.T) {
	t.Parallel()
	for _, state := range []State{Started, Progress, Done} {
		var j journal
		b := Step{ID: "b", Do: func(ctx context.Context) (Undo, error) {
			Report(ctx, "half-way")
			return func(context.Context) error { j.add("undo b"); return nil }, nil
		}}
		err := Run(t.Context(), panicAt{"b", state}, []Step{j.step("a", nil), b, j.step("c", nil)}, Options{})
		var p *PanicError
		if !errors.As(err, &p) {
			t.Errorf("%s: got %v", state, err)
		}
		if !slices.Contains(j.lines, "undo a") || !slices.Contains(j.lines, "undo b") {
			t.Errorf("%s: %v", state, j.lines)
		}
	}
}

func TestParallelLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most int
		var mu sync.Mutex
		var steps []Step
		for i := range 9 {
			steps = append(steps, Step{ID: fmt.Sprint(i), Do: func(context.Context) (Undo, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil, nil
			}})
		}
		start := time.Now()
		if err := Run(t.Context(), nil, []Step{Parallel("g", "", 3, steps...)}, Options{}); err != nil {
			t.Fatal(err)
		}
		if most != 3 || time.Since(start) != 3*time.Second {
			t.Errorf("%d at once, took %v", most, time.Since(start))
		}
	})
}

func TestParallelLimitOneIsASequence(t *testing.T) {
	t.Parallel()
	var j journal
	err := Run(t.Context(), nil, []Step{Parallel("g", "", 1, j.step("a", nil), j.step("b", errBoom), j.step("c", nil))}, Options{})
	if !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	j.want(t, "do a", "do b", "undo b", "undo a")
}

func TestNestedEventsCarryTheirParent(t *testing.T) {
	t.Parallel()
	var j journal
	var rec Recorder
	inner := Parallel("inner", "Inner", 1, j.step("x", nil), j.step("y", errBoom))
	err := Run(t.Context(), &rec, []Step{Parallel("outer", "Outer", 1, j.step("w", nil), inner)}, Options{})
	if !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	parents := map[string]string{"outer": "", "w": "outer", "inner": "outer", "x": "inner", "y": "inner"}
	seen := map[string]bool{}
	for _, e := range rec.Events() {
		seen[e.Step] = true
		if e.Parent != parents[e.Step] {
			t.Errorf("%s %s has parent %q, want %q", e.Step, e.State, e.Parent, parents[e.Step])
		}
	}
	if len(seen) != len(parents) {
		t.Errorf("events of %v", seen)
	}
	j.want(t, "do w", "do x", "do y", "undo y", "undo x", "undo w")
}

func TestRetainKeepsEverythingAndSaysSo(t *testing.T) {
	t.Parallel()
	var j journal
	var rec Recorder
	noUndo := Step{ID: "none", Do: func(context.Context) (Undo, error) { return nil, nil }}
	err := Run(t.Context(), &rec, []Step{j.step("a", nil), noUndo, j.step("b", errBoom)}, Options{Retain: true})
	if err == nil || err.Error() != "b: boom" {
		t.Errorf("got %v", err)
	}
	j.want(t, "do a", "do b")
	got := states(rec.Events())
	if diff := cmp.Diff([]string{"b kept", "a kept"}, got[len(got)-2:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestOnFailureRunsBeforeUndo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		f    func(error) error
		want string
	}{
		{"leaves the cause", func(error) error { return nil }, "a: boom"},
		{"enriches the cause", func(err error) error { return fmt.Errorf("%w (log: oops)", err) }, "a: boom (log: oops)"},
		{"cannot hide the cause", func(error) error { return errors.New("no logs") }, "a: boom\nno logs"},
		{"may panic", func(error) error { panic("bad collector") }, "a: boom\npanic: bad collector"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var j journal
			ctx, cancel := context.WithCancel(t.Context())
			failing := j.step("a", errBoom)
			do := failing.Do
			failing.Do = func(ctx context.Context) (Undo, error) { cancel(); return do(ctx) }
			err := Run(ctx, nil, []Step{failing}, Options{OnFailure: func(ctx context.Context, cause error) error {
				j.add("collect")
				if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
					t.Errorf("context is not fresh and bounded: %v", ctx.Err())
				}
				return tc.f(cause)
			}})
			j.want(t, "do a", "collect", "undo a")
			if !errors.Is(err, errBoom) || err.Error() != tc.want {
				t.Errorf("got %q, want %q", err, tc.want)
			}
		})
	}
}

func TestReportGivesProgressOfTheRunningStep(t *testing.T) {
	t.Parallel()
	var rec Recorder
	child := Step{ID: "child", Title: "Child", Do: func(ctx context.Context) (Undo, error) { Report(ctx, "half way"); return nil, nil }}
	if err := Run(t.Context(), &rec, []Step{Parallel("g", "", 0, child)}, Options{}); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rec.Events(), func(e Event) bool { return e.State == Progress })
	if i < 0 {
		t.Fatal("no progress event")
	}
	if e := rec.Events()[i]; e.Step != "child" || e.Title != "Child" || e.Parent != "g" || e.Detail != "half way" {
		t.Errorf("got %+v", e)
	}
	Report(t.Context(), "outside of a run") // must not panic
}

func TestTimings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		takes := func(id string, d time.Duration, err error) Step {
			return Step{ID: id, Title: "T" + id, Do: func(context.Context) (Undo, error) {
				time.Sleep(d)
				return func(context.Context) error { time.Sleep(time.Hour); return nil }, err
			}}
		}
		var a, b Recorder
		err := Run(t.Context(), Tee(&a, &b), []Step{
			takes("1", time.Second, nil),
			Parallel("2", "T2", 0, takes("3", 2*time.Second, nil)),
			takes("4", time.Second, errBoom),
		}, Options{RollbackTimeout: 2 * time.Hour})
		if !errors.Is(err, errBoom) {
			t.Fatal(err)
		}
		want := []Timing{
			{Step: "1", Title: "T1", State: Done, Elapsed: time.Second},
			{Step: "2", Title: "T2", State: Done, Elapsed: 2 * time.Second},
			{Step: "3", Title: "T3", Parent: "2", State: Done, Elapsed: 2 * time.Second},
			{Step: "4", Title: "T4", State: Failed, Elapsed: time.Second},
		}
		if diff := cmp.Diff(want, Timings(a.Events())); diff != "" {
			t.Errorf("timings (-want +got):\n%s", diff)
		}
		if len(a.Events()) != len(b.Events()) {
			t.Error("Tee does not report to all")
		}
	})
}

// For each step and each kind of fault, a run that fails there leaves nothing behind and keeps the first error.
func TestEveryFaultAtEveryStepLeavesNothing(t *testing.T) {
	t.Parallel()
	const n = 5
	for at := range n {
		for _, fault := range []string{"error", "panic", "cancel"} {
			t.Run(fmt.Sprintf("%s at %d", fault, at), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var left atomic.Int32
				mk := func(i int) Step {
					return Step{ID: fmt.Sprint(i), Do: func(ctx context.Context) (Undo, error) {
						if i == at && fault == "panic" {
							panic(errBoom)
						}
						left.Add(1)
						undo := func(context.Context) error { left.Add(-1); return nil }
						switch {
						case i == at && fault == "error":
							return undo, errBoom
						case i == at && fault == "cancel":
							cancel()
							return undo, ctx.Err()
						}
						return undo, nil
					}}
				}
				err := Run(ctx, nil, []Step{mk(0), Parallel("p", "", 0, mk(1), mk(2), mk(3)), mk(4)}, Options{})
				if err == nil || left.Load() != 0 {
					t.Errorf("%d things left, error %v", left.Load(), err)
				}
				if !strings.HasPrefix(err.Error(), fmt.Sprint(at)+": ") {
					// A sibling may see the cancellation of the whole run before the step that caused it.
					if fault != "cancel" || at < 1 || at > 3 {
						t.Errorf("the first error is lost: %v", err)
					}
				}
			})
		}
	}
}
