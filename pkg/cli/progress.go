// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

var progressModes = []string{"auto", "tty", "plain", "json", "quiet"}

func (a *app) checkProgress(cmd *cobra.Command) error {
	return oneOf(cmd, "progress", a.progress, progressModes...)
}

// reporter shows progress on standard error until done is called.
func (a *app) reporter() (rep step.Reporter, done func()) {
	return step.Tee(), func() {}
}

// step runs one step with progress.
func (a *app) step(ctx context.Context, s step.Step) error {
	rep, done := a.reporter()
	defer done()
	return step.Run(ctx, rep, []step.Step{s}, step.Options{})
}

// note tells the user something that is neither a result nor an error.
func (a *app) note(format string, args ...any) {
	if a.progress != "quiet" && a.progress != "json" {
		_, _ = fmt.Fprintf(a.Err, format+"\n", args...) // standard error being gone is no reason to stop
	}
}

// warn tells the user something that must not be missed.
func (a *app) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, "warning: "+format+"\n", args...)
}

// printCreated says how to use a new cluster.
func (a *app) printCreated(p *plan.Plan, c *cluster.Created, f createFlags, took time.Duration) {
	kubectl := "kubectl"
	if f.kubeconfig != "" {
		kubectl += " --kubeconfig " + c.Kubeconfig
	}
	a.note("cluster %q is ready after %s", p.Cluster, took.Round(100*time.Millisecond))
	a.note("  %s --context %s get nodes", kubectl, c.Context)
	a.note("  rk delete cluster %s", p.Cluster)
}
