// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"

	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// printError tells why a command did not succeed and what to do.
func (a *app) printError(err error) {
	switch {
	case err == nil:
	case a.mode == ui.JSON:
		ui.PrintErrorJSON(a.Err, err)
	default:
		ui.PrintError(a.Err, err, a.style, a.verbose)
	}
}

// final is what a command's error means: a panic is a bug of rk, and after an
// interruption nobody asks what was being done.
func final(ctx context.Context, err error) error {
	var panicked *step.PanicError
	var ended *exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ended):
		return err
	case errors.As(err, &panicked):
		return problem.Internal.Wrap(err)
	case ctx.Err() != nil:
		return interruption(err)
	}
	return err
}

// interruption is problem.Interrupted, followed by what could not be undone.
func interruption(err error) error {
	interrupted := error(problem.Interrupted)
	if p, ok := problem.Of(err); ok && errors.Is(p, problem.Interrupted) {
		interrupted = problem.Interrupted.With(p.Advice)
	}
	joined, ok := err.(interface{ Unwrap() []error }) // what step.Run joins is the outermost error
	switch {
	case ok && len(joined.Unwrap()) > 1:
		return errors.Join(append([]error{interrupted}, joined.Unwrap()[1:]...)...)
	case errors.Is(err, context.Canceled):
		return interrupted
	}
	return problem.Interrupted.Wrap(err)
}

// recovered turns a panic of f into an error.
func recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &step.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// exitError is the exit code of a program that rk ran for the user: it is
// rk's own, and there is nothing to say.
type exitError struct{ code int }

func (e *exitError) Error() string { return "exit code " + strconv.Itoa(e.code) }
