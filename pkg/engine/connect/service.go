// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// servicePatience bounds the start: the first Podman command after a boot
	// sets up the user namespace and the storage, seconds on a slow disk.
	servicePatience = time.Minute
	// stopPatience is how long the service may take to end before it is killed.
	stopPatience = 5 * time.Second
	// pollInterval is between two looks whether the socket is there.
	pollInterval = 10 * time.Millisecond
	// keptStderr is how much of the service's last words an error shows, in bytes.
	keptStderr = 2000
)

var errServiceSlow = errors.New("it did not listen in time")

// service is a private API service: a child process that listens on a socket
// in a directory which only the user can enter.
type service struct {
	socket string
	dir    string
	cmd    *exec.Cmd
	stderr *os.File      // a file and no pipe: Podman's pause process keeps it open for ever
	exited chan struct{} // closed when the process has ended
	err    error         // how it ended; read after exited

	once    sync.Once
	stopErr error
}

// startService runs "podman system service" on a socket of its own below
// parent and returns when it listens.
func startService(ctx context.Context, command, parent string) (_ *service, err error) {
	dir, err := os.MkdirTemp(parent, "rk-podman-") // mode 0700
	if err != nil {
		return nil, err
	}
	s := &service{dir: dir, socket: filepath.Join(dir, "podman.sock"), exited: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	s.cmd = exec.Command(command, "system", "service", "--time=0", "unix://"+s.socket) //nolint:noctx // it outlives the call; stop ends it
	s.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+parent)
	if s.stderr, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		// It dies with rk, however rk dies …
		Pdeathsig: syscall.SIGTERM,
		// … but not of a Ctrl-C in rk's terminal, after which rk needs it to clean up.
		Setpgid: true,
	}
	started := make(chan error, 1)
	go s.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return s, s.await(ctx)
}

// run starts the process and waits for its end. Pdeathsig is sent when the
// thread that started it ends (golang/go#27505), so that thread is kept.
func (s *service) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.exited)
	s.err = s.cmd.Start()
	started <- s.err
	if s.err == nil {
		s.err = s.cmd.Wait()
	}
}

// await returns when the service listens, or an error with what it said.
func (s *service) await(ctx context.Context) error {
	patience := time.NewTimer(servicePatience)
	defer patience.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for !answers(ctx, s.socket) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.exited:
			return s.complaint(s.err)
		case <-patience.C:
			return s.complaint(errServiceSlow)
		}
	}
	return nil
}

func (s *service) complaint(err error) error {
	if err == nil {
		err = errors.New("it ended") // only shown
	}
	what := strings.Join(s.cmd.Args, " ")
	if said := s.said(); said != "" {
		return fmt.Errorf("%s: %w: %s", what, err, said)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// said returns the service's last words.
func (s *service) said() string {
	data, err := os.ReadFile(s.stderr.Name())
	if err != nil {
		return "" // it is only shown
	}
	return strings.TrimSpace(string(data[max(0, len(data)-keptStderr):]))
}

// stop ends the process and removes the socket. Containers stay.
func (s *service) stop() error {
	s.once.Do(func() {
		if s.cmd != nil && s.cmd.Process != nil {
			s.terminate()
		}
		if s.stderr != nil {
			s.stopErr = s.stderr.Close()
		}
		s.stopErr = errors.Join(s.stopErr, os.RemoveAll(s.dir))
	})
	return s.stopErr
}

// terminate ends the process and what it started: Podman runs itself again in
// its user namespace, and its first process does not always pass a signal on.
func (s *service) terminate() {
	group := -s.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM) // it may have ended already
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-s.exited:
	case <-patience.C:
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-s.exited
}
