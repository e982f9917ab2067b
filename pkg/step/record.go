// SPDX-License-Identifier: Apache-2.0

package step

import (
	"slices"
	"sync"
	"time"
)

// Tee returns a reporter that passes each event to every one of reps in turn;
// without any it discards them.
func Tee(reps ...Reporter) Reporter { return tee(reps) }

type tee []Reporter

func (t tee) Report(e Event) {
	for _, r := range t {
		r.Report(e)
	}
}

// Recorder is a reporter that keeps all events. The zero value is ready.
type Recorder struct {
	mu     sync.Mutex
	events []Event
}

// Report keeps e.
func (r *Recorder) Report(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Events returns what was reported so far, in order.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Timing is how long one step took.
type Timing struct {
	Step, Title, Parent string
	State               State // Done or Failed; Started if it did not end
	Elapsed             time.Duration
}

// Timings sums up events by step, in the order in which the steps started.
// Undos are left out.
func Timings(events []Event) []Timing {
	var out []Timing
	at := map[string]int{}
	for _, e := range events {
		switch e.State {
		case Started:
			at[e.Step] = len(out)
			out = append(out, Timing{Step: e.Step, Title: e.Title, Parent: e.Parent, State: Started})
		case Done, Failed:
			if i, ok := at[e.Step]; ok {
				out[i].State, out[i].Elapsed = e.State, e.Elapsed
			}
		case Progress, Undoing, Undone, Kept:
		}
	}
	return out
}
