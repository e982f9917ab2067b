// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"time"

	"github.com/rootless-kubernetes/rk/pkg/step"
)

// reporter turns stages into events; without a receiver it does nothing.
type reporter struct{ to step.Reporter }

func (r reporter) send(e step.Event) {
	if r.to != nil {
		r.to.Report(e)
	}
}

// start reports that a stage begins; the function that it returns reports how
// it ended.
func (r reporter) start(id, title string) func(error) {
	begin := time.Now()
	r.send(step.Event{Step: stepID(id), Title: title, State: step.Started})
	return func(err error) {
		state := step.Done
		if err != nil {
			state = step.Failed
		}
		r.send(step.Event{Step: stepID(id), Title: title, State: state, Err: err, Elapsed: time.Since(begin)})
	}
}

// detail returns a function that reports what a stage is doing.
func (r reporter) detail(id string) func(string) {
	return func(s string) {
		r.send(step.Event{Step: stepID(id), State: step.Progress, Detail: s})
	}
}

func stepID(stage string) string { return "image/" + stage }
