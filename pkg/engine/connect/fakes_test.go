// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for podman and systemctl, by links
// of these names in a test's PATH.
func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "podman":
		err = fakePodman(os.Getenv("XDG_RUNTIME_DIR"))
	case "systemctl":
		err = fakeSystemctl(os.Getenv("XDG_RUNTIME_DIR"))
	case crasher:
		err = crash()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(125)
	}
}

// fakePodman is "podman system service --time=0 unix://SOCKET". The file
// "behaviour" in the runtime directory can make it misbehave; it leaves its
// process id in the file "pid".
func fakePodman(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	switch behaviour, _ := os.ReadFile(filepath.Join(dir, "behaviour")); string(behaviour) { // usually there is none
	case "fail":
		return errors.New("cannot set up namespace using newuidmap")
	case "hang":
		time.Sleep(time.Hour)
	case "orphan":
		// Podman runs itself again in its user namespace. Here the second
		// process ends neither with the first nor when asked to.
		if os.Getenv("RK_FAKE_AGAIN") == "" {
			again := exec.Command(os.Args[0], os.Args[1:]...)
			again.Env, again.Stderr = append(os.Environ(), "RK_FAKE_AGAIN=1"), os.Stderr
			return again.Run()
		}
		signal.Ignore(syscall.SIGTERM)
	}
	if len(os.Args) != 5 || !slices.Equal(os.Args[1:4], []string{"system", "service", "--time=0"}) {
		return fmt.Errorf("unexpected arguments %q", os.Args)
	}
	l, err := net.Listen("unix", strings.TrimPrefix(os.Args[4], "unix://"))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	if os.Getenv("RK_FAKE_AGAIN") == "" {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM)
	}
	defer stop()
	server := apiServer("5.4.2", true)
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "ended"), nil, 0o600)
}

// fakeSystemctl prints the file "unit" of the runtime directory.
func fakeSystemctl(dir string) error {
	if !slices.Equal(os.Args[1:], []string{"--user", "show", "podman.socket", "--property=ActiveState,Listen"}) {
		return fmt.Errorf("unexpected arguments %q", os.Args)
	}
	unit, err := os.ReadFile(filepath.Join(dir, "unit"))
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(unit)
	return err
}

// apiServer answers as much of Podman's API as connecting needs.
func apiServer(version string, rootless bool) *http.Server {
	return &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Libpod-API-Version", version)
		case strings.HasSuffix(r.URL.Path, "/info"):
			_, _ = fmt.Fprintf(w, `{"host": {"cgroupVersion": "v2", "security": {"rootless": %t}}, "version": {"Version": %q}}`, rootless, version)
		default:
			http.NotFound(w, r)
		}
	})}
}

// dockerServer answers as much of Docker's API as connecting needs.
func dockerServer(apiVersion string, rootless bool) http.Handler {
	options := `"name=seccomp,profile=builtin"`
	if rootless {
		options += `, "name=rootless"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", apiVersion)
		case strings.HasSuffix(r.URL.Path, "/version"):
			_, _ = fmt.Fprintf(w, `{"Version": "of a test", "ApiVersion": %q}`, apiVersion)
		case strings.HasSuffix(r.URL.Path, "/info"):
			_, _ = fmt.Fprintf(w, `{"ServerVersion": "of a test", "SecurityOptions": [%s]}`, options)
		default:
			http.NotFound(w, r)
		}
	})
}

// host is a user's machine.
type host struct {
	*testing.T
	dir string // XDG_RUNTIME_DIR
	bin string // PATH
	env map[string]string
	dialer
}

func newHost(t *testing.T) *host {
	t.Helper()
	t.Parallel()
	dir, err := os.MkdirTemp("", "rk-connect-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{T: t, dir: dir, bin: t.TempDir()}
	h.env = map[string]string{"XDG_RUNTIME_DIR": h.dir, "PATH": h.bin, "HOME": h.dir}
	h.dialer = dialer{env: func(k string) string { return h.env[k] }, uid: os.Getuid(), peer: peerUID}
	if h.uid == 0 { // when root runs the tests, they are of an ordinary user all the same
		h.uid = 1000
		h.listener(h.uid)
		if err := os.Chown(dir, h.uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// listener makes uid the owner of every socket that is there.
func (h *host) listener(uid int) {
	h.peer = func(ctx context.Context, path string) (int, error) {
		_, err := peerUID(ctx, path)
		return uid, err
	}
}

// install puts a command into the PATH.
func (h *host) install(name string) {
	h.Helper()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(h.bin, name))
	}
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) write(name, content string) {
	h.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600); err != nil {
		h.Fatal(err)
	}
}

// serve runs an API service at a path below the runtime directory.
func (h *host) serve(name, version string, rootless bool) string {
	h.Helper()
	return h.serveAPI(name, apiServer(version, rootless))
}

// serveDocker runs a Docker daemon at a path below the runtime directory.
func (h *host) serveDocker(name, apiVersion string, rootless bool) string {
	h.Helper()
	return h.serveAPI(name, &http.Server{ReadHeaderTimeout: time.Minute, Handler: dockerServer(apiVersion, rootless)})
}

func (h *host) serveAPI(name string, server *http.Server) string {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(h.Context(), "unix", path)
	if err != nil {
		h.Fatal(err)
	}
	go server.Serve(l) //nolint:errcheck // ends with Close
	h.Cleanup(func() { server.Close() })
	return path
}

// stale leaves a socket file that nothing listens on.
func (h *host) stale(name string) string {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		h.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	return path
}
