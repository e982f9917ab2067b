// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/rootless-kubernetes/rk/pkg/step"
)

const refreshInterval = 100 * time.Millisecond

// tty shows running steps as live lines at the bottom of the terminal, with
// their time, and leaves a line above them for each one that has ended. mpb
// owns the terminal: it redraws in one write, knows the width, and puts what
// is written to it above the live lines. All live lines are one bar of mpb.
type tty struct {
	painter
	verbose bool
	bars    *mpb.Progress
	bar     *mpb.Bar

	mu      sync.Mutex
	live    []liveLine // parents before their children
	undoing bool
	frame   int
}

type liveLine struct {
	id, parent, title, detail string
	depth                     int
	start                     time.Time
}

func newTTY(w io.Writer, s Style, verbose bool, opts ...mpb.ContainerOption) *tty {
	t := &tty{painter: painter{s}, verbose: verbose}
	opts = append([]mpb.ContainerOption{mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(refreshInterval)}, opts...)
	t.bars = mpb.New(opts...)
	// The first live line is the bar itself, the others extend it.
	var rest []string
	first := mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		var head string
		head, rest = "", nil
		if lines := t.lines(stat.AvailableWidth, time.Now()); len(lines) > 0 {
			head, rest = lines[0], lines[1:]
		}
		_, err := io.WriteString(w, head)
		return err
	})
	others := mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
		for _, line := range rest {
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return err
			}
		}
		return nil
	})
	t.bar = t.bars.MustAdd(0, first, mpb.BarFillerTrim(), mpb.BarExtender(others, false))
	return t
}

// Close removes the live lines and waits until everything is written.
func (t *tty) Close() {
	t.mu.Lock()
	t.live = nil
	t.mu.Unlock()
	t.bar.Abort(true)
	t.bars.Wait()
}

func (t *tty) Report(e step.Event) {
	t.mu.Lock()
	var above []string
	switch e.State {
	case step.Started:
		t.start(e, title(e))
	case step.Progress:
		for i := range t.live {
			if t.live[i].id == e.Step {
				t.live[i].detail = oneLine(e.Detail)
			}
		}
	case step.Undoing:
		if !t.undoing {
			t.undoing = true
			above = append(above, t.item()+" "+rollingBack)
		}
		e.Parent = ""
		t.start(e, "undo "+title(e))
	case step.Done, step.Failed, step.Undone, step.Kept:
		t.stop(e.Step)
	}
	if line := t.final(e, t.verbose); line != "" {
		above = append(above, line)
	}
	t.mu.Unlock()
	if len(above) > 0 {
		_, _ = io.WriteString(t.bars, strings.Join(above, "\n")+"\n")
	}
}

// start adds a live line: a child after its parent and the parent's other children.
func (t *tty) start(e step.Event, title string) {
	line := liveLine{id: e.Step, parent: e.Parent, title: title, start: time.Now()}
	at := len(t.live)
	for i, l := range t.live {
		if e.Parent != "" && l.id == e.Parent {
			line.depth, at = l.depth+1, i+1
			for at < len(t.live) && t.live[at].depth > l.depth {
				at++
			}
		}
	}
	t.live = append(t.live[:at], append([]liveLine{line}, t.live[at:]...)...)
}

func (t *tty) stop(id string) {
	for i, l := range t.live {
		if l.id == id {
			t.live = append(t.live[:i], t.live[i+1:]...)
			return
		}
	}
}

var (
	spinner      = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	spinnerASCII = []string{"|", "/", "-", "\\"}
)

// lines renders the live lines, none wider than width: on a narrow terminal
// the detail is cut first, then the title.
func (t *tty) lines(width int, now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame++
	frames := spinnerASCII
	if t.Unicode {
		frames = spinner
	}
	out := make([]string, 0, len(t.live))
	for _, l := range t.live {
		head := strings.Repeat("  ", l.depth) + frames[t.frame%len(frames)] + " " + l.title + " " + seconds(now.Sub(l.start))
		room := width - runewidth.StringWidth(head)
		if room < 0 {
			out = append(out, t.cut(head, width))
			continue
		}
		if l.detail != "" && room > 8 {
			head += t.dim("  " + t.cut(l.detail, room-2))
		}
		out = append(out, head)
	}
	return out
}

// cut shortens s to a width in columns.
func (p painter) cut(s string, width int) string {
	tail := p.symbol("…", "...")
	if runewidth.StringWidth(tail) > width {
		tail = ""
	}
	return runewidth.Truncate(s, width, tail)
}
