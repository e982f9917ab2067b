// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

//go:embed supervisor.sh
var supervisorScript string

// supervisor is the process that runs a host and removes it; see supervisor.sh.
type supervisor struct {
	process
	life    *os.File // the host lives as long as this is open, or "keep" was written to it
	console *os.File
	notify  *net.UnixConn
	exited  chan struct{}
}

// supervisorCommand is not bound to a context: it has to outlive it, to clean up.
func supervisorCommand(args ...string) *exec.Cmd {
	args = append([]string{"--mount", "--", "bash", "-s", "--"}, args...)
	cmd := exec.Command("unshare", args...) //nolint:noctx // see above
	cmd.Stdin = strings.NewReader(supervisorScript)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// onSystemd tells whether systemd runs this machine: it then has to delegate a cgroup.
func onSystemd() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// supervise starts the supervisor of a host: command is systemd-nspawn on the root file
// system rootfs, or where that is "" a VM's QEMU.
func supervise(id, dir, bridge, rootfs string, command []string) (_ *supervisor, err error) {
	// systemd-nspawn reports the leader's process id and the end of the boot as sd_notify(3) says.
	socket := "@rk-testhost-" + id
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	console, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		discard(notify)
		return nil, err
	}
	s := &supervisor{console: console, notify: notify, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	scope := "plain"
	if onSystemd() {
		scope = "scope"
	}
	cmd := supervisorCommand(append([]string{"run", dir, bridge, rootfs, scope}, command...)...)
	if onSystemd() {
		run := []string{"systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--unit=rk-testhost-" + id, "--"}
		scoped := exec.Command(run[0], append(run[1:], cmd.Args...)...) //nolint:noctx // as supervisorCommand
		scoped.Stdin, scoped.SysProcAttr = cmd.Stdin, cmd.SysProcAttr
		cmd = scoped
	}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	cmd.Stdout, cmd.Stderr = console, console
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.life = w
	cmd.ExtraFiles = []*os.File{r}
	err = cmd.Start()
	discard(r)
	if err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	s.process, err = findProcess(cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("supervisor ended at once: %w\n%s", err, s.consoleTail())
	}
	return s, nil
}

// waitReady waits until the host's systemd has finished its boot and returns the process
// id of that systemd.
func (s *supervisor) waitReady(ctx context.Context) (leader int, err error) {
	defer discard(s.notify)
	type result struct {
		leader int
		err    error
	}
	ready := make(chan result, 1)
	go func() {
		leader, err := s.readNotify()
		ready <- result{leader, err}
	}()
	select {
	case r := <-ready:
		return r.leader, r.err
	case <-s.exited:
		return 0, fmt.Errorf("the host ended during its boot:\n%s", s.consoleTail())
	case <-ctx.Done():
		return 0, fmt.Errorf("%w; last lines of its console:\n%s", context.Cause(ctx), s.consoleTail())
	}
}

// readNotify reads messages until the one that tells the end of the boot.
func (s *supervisor) readNotify() (leader int, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := s.notify.Read(buf)
		if err != nil {
			return 0, err
		}
		pid, ready := parseNotify(string(buf[:n]))
		if pid != 0 {
			leader = pid
		}
		if ready && leader == 0 {
			return 0, errors.New("systemd-nspawn did not tell the leader's process id")
		}
		if ready {
			return leader, nil
		}
	}
}

// parseNotify reads one message of the sd_notify protocol.
func parseNotify(message string) (leader int, ready bool) {
	for line := range strings.Lines(message) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "X_NSPAWN_LEADER_PID":
			leader, _ = strconv.Atoi(value)
		case "READY":
			ready = value == "1"
		}
	}
	return leader, ready
}

func (s *supervisor) keep() error {
	_, err := s.life.WriteString("keep\n")
	return err
}

// stop makes the supervisor remove the host and waits for that.
func (s *supervisor) stop() error {
	s.close()
	return s.terminate(closeTimeout)
}

func (s *supervisor) close() {
	discard(s.notify)
	discard(s.console)
	if s.life != nil {
		discard(s.life)
	}
}

func (s *supervisor) consoleTail() string {
	var t tail
	buf := make([]byte, 16<<10)
	if info, err := s.console.Stat(); err == nil {
		n, _ := s.console.ReadAt(buf, max(0, info.Size()-int64(len(buf))))
		_, _ = t.Write(buf[:n])
	}
	return t.String()
}
