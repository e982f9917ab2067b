// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process identifies a process for good: process ids are used again, the pair with the
// start time (clock ticks since boot, proc_pid_stat(5)) is not.
type process struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
}

func findProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	start, dead, err := parseStat(string(stat))
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if dead {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{PID: pid, Start: start}, nil
}

// parseStat reads /proc/PID/stat; the second field, the name, may hold blanks and brackets.
func parseStat(stat string) (start uint64, dead bool, err error) {
	_, rest, ok := cutLast(stat, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, false, fmt.Errorf("unexpected stat line %q", stat)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0] == "Z" || fields[0] == "X", err
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	now, err := findProcess(p.PID)
	return err == nil && now == p
}

// terminate sends SIGTERM, SIGKILL when the process has not ended after patience, and
// waits for its end. A process that has ended is fine.
func (p process) terminate(patience time.Duration) error {
	fd, err := p.open()
	if err != nil || fd < 0 {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			return fmt.Errorf("signal process %d: %w", p.PID, err)
		}
		if ended, err := awaitPidfd(fd, patience); err != nil || ended {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", p.PID)
}

// open returns a pidfd, or -1 where the process has ended.
func (p process) open() (int, error) {
	if p.PID == 0 {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	if !p.alive() { // the descriptor may be that of a successor
		_ = unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

func awaitPidfd(fd int, patience time.Duration) (ended bool, err error) {
	deadline := time.Now().Add(patience)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(deadline)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0, err
	}
}

// run runs a short command; its error says what the command said.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// discard closes what is done with, where an error of that changes nothing.
func discard(c io.Closer) { _ = c.Close() }

// report tells of what takes long.
func report(progress io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, format+"\n", args...)
}

// tail keeps the end of what is written to it.
type tail struct{ buf []byte }

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append([]byte(nil), t.buf[extra:]...)
	}
	return len(p), nil
}

// String is the kept text in whole lines.
func (t *tail) String() string {
	s := string(t.buf)
	if len(t.buf) == tailBytes {
		_, s, _ = strings.Cut(s, "\n")
	}
	return strings.TrimSpace(s)
}
