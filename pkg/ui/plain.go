// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// detailInterval is the least time between two lines about the same running step.
const detailInterval = 2 * time.Second

// plain writes lines, for logs and pipes.
type plain struct {
	painter
	verbose bool

	mu      sync.Mutex
	w       io.Writer
	last    map[string]time.Duration // per step: Elapsed at its last detail
	undoing bool
}

func (p *plain) Close() {}

func (p *plain) Report(e step.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.State == step.Progress {
		if e.Elapsed-p.last[e.Step] < detailInterval {
			return
		}
		if p.last == nil {
			p.last = map[string]time.Duration{}
		}
		p.last[e.Step] = e.Elapsed
	}
	if e.State == step.Undoing && !p.undoing {
		p.undoing = true
		_, _ = fmt.Fprintln(p.w, p.item(), rollingBack)
	}
	if line := p.line(e, p.verbose); line != "" {
		_, _ = fmt.Fprintln(p.w, line)
	}
}

const rollingBack = "Removing what was made"

// line is the line for an event, empty if it is not worth one. Details and
// the beginning of steps are for readers of a log, who see no live lines.
func (p *plain) line(e step.Event, verbose bool) string {
	switch e.State {
	case step.Started:
		if e.Parent == "" {
			return p.item() + " " + title(e)
		}
	case step.Progress:
		return "  " + title(e) + ": " + oneLine(e.Detail) + p.took(e)
	case step.Done, step.Failed, step.Undoing, step.Undone, step.Kept:
		return p.final(e, verbose)
	}
	return ""
}

// final is the line that stays for an event, empty if none does.
func (p painter) final(e step.Event, verbose bool) string {
	indent := ""
	if e.Parent != "" {
		indent = "  "
	}
	switch e.State {
	case step.Done:
		if e.Parent == "" || verbose {
			return indent + p.ok() + " " + title(e) + p.took(e)
		}
	case step.Failed:
		return indent + p.bad() + " " + title(e) + p.took(e)
	case step.Undone:
		if e.Err != nil {
			return p.bad() + " undo " + title(e) + ": " + oneLine(e.Err.Error()) + p.took(e)
		}
		if verbose {
			return p.ok() + " undo " + title(e) + p.took(e)
		}
	case step.Kept:
		return p.item() + " kept: " + title(e)
	case step.Started, step.Progress, step.Undoing:
	}
	return ""
}

func (p painter) took(e step.Event) string { return " " + p.dim("("+seconds(e.Elapsed)+")") }

func title(e step.Event) string {
	if e.Title == "" {
		return e.Step
	}
	return oneLine(e.Title)
}

// jsonProgress writes every event as a line of JSON.
type jsonProgress struct {
	mu sync.Mutex
	w  io.Writer
}

// jsonEvent is the format of a line; fields are only ever added.
type jsonEvent struct {
	Time   time.Time  `json:"time"`
	Step   string     `json:"step"`
	Title  string     `json:"title,omitempty"`
	Parent string     `json:"parent,omitempty"`
	State  step.State `json:"state"`
	Detail string     `json:"detail,omitempty"`
	Error  string     `json:"error,omitempty"`
	Code   string     `json:"code,omitempty"` // of the error, e.g. "RK503"
	// Elapsed is in seconds, since the step or its undo started.
	Elapsed float64 `json:"elapsed"`
}

func (j *jsonProgress) Close() {}

func (j *jsonProgress) Report(e step.Event) {
	out := jsonEvent{
		Time: time.Now().UTC(), Step: e.Step, Title: e.Title, Parent: e.Parent, State: e.State, Detail: e.Detail,
		Elapsed: e.Elapsed.Round(time.Millisecond).Seconds(),
	}
	if e.Err != nil {
		out.Error = e.Err.Error()
		if p, ok := problem.Of(e.Err); ok {
			out.Code = p.Code
		}
	}
	writeJSONLine(&j.mu, j.w, out)
}

func writeJSONLine(mu sync.Locker, w io.Writer, v any) {
	mu.Lock()
	defer mu.Unlock()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // progress that cannot be written is no reason to stop
}
