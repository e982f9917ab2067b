// SPDX-License-Identifier: Apache-2.0

// Command rk runs Kubernetes clusters whose nodes are containers of a
// rootless container engine.
//
// This package does what only a process can do: signals, the standard streams
// and the exit code. Everything else is in package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/cli"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func main() { os.Exit(run()) }

// run cancels the command at the first signal, so that it rolls back, and
// ends the process at the second.
func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(problem.ExitInterrupted)
	}()
	return cli.Run(ctx, cli.Deps{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv}, os.Args[1:])
}
