// SPDX-License-Identifier: Apache-2.0

// Command pause holds the namespaces of a pod: it sleeps until SIGTERM or
// SIGINT, and reaps the zombies that a shared PID namespace leaves to PID 1.
//
// It must never import anything but the standard library: the node image
// compiles it from this one file.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "devel"

func main() {
	if len(os.Args) == 2 && (os.Args[1] == "-v" || os.Args[1] == "--version") {
		if _, err := os.Stdout.WriteString("pause " + version + "\n"); err != nil {
			os.Exit(1)
		}
		return
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	// Children that died before Notify announce themselves to nobody.
	reap()
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended: one SIGCHLD may stand for many.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
