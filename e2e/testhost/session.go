// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Command is a shell script to run in a host.
type Command struct {
	// User runs it. Default UserName, in a login session of its own with the user's
	// systemd instance and D-Bus; "root" is a plain service of the host.
	User string
	// Script is run by a login bash in the user's home directory.
	Script string
	// Env are further variables, "KEY=value".
	Env []string
	// Stdin is the script's standard input. Default: empty.
	Stdin io.Reader
	// Stdout and Stderr get the script's output as it comes. Default: dropped, but for
	// the end of stderr, which an ExitError has.
	Stdout, Stderr io.Writer
	// TTY runs the script on a terminal of its own; Stdin, Stdout and Stderr have to be
	// this process's terminal.
	TTY bool
}

// ExitError is the error of a script that ran and failed.
type ExitError struct {
	Script string
	Code   int
	Stderr string // its end
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%q: exit code %d: %s", e.Script, e.Code, e.Stderr)
}

// User runs a script as the unprivileged user and returns its standard output.
func (h *Host) User(ctx context.Context, script string) (stdout string, err error) {
	return h.output(ctx, Command{Script: script})
}

// Root runs a script as the host's root and returns its standard output.
func (h *Host) Root(ctx context.Context, script string) (stdout string, err error) {
	return h.output(ctx, Command{User: "root", Script: script})
}

func (h *Host) output(ctx context.Context, c Command) (string, error) {
	var stdout strings.Builder
	c.Stdout = &stdout
	err := h.Run(ctx, c)
	return stdout.String(), err
}

// Run runs a script and waits for it. When ctx is done, everything that the script started
// is killed. A script that fails is an *ExitError.
func (h *Host) Run(ctx context.Context, c Command) error {
	if c.User == "" {
		c.User = UserName
	}
	suffix, err := randomHex(4)
	if err != nil {
		return err
	}
	unit := "testhost-" + suffix + ".service"
	cmd := h.enter(ctx, append([]string{"systemd-run"}, c.runArgs(unit)...)...)
	if c.TTY && h.state.VM {
		cmd = h.ssh(ctx, true, append([]string{"systemd-run"}, c.runArgs(unit)...)...)
	}
	var stderr tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, io.MultiWriter(&stderr, orDiscard(c.Stderr))
	if c.TTY {
		cmd.Stderr = c.Stderr
	}
	cmd.Cancel = func() error {
		h.stopUnit(ctx, unit)
		return cmd.Process.Kill()
	}
	cmd.WaitDelay = stopTimeout
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%q: %w; its last words: %s", c.Script, context.Cause(ctx), &stderr)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &ExitError{Script: c.Script, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return err
}

const stopTimeout = 10 * time.Second

// runArgs are the arguments of systemd-run: a process that only entered the host's
// namespaces would have no session, and would lie outside the host's cgroups.
func (c Command) runArgs(unit string) []string {
	args := []string{"--quiet", "--wait", "--collect", "--unit=" + unit, "--property=User=" + c.User, "--property=WorkingDirectory=~"}
	if c.TTY {
		args = append(args, "--pty", "--setenv=TERM="+os.Getenv("TERM"))
	} else {
		args = append(args, "--pipe")
	}
	if c.User == UserName {
		args = append(args, "--property=PAMName=login",
			fmt.Sprintf("--setenv=XDG_RUNTIME_DIR=/run/user/%d", UserID),
			fmt.Sprintf("--setenv=DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/%d/bus", UserID))
	}
	for _, v := range c.Env {
		args = append(args, "--setenv="+v)
	}
	// systemd expands variables in a service's command line, "$$" is "$" (systemd.service(5)).
	return append(args, "--", "bash", "-lc", strings.ReplaceAll(c.Script, "$", "$$"))
}

// stopUnit kills what a script started. A login session's processes lie in the session's
// scope and not in the unit.
func (h *Host) stopUnit(ctx context.Context, unit string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	const script = `pid=$(systemctl show --property=MainPID --value "$1")
scope=$(sed -n 's,.*/\(session-[^/]*\.scope\)$,\1,p' "/proc/$pid/cgroup")
systemctl kill --signal=KILL $scope "$1"; systemctl stop $scope "$1"`
	_ = h.enter(ctx, "sh", "-c", script, "sh", unit).Run() // the unit may just have ended
}

// enter is a command in the host, as its root: in a container's namespaces, outside of
// its cgroups, or in a VM over SSH.
func (h *Host) enter(ctx context.Context, args ...string) *exec.Cmd {
	if h.state.VM {
		return h.ssh(ctx, false, args...)
	}
	pid := fmt.Sprint(h.state.Leader.PID)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}, args...)...)
	cmd.Env = enterEnv()
	return cmd
}

func enterEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TERM=" + os.Getenv("TERM")}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Journal writes the host's whole journal.
func (h *Host) Journal(ctx context.Context, w io.Writer) error {
	cmd := h.enter(ctx, "journalctl", "--no-pager", "--output=short-precise")
	var stderr tail
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("journal of %s: %w: %s", h.state.Name, err, &stderr)
	}
	return nil
}
