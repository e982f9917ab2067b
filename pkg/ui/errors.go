// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// PrintError writes an error for a reader: the cause first, then what it
// means with its code, the fix, relevant log lines, and errors that came up
// while cleaning up. With verbose, the whole chain and the stack of a panic
// follow.
func PrintError(w io.Writer, err error, s Style, verbose bool) {
	p := painter{s}
	all := split(err)
	first, others := all[0], all[1:]
	known, ok := classify(first)

	out := &strings.Builder{}
	cause := first.Error()
	if ok && known.Unwrap() != nil {
		cause = known.Unwrap().Error()
	}
	fmt.Fprintf(out, "%s %s\n", p.bold(p.red("Error:")), indent(cause, "       "))
	if ok {
		if cause != known.Summary {
			fmt.Fprintf(out, "%s %s\n", p.bold(known.Code+":"), known.Summary)
		}
		fmt.Fprintf(out, "%s %s\n", p.bold("Fix:"), indent(known.Advice, "     "))
		fmt.Fprintf(out, "%s\n", p.dim("More: rk explain "+known.Code))
	}
	for _, l := range problem.Logs(first) {
		fmt.Fprintf(out, "\n%s\n  %s\n", p.bold(l.Source), indent(strings.Join(l.Lines, "\n"), "  "))
	}
	if len(others) > 0 {
		fmt.Fprintf(out, "\n%s\n", p.bold("While cleaning up:"))
		for _, o := range others {
			fmt.Fprintf(out, "  %s\n", indent(o.Error(), "  "))
		}
	}
	if verbose {
		if first.Error() != cause {
			fmt.Fprintf(out, "\n%s\n  %s\n", p.bold("In full:"), indent(first.Error(), "  "))
		}
		var panicked *step.PanicError
		if errors.As(err, &panicked) {
			fmt.Fprintf(out, "\n%s\n", panicked.Stack)
		}
	}
	_, _ = io.WriteString(w, out.String())
}

// PrintErrorJSON writes an error as one line of JSON, for --progress=json.
func PrintErrorJSON(w io.Writer, err error) {
	out := struct {
		State    string            `json:"state"` // "error": what tells it from events
		Error    string            `json:"error"`
		Code     string            `json:"code,omitempty"`
		Summary  string            `json:"summary,omitempty"`
		Advice   string            `json:"advice,omitempty"`
		ExitCode int               `json:"exitCode"`
		Logs     []problem.Excerpt `json:"logs,omitempty"`
	}{State: "error", Error: err.Error(), ExitCode: problem.ExitCode(err), Logs: problem.Logs(err)}
	if p, ok := classify(split(err)[0]); ok {
		out.Code, out.Summary, out.Advice = p.Code, p.Summary, p.Advice
	}
	writeJSONLine(&sync.Mutex{}, w, out)
}

// classify finds the problem that an error is. A panic and a bare
// cancellation come from code that knows no problems.
func classify(err error) (*problem.Problem, bool) {
	if p, ok := problem.Of(err); ok {
		return p, true
	}
	switch {
	case errors.As(err, new(*step.PanicError)):
		return problem.Internal, true
	case errors.Is(err, context.Canceled):
		return problem.Interrupted, true
	}
	return nil, false
}

// split takes apart an error of errors.Join, whose first error is the cause;
// any other error is the only one.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) == 0 {
		return []error{err}
	}
	all := joined.Unwrap()
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = e.Error()
	}
	if err.Error() != strings.Join(texts, "\n") { // of fmt.Errorf, say
		return []error{err}
	}
	return all
}

// indent indents all lines but the first, and drops empty space at the end.
func indent(s, by string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n "), "\n", "\n"+by)
}
