// SPDX-License-Identifier: Apache-2.0

// Package problem is the catalogue of what can go wrong for a user: a stable
// code, the cause in one sentence, the exact fix, and the exit code. Packages
// wrap their causes in a Problem; the command line prints it.
//
// It must never import anything but the standard library's pure packages.
package problem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Exit codes of rk. Scripts may rely on them.
const (
	ExitFailure     = 1   // what was asked for could not be done
	ExitUsage       = 2   // flags, arguments or the configuration file are wrong
	ExitSetup       = 3   // the host, the engine or the image must be set up first
	ExitInterrupted = 130 // Ctrl-C, as a shell reports SIGINT
)

// Problem is one kind of failure. The values of this package are the
// catalogue and are never changed; Wrap and With make copies.
//
// A Problem is an error: errors.Is(err, problem.NoEngine) compares codes, so
// it also holds for wrapped copies.
type Problem struct {
	Code    string // stable, "RK" and three digits; see docs/errors.md
	Summary string // one sentence in lower case without a full stop
	Advice  string // the fix, with exact commands; may have several lines
	Exit    int    // exit code of rk

	cause error
}

// Error returns the summary, followed by the cause if there is one.
func (p *Problem) Error() string {
	if p.cause == nil {
		return p.Summary
	}
	return p.Summary + ": " + p.cause.Error()
}

// Unwrap returns the wrapped cause, nil if there is none.
func (p *Problem) Unwrap() error { return p.cause }

// Is reports whether target is a Problem of the same code.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code == p.Code
}

// Wrap returns p as an error that holds cause. It is never nil: without a
// cause the summary stands alone.
func (p *Problem) Wrap(cause error) error {
	c := *p
	c.cause = cause
	return &c
}

// Wrapf is Wrap of fmt.Errorf(format, args...), so %w keeps an error findable.
func (p *Problem) Wrapf(format string, args ...any) error {
	return p.Wrap(fmt.Errorf(format, args...))
}

// With returns a copy of p with more exact advice, for when the fix depends
// on facts that only the caller has.
func (p *Problem) With(advice string) *Problem {
	c := *p
	c.Advice = advice
	return &c
}

// Withf is With of a formatted advice.
func (p *Problem) Withf(format string, args ...any) *Problem {
	return p.With(fmt.Sprintf(format, args...))
}

// Of returns the outermost Problem of err.
func Of(err error) (*Problem, bool) {
	var p *Problem
	ok := errors.As(err, &p)
	return p, ok
}

// Lookup finds a problem of the catalogue by its code, in any case ("rk101"
// is RK101).
func Lookup(code string) (*Problem, bool) {
	for _, p := range catalogue {
		if strings.EqualFold(p.Code, code) {
			return p, true
		}
	}
	return nil, false
}

// All returns the whole catalogue, ordered by code.
func All() []*Problem { return slices.Clone(catalogue) }

// ExitCode maps an error to rk's exit code: 0 for nil, that of the outermost
// Problem, 130 for a cancelled context, else 1.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if p, ok := Of(err); ok {
		return p.Exit
	}
	if errors.Is(err, context.Canceled) {
		return ExitInterrupted
	}
	return ExitFailure
}
