// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/step"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// terminal is standard error: progress, notes, warnings and errors.
type terminal struct {
	mode     ui.Mode
	style    ui.Style
	recorder step.Recorder // for the summary of -v

	mu      sync.Mutex
	current ui.Progress // nil: no progress is shown
}

// lockedWriter makes a writer safe for concurrent use.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// setProgress decides how progress is shown, from --progress.
func (a *app) setProgress() error {
	mode, err := ui.ParseMode(a.progress)
	if err != nil {
		return err
	}
	var style ui.Style
	if f, ok := a.Err.(*os.File); ok {
		mode, style = ui.Detect(mode, f, a.Env)
	} else if mode == ui.Auto {
		mode = ui.Plain
	}
	a.mu.Lock() // a signal may already be telling the user that it came
	defer a.mu.Unlock()
	a.mode, a.style = mode, style
	return nil
}

// shown is how notes are shown, for every goroutine.
func (a *app) shown() (ui.Mode, ui.Style) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mode, a.style
}

// reporter shows progress until done is called; nothing else is written to
// standard error meanwhile.
func (a *app) reporter() (rep step.Reporter, done func()) {
	p := ui.NewProgress(a.mode, a.Err, a.style, a.verbose)
	a.mu.Lock()
	a.current = p
	a.mu.Unlock()
	return step.Tee(p, &a.recorder), a.endProgress
}

// endProgress gives standard error back to notes and errors.
func (a *app) endProgress() {
	a.mu.Lock()
	p := a.current
	a.current = nil
	a.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// step runs one step with progress.
func (a *app) step(ctx context.Context, s step.Step) error {
	rep, done := a.reporter()
	defer done()
	return step.Run(ctx, rep, []step.Step{s}, step.Options{})
}

// interrupted tells the user that the signal has arrived.
func (a *app) interrupted() {
	if a.streams.Load() {
		return
	}
	const text = "Interrupted: cleaning up. Ctrl-C once more ends rk at once."
	a.mu.Lock()
	p := a.current
	a.mu.Unlock()
	if p == nil {
		a.note(text)
		return
	}
	p.Report(step.Event{Step: "interrupt", Title: text, State: step.Started})
}

// note tells the user something that is neither a result nor an error.
func (a *app) note(format string, args ...any) {
	if mode, _ := a.shown(); mode != ui.Quiet {
		a.say("note", "", fmt.Sprintf(format, args...))
	}
}

// warn tells the user something that must not be missed.
func (a *app) warn(text string) { a.say("warning", "warning: ", text) }

func (a *app) say(kind, prefix, text string) {
	if mode, style := a.shown(); mode == ui.JSON {
		ui.NewProgress(ui.JSON, a.Err, style, a.verbose).Report(step.Event{Step: kind, State: step.State(kind), Detail: text})
		return
	}
	_, _ = fmt.Fprintln(a.Err, prefix+text) // a standard error that is gone is no reason to stop
}

// printCreated says how to use a new cluster and, with -v, where the time went.
func (a *app) printCreated(p *plan.Plan, c *cluster.Created, f createFlags, took time.Duration) error {
	kubectl := "kubectl"
	if f.kubeconfig != "" {
		kubectl += " --kubeconfig " + c.Kubeconfig
	}
	state := "is ready"
	if f.wait == 0 || p.ExternalCNI {
		state = "is serving"
	}
	a.note("Cluster %q %s after %.1f s. Use and delete it with:", p.Cluster, state, took.Seconds())
	a.note("  %s --context %s get nodes", kubectl, c.Context)
	a.note("  rk delete cluster %s", p.Cluster)
	if a.verbose && a.mode != ui.JSON && a.mode != ui.Quiet {
		return ui.Summary(a.Err, step.Timings(a.recorder.Events()), took)
	}
	return nil
}
