// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// openPTY returns the user's end of a terminal.
func openPTY(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return slave
}

func resize(t *testing.T, f *os.File, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

// The terminal of rk exec -it has the user's size, follows it, and leaves the user's own as it was.
func TestAttach(t *testing.T) {
	t.Parallel()
	pty := openPTY(t)
	resize(t, pty, 30, 90)
	a := newApp(Deps{In: pty, Out: pty, Err: &bytes.Buffer{}, Env: func(name string) string {
		return map[string]string{"TERM": "xterm"}[name]
	}})
	p := engine.Process{Stdin: pty, Stdout: pty}
	restore, err := a.attach(&p)
	if err != nil {
		t.Fatal(err)
	}
	if p.TTY.Size != (engine.TTYSize{Rows: 30, Columns: 90}) || p.Env["TERM"] != "xterm" || echoes(t, pty) {
		t.Errorf("size %v, environment %v, echo %t", p.TTY.Size, p.Env, echoes(t, pty))
	}
	for _, rows := range []uint16{40, 50} {
		resize(t, pty, rows, 120)
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		for size := range p.TTY.Resize { // an earlier one may come first
			if size == (engine.TTYSize{Rows: rows, Columns: 120}) {
				break
			}
		}
	}
	restore()
	if !echoes(t, pty) {
		t.Error("the user's terminal is not as it was")
	}
}

// Without a terminal there is nothing to restore, and the user is told.
func TestAttachWithoutTerminal(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	a := newApp(Deps{In: &bytes.Buffer{}, Out: &bytes.Buffer{}, Err: &errs, Env: func(string) string { return "" }})
	p := engine.Process{Stdin: &bytes.Buffer{}}
	restore, err := a.attach(&p)
	if err != nil || p.TTY == nil || p.TTY.Resize != nil || errs.Len() == 0 {
		t.Errorf("terminal %+v, %v, said %q", p.TTY, err, &errs)
	}
	restore()
}
