// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// printError tells why a command did not succeed: the cause, what the nodes
// said about it, the fix, and the code under which there is more to read.
func (a *app) printError(err error) {
	if err == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "error: %s\n", err)
	var evidence *cluster.Evidence
	if errors.As(err, &evidence) && !errors.Is(err, problem.Interrupted) {
		for _, n := range evidence.Nodes {
			fmt.Fprintf(&b, "\nlog of %s:\n  %s\n", n.Node, strings.Join(n.Lines, "\n  "))
		}
	}
	if p, ok := problem.Of(err); ok {
		fmt.Fprintf(&b, "\n%s\n%s: 'rk explain %s' tells more.\n", p.Advice, p.Code, p.Code)
	}
	if a.verbose {
		b.WriteString(stack(err))
	}
	_, _ = a.Err.Write([]byte(b.String())) // there is nowhere else to say that this did not work
}

// stack is where a panic happened, "" for other errors.
func stack(err error) string {
	var own *panicError
	if errors.As(err, &own) {
		return "\n" + string(own.stack)
	}
	var inStep *step.PanicError
	if errors.As(err, &inStep) {
		return "\n" + string(inStep.Stack)
	}
	return ""
}
