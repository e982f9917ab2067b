// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs rk itself when the tests below start this program again.
func TestMain(m *testing.M) {
	if os.Getenv("RK_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

func rk(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "RK_TEST_MAIN=1")
	return cmd
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	out, err := rk(t, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "rk ") {
		t.Errorf("rk version: %v, %q", err, out)
	}
	var exit *exec.ExitError
	if _, err := rk(t, "no-such-command").Output(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("rk no-such-command: %v, want exit code 2", err)
	} else if !strings.Contains(string(exit.Stderr), "RK401") {
		t.Errorf("rk no-such-command: standard error is %q, want RK401 in it", exit.Stderr)
	}
}

// The first signal is answered, and what runs may come to its end; the second
// ends the process at once. A standard input that stays open makes it wait.
func TestSignals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first  os.Signal
		second bool
	}{
		"SIGINT":  {os.Interrupt, false},
		"SIGTERM": {syscall.SIGTERM, false},
		"SIGHUP":  {syscall.SIGHUP, false},
		"twice":   {os.Interrupt, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := rk(t, "create", "cluster", "--config", "-")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// rk listens for signals before it reads, so once the pipe is drained it is ready.
			fillPipe(t, stdin)
			if err := cmd.Process.Signal(tc.first); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(stderr)
			if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "Interrupted") {
				t.Fatalf("rk says %q (%v)", line, err)
			}
			if tc.second {
				err = cmd.Process.Signal(os.Interrupt)
			} else {
				err = stdin.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(lines)
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
				t.Errorf("rk ends with %v, want exit code 130", err)
			}
			if said := strings.Contains(string(rest), "RK508"); said == tc.second {
				t.Errorf("rk says %q after a second signal: %v", rest, tc.second)
			}
		})
	}
}

// fillPipe writes more than a pipe holds, which succeeds only when it is read.
func fillPipe(t *testing.T, w io.Writer) {
	t.Helper()
	const pipeSize = 64 << 10 // Linux's default, pipe(7)
	if _, err := w.Write([]byte(strings.Repeat("#\n", pipeSize))); err != nil {
		t.Fatal(err)
	}
}
