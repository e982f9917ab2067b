// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const userSocket = "podman/podman.sock"

// dial connects and returns the socket that was found.
func (h *host) dial() string {
	h.Helper()
	e, err := h.podman(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := e.Close(); err != nil {
			h.Error(err)
		}
	})
	info, err := e.Info(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	return info.Socket
}

func TestFound(t *testing.T) {
	t.Run("user socket", func(t *testing.T) {
		h := newHost(t)
		want := "unix://" + h.serve(userSocket, "4.3.1", true)
		if got := h.dial(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("CONTAINER_HOST goes first", func(t *testing.T) {
		h := newHost(t)
		h.serve(userSocket, "5.4.2", true)
		h.env["CONTAINER_HOST"] = "unix://" + h.serve("other.sock", "5.4.2", true)
		if got := h.dial(); got != h.env["CONTAINER_HOST"] {
			t.Errorf("got %s", got)
		}
	})
	t.Run("CONTAINER_HOST needs no session", func(t *testing.T) {
		h := newHost(t)
		h.env["CONTAINER_HOST"] = "unix://" + h.serve("other.sock", "5.4.2", true)
		h.env["XDG_RUNTIME_DIR"] = ""
		if got := h.dial(); got != h.env["CONTAINER_HOST"] {
			t.Errorf("got %s", got)
		}
	})
	t.Run("active unit", func(t *testing.T) {
		h := newHost(t)
		h.install("systemctl")
		path := h.serve("elsewhere.sock", "5.4.2", true)
		h.write("unit", "ActiveState=active\nListen="+path+" (Stream)\n")
		h.stale(userSocket)
		if got := h.dial(); got != "unix://"+path {
			t.Errorf("got %s", got)
		}
	})
	t.Run("root of a user namespace", func(t *testing.T) {
		h := newHost(t)
		h.uid = 0
		h.listener(0)
		h.env["CONTAINER_HOST"] = "unix://" + h.serve("other.sock", "5.4.2", true)
		if got := h.dial(); got != h.env["CONTAINER_HOST"] {
			t.Errorf("got %s", got)
		}
	})
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(h *host)
		want *problem.Problem
		text string
	}{
		{"no such socket", func(h *host) { h.env["CONTAINER_HOST"] = "unix://" + h.dir + "/none.sock" }, problem.EngineUnreachable, "there is no such socket"},
		{"stale socket", func(h *host) { h.env["CONTAINER_HOST"] = "unix://" + h.stale("x.sock") }, problem.EngineUnreachable, "left by a service that has ended"},
		{"no permission", func(h *host) {
			h.env["CONTAINER_HOST"] = "unix://" + h.dir + "/x.sock"
			h.peer = func(context.Context, string) (int, error) { return 0, os.NewSyscallError("connect", syscall.EACCES) }
		}, problem.EngineUnreachable, "belongs to another user"},
		{"another machine", func(h *host) { h.env["CONTAINER_HOST"] = "ssh://user@host/run/podman.sock" }, problem.EngineUnreachable, "CONTAINER_HOST=ssh://user@host/run/podman.sock does not name a unix socket"},
		{"relative path", func(h *host) { h.env["CONTAINER_HOST"] = "unix://podman.sock" }, problem.EngineUnreachable, "does not name a unix socket"},
		{"root's socket by name", func(h *host) { h.env["CONTAINER_HOST"] = "unix:///run/podman/podman.sock" }, problem.EngineRootful, "CONTAINER_HOST=unix:///run/podman/podman.sock is the socket of root's Podman"},
		{"root's socket by owner", func(h *host) {
			h.env["CONTAINER_HOST"] = "unix://" + h.serve("x.sock", "5.4.2", false)
			h.listener(0)
		}, problem.EngineRootful, "belongs to root"},
		{"root asks root's", func(h *host) {
			h.env["CONTAINER_HOST"] = "unix://" + h.serve("x.sock", "5.4.2", false)
			h.uid = 0
			h.listener(0)
		}, problem.EngineRootful, "runs as root"},
		{"root", func(h *host) { h.uid = 0 }, problem.EngineRootful, "rk runs as root"},
		{"old Podman 4", func(h *host) { h.serve(userSocket, "4.2.0", true) }, problem.EngineTooOld, "it is 4.2.0, and 4.3 is needed"},
		{"Podman 3", func(h *host) { h.serve(userSocket, "3.4.4", true) }, problem.EngineTooOld, "3.4.4"},
		{"not installed", func(h *host) { h.stale(userSocket) }, problem.NoEngine, "Podman is not installed"},
		{"in the working directory only", func(h *host) { h.env["PATH"] = ".:" }, problem.NoEngine, "Podman is not installed"},
		{"no runtime directory", func(h *host) { h.env["XDG_RUNTIME_DIR"] = h.dir + "/none" }, problem.NoUserSession, "/none does not exist"},
		{"no session", func(h *host) {
			h.env["XDG_RUNTIME_DIR"] = ""
			h.uid = 1<<31 - 2
		}, problem.NoUserSession, "XDG_RUNTIME_DIR is not set, and its usual value /run/user/2147483646 does not exist"},
		{"another user's session", func(h *host) { h.uid++ }, problem.NoUserSession, "belongs to another user"},
		{"service fails", func(h *host) {
			h.install("podman")
			h.write("behaviour", "fail")
		}, problem.EngineServiceFailed, "exit status 125: Error: cannot set up namespace using newuidmap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.set(h)
			e, err := h.podman(t.Context())
			if err == nil {
				t.Fatal("connected", e.Close())
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v\nwant %s with %q", err, c.want.Code, c.text)
			}
		})
	}
	t.Run("unknown engine", func(t *testing.T) {
		t.Parallel()
		if _, _, err := Dial(t.Context(), Options{Engine: "lxc"}); !errors.Is(err, problem.InvalidUsage) {
			t.Errorf("got %v", err)
		}
		if _, _, err := DialAll(t.Context(), Options{Env: func(string) string { return "lxc" }}); !errors.Is(err, problem.InvalidUsage) || !strings.Contains(err.Error(), "RK_ENGINE=lxc") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPrivateService(t *testing.T) {
	h := newHost(t)
	h.install("podman")
	e, err := h.podman(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(strings.TrimPrefix(info.Socket, "unix://"))
	stat, err := os.Stat(dir)
	if err != nil || stat.Mode().Perm() != 0o700 || filepath.Dir(dir) != h.dir {
		t.Errorf("socket directory %s: %v, %v", dir, stat, err)
	}
	// Ctrl-C in a terminal goes to a process group; the service is in its own.
	pid := h.servicePID()
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process group %d of %d, %v", group, pid, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil { // once more
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "ended")); err != nil {
		t.Errorf("the service was not ended in peace: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket directory is left: %v", err)
	}
	if _, err := e.Info(t.Context()); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPrivateServiceLeavesNoOrphan(t *testing.T) {
	h := newHost(t)
	h.install("podman")
	h.write("behaviour", "orphan")
	e, err := h.podman(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := h.servicePID()
	if err := e.Close(); err != nil { // and it does not wait for who keeps its standard error open
		t.Error(err)
	}
	// The orphan has been killed; it is gone when its new parent has noticed.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for running(pid) {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the service is left")
		}
	}
}

// running reports whether a process is there and no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestPrivateServiceCancelled(t *testing.T) {
	h := newHost(t)
	h.install("podman")
	h.write("behaviour", "hang")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		h.servicePID() // it runs
		cancel()
	}()
	if _, err := h.podman(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(h.servicePID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the service is left: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "rk-podman-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// servicePID waits until the fake service has written its process id.
func (h *host) servicePID() int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(filepath.Join(h.dir, "pid"))
		if pid, convErr := strconv.Atoi(string(b)); err == nil && convErr == nil {
			return pid
		}
		select {
		case <-tick.C:
		case <-h.Context().Done():
			return 0
		}
	}
}

func TestPeerUID(t *testing.T) {
	h := newHost(t)
	uid, err := peerUID(t.Context(), h.serve("x.sock", "5.4.2", true))
	if err != nil || uid != os.Getuid() {
		t.Errorf("uid %d, %v", uid, err)
	}
}

func TestParseUnit(t *testing.T) {
	t.Parallel()
	for show, want := range map[string]string{
		"ActiveState=active\nListen=/run/user/1000/podman/podman.sock (Stream)\n": "/run/user/1000/podman/podman.sock",
		"Listen=/a.sock (Stream)\nListen=/b.sock (Stream)\nActiveState=active\n":  "/a.sock",
		"Listen=/a (FIFO)\nListen=/b.sock (Stream)\nActiveState=active\n":         "/b.sock",
		"ActiveState=inactive\nListen=/a.sock (Stream)\n":                         "",
		"ActiveState=active\nListen=127.0.0.1:8080 (Stream)\n":                    "",
		"ActiveState=active\n": "",
		"":                     "",
	} {
		got, err := parseUnit(show)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", show, got, err)
		}
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "stderr")
	if err := os.WriteFile(name, []byte(strings.Repeat("ab\n", keptStderr)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if got := (&service{stderr: f}).said(); len(got) > keptStderr || !strings.HasSuffix(got, "ab\nab") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
