// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of rk: a file for each verb turns flags
// into a request, calls the use-case, and prints its result. Results go to
// standard output, progress and everything else to standard error.
//
// It must never import an engine adapter, client-go or kind, or end the process.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
	"github.com/rootless-kubernetes/rk/pkg/kindcompat"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// Deps is what the command line takes from outside. In, Out, Err and Env are
// required; what else is nil does the real thing.
type Deps struct {
	In       io.Reader
	Out, Err io.Writer
	// Env looks up environment variables (os.Getenv).
	Env func(string) string

	// Dial connects to the rootless engine of this user, to the preferred one if there are two.
	Dial func(ctx context.Context) (engine.Engine, error)
	// DialAll connects to every rootless engine of this user; those that cannot
	// be used come beside. Default: to Dial's, if that is given.
	DialAll func(ctx context.Context) ([]*connect.Connection, []*connect.Unusable, error)
	// Machine gathers the facts of checks: preflight.Local.
	Machine Machine
	// Gather measures the facts of a plan: preflight.Gather.
	Gather func(ctx context.Context, eng preflight.Engine, c config.Cluster, image plan.ImageFacts) (plan.Facts, error)
	// Create carries out a plan: cluster.Create.
	Create func(ctx context.Context, eng engine.Engine, p *plan.Plan, o cluster.CreateOptions) (*cluster.Created, error)
	// Build builds a node image: nodeimage.Build.
	Build func(ctx context.Context, o BuildOptions) (*nodeimage.Result, error)
	// KindClusters lists kind's own clusters on an engine: kindcompat.Clusters.
	KindClusters func(ctx context.Context, engineName string) ([]kindcompat.Cluster, error)
	// Now is the clock: time.Now.
	Now func() time.Time
}

// Machine gathers what checks judge; see [preflight.Machine].
type Machine interface {
	Host(ctx context.Context, w preflight.Wanted) preflight.Facts
	Engine(ctx context.Context, f preflight.Facts, eng preflight.Engine, dialErr error) preflight.Facts
}

// app is one invocation: its dependencies and the flags that all commands share.
type app struct {
	Deps
	terminal
	verbose  bool
	progress string      // --progress
	quiet    bool        // --quiet
	engine   string      // --engine
	streams  atomic.Bool // a program of a node has the terminal: there is nothing to clean up

	file configFile // the configuration file that was read, for messages
}

// New returns the command rk. Its errors hold a problem.Problem with the exit code; [Run] prints them.
func New(d Deps) *cobra.Command { return newApp(d).root() }

// Run runs rk with args (without the program's name) and returns its exit
// code. A cancelled ctx is an interruption: what was begun is rolled back.
func Run(ctx context.Context, d Deps, args []string) (exit int) {
	if len(args) > 0 && args[0] == preflight.ProbeCommand {
		return probe(d, args[1:])
	}
	a := newApp(d)
	cmd := a.root()
	cmd.SetArgs(args)
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		a.interrupted()
	})
	err := final(ctx, recovered(func() error { return cmd.ExecuteContext(ctx) }))
	a.endProgress() // a panic may have left it running
	if !stop() {
		<-told
	}
	var ended *exitError
	if errors.As(err, &ended) {
		return ended.code
	}
	a.printError(err)
	return problem.ExitCode(err)
}

func newApp(d Deps) *app {
	a := &app{Deps: d}
	if _, ok := a.Err.(*os.File); !ok { // which is safe for concurrent use by itself
		a.Err = &lockedWriter{w: a.Err}
	}
	switch {
	case a.DialAll != nil:
	case a.Dial != nil:
		a.DialAll = a.dialOne
	default:
		a.DialAll = func(ctx context.Context) ([]*connect.Connection, []*connect.Unusable, error) {
			return connect.DialAll(ctx, a.connectOptions())
		}
	}
	if a.Dial == nil {
		a.Dial = a.dial
	}
	if a.Machine == nil {
		a.Machine = preflight.Local(a.Env)
	}
	if a.Gather == nil {
		a.Gather = preflight.Gather
	}
	if a.Create == nil {
		a.Create = cluster.Create
	}
	if a.Build == nil {
		a.Build = build
	}
	if a.KindClusters == nil {
		a.KindClusters = kindcompat.Clusters
	}
	if a.Now == nil {
		a.Now = time.Now
	}
	return a
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rk",
		Short: "Kubernetes clusters in rootless containers",
		Long: `rk runs Kubernetes clusters whose nodes are containers of your own, rootless
container engine. No root is needed, and nothing runs beside the clusters.

  rk create cluster                 a cluster with one node
  rk create cluster --workers 2     a cluster with three nodes
  kubectl --context rk-rk get nodes
  rk delete cluster`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(noCommand),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetIn(a.In)
	cmd.SetOut(a.Out)
	cmd.SetErr(a.Err)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	flags := cmd.PersistentFlags()
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "say more: causes in full, and where the time went")
	flags.StringVar(&a.progress, "progress", "auto", "how progress is shown on standard error: auto, tty, plain, json or quiet")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "the same as --progress quiet: warnings, errors and results only")
	flags.StringVar(&a.engine, "engine", "", "container engine: auto, podman or docker (default $RK_ENGINE, else auto)")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf(cmd, "engine", a.engine, connect.Names...); a.engine != "" && err != nil {
			return err
		}
		if a.quiet {
			if cmd.Flags().Changed("progress") && a.progress != string(ui.Quiet) {
				return usageErrorf(cmd, "--quiet and --progress %s contradict each other", a.progress)
			}
			a.progress = string(ui.Quiet)
		}
		return a.setProgress()
	}
	choices(cmd, "engine", connect.Names...)
	choices(cmd, "progress", "auto", "tty", "plain", "json", "quiet")
	cmd.AddCommand(a.create(), a.delete(), a.get(), a.load(), a.export(), a.exec(), a.logs(), a.status(), a.build(), a.config(), a.doctor(), a.version(), a.explain(), a.completion(), a.man())
	return cmd
}

// group is a command that has only subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: usage(noCommand),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageErrorf(cmd, "a subcommand is missing: %s", subcommands(cmd))
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}
