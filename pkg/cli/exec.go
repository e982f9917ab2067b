// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) exec() *cobra.Command {
	var stdin, tty bool
	var user, dir string
	cmd := &cobra.Command{
		Use: "exec NODE [-it] -- COMMAND [ARG...]", Short: "Run a command in a node",
		Long: `Run a command in a node, as root there unless --user says otherwise. The exit code
is the command's. What the command prints goes to standard output and standard
error; with -t it has a terminal, and everything goes to standard output.`,
		Example: `  rk exec demo-control-plane -- crictl ps
  rk exec -it demo-worker -- bash
  rk exec -i demo-worker -- tar -x -C /tmp <files.tar`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageErrorf(cmd, "a node and a command are missing")
			case cmd.ArgsLenAtDash() > 1:
				return usageErrorf(cmd, "one node is expected before '--', and there are %d", cmd.ArgsLenAtDash())
			case len(args) == 1:
				return usageErrorf(cmd, "a command is missing, for example 'rk exec %s -- crictl ps'", args[0])
			}
			p := engine.Process{Argv: args[1:], User: user, Dir: dir, Stdout: a.Out, Stderr: a.Err}
			if stdin {
				p.Stdin = a.In
			}
			return a.runExec(cmd.Context(), args[0], p, tty)
		},
		ValidArgsFunction: a.completeNode,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&stdin, "stdin", "i", false, "pass standard input on")
	fs.BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	fs.StringVarP(&user, "user", "u", "", "user in the node, a name or a number (default root)")
	fs.StringVarP(&dir, "workdir", "w", "", "working directory in the node (default that of the image)")
	return cmd
}

func (a *app) runExec(ctx context.Context, name string, p engine.Process, tty bool) error {
	exit, err := withEngines(ctx, a, func(ctx context.Context, e engines) (int, error) {
		eng, n, err := e.nodeNamed(ctx, name)
		if err != nil {
			return 0, err
		}
		if tty {
			restore, err := a.attach(&p)
			if err != nil {
				return 0, err
			}
			defer restore()
		}
		a.streams.Store(true)
		return cluster.Exec(ctx, eng, n, p)
	})
	switch {
	case ctx.Err() != nil:
		return &exitError{problem.ExitInterrupted}
	case err != nil:
		return err
	case exit != 0:
		return &exitError{exit}
	}
	return nil
}

// attach gives a process a terminal that behaves as the user's own: that one
// passes every key on until restore is called, and changes of its size.
// Without one there is nothing to do but to warn.
func (a *app) attach(p *engine.Process) (restore func(), err error) {
	p.TTY = &engine.TTY{}
	p.Stderr = io.Discard // there is none
	if t := a.Env("TERM"); t != "" {
		p.Env = map[string]string{"TERM": t}
	}
	out, ok := a.Out.(*os.File)
	if ok && term.IsTerminal(int(out.Fd())) {
		p.TTY.Size = sizeOf(out)
	} else {
		out = nil
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || p.Stdin == nil {
		if p.Stdin != nil {
			a.warn("standard input is no terminal: keys like Ctrl-C are not passed on")
		}
		in = nil
	}
	undo := []func(){}
	restore = func() {
		for _, f := range undo {
			f()
		}
	}
	if out != nil {
		sizes, changed := make(chan engine.TTYSize, 1), make(chan os.Signal, 1)
		done := make(chan struct{})
		signal.Notify(changed, syscall.SIGWINCH)
		go followSize(out, changed, sizes, done)
		p.TTY.Resize = sizes
		undo = append(undo, func() { signal.Stop(changed); close(done) })
	}
	if in != nil {
		state, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			restore()
			return nil, err
		}
		undo = append(undo, func() { _ = term.Restore(int(in.Fd()), state) })
	}
	return restore, nil
}

// followSize passes on the sizes that a terminal gets, the newest one if
// several come before one was taken.
func followSize(f *os.File, changed <-chan os.Signal, sizes chan engine.TTYSize, done <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-done:
			return
		}
		select {
		case <-sizes: // one that nobody took
		default:
		}
		select {
		case sizes <- sizeOf(f):
		case <-done:
			return
		}
	}
}

func sizeOf(f *os.File) engine.TTYSize {
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return engine.TTYSize{}
	}
	return engine.TTYSize{Rows: uint16(min(rows, 1<<16-1)), Columns: uint16(min(columns, 1<<16-1))}
}
