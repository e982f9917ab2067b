// SPDX-License-Identifier: Apache-2.0

package pause_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asParent makes the test binary start children and become pause, so that
// they are pause's children as orphans are PID 1's.
const asParent = "RK_TEST_EXEC_PAUSE"

func TestMain(m *testing.M) {
	if pause := os.Getenv(asParent); pause != "" {
		if err := becomePause(pause); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// becomePause starts a child that ends at once and one that ends with
// standard input, prints their ids and turns into pause.
func becomePause(pause string) error {
	early, late := exec.Command("true"), exec.Command("cat")
	late.Stdin = os.Stdin
	for _, c := range []*exec.Cmd{early, late} {
		if err := c.Start(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(os.Stdout, c.Process.Pid); err != nil {
			return err
		}
	}
	return syscall.Exec(pause, []string{pause}, nil)
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "pause")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./pause")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func TestPauseReapsItsChildrenAndEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asParent+"="+build(t))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	var children []int
	for len(children) < 2 && lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, pid)
	}
	if len(children) != 2 {
		t.Fatal("the children were not started")
	}
	awaitGone(t, children[0])
	if state(children[1]) == "" {
		t.Error("the second child ended early")
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, children[1])

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("pause ended with %v after SIGTERM, want success", err)
	}
}

// awaitGone waits until no process, not even a zombie, has the id.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for state(pid) != "" {
		if time.Now().After(deadline) {
			t.Fatalf("child %d was not reaped, its state is %s", pid, state(pid))
		}
		time.Sleep(5 * time.Millisecond) // the kernel announces an exit, not a reaping
	}
}

// state returns the state letter of a process, "" if there is none.
func state(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return rest[:min(1, len(rest))]
}

func TestPauseTellsItsVersion(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), build(t), "--version").Output()
	if err != nil || string(out) != "pause devel\n" {
		t.Errorf("got %q, %v", out, err)
	}
}
