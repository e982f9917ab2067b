// SPDX-License-Identifier: Apache-2.0

// Command testprog is the only program in the conformance suite's image.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest/internal/prog"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return prog.Main(ctx, prog.Process{
		Args: os.Args[1:], Env: os.Environ(), UID: os.Getuid(), Getwd: os.Getwd, Hostname: os.Hostname,
		Winsize: func() (rows, columns uint16, err error) {
			size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
			if err != nil {
				return 0, 0, err
			}
			return size.Row, size.Col, nil
		},
		Open:  func(name string) (prog.File, error) { return os.Open(name) },
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}
