// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of this file boot hosts; they need root and RK_E2E=1.

func TestMain(m *testing.M) {
	if path := os.Getenv("RK_TESTHOST_OWNER"); path != "" {
		own(&base{path: path})
	}
	os.Exit(m.Run())
}

// own is the process that owns a host and gets killed: it starts one, reports it and blocks.
func own(b *base) {
	h, err := b.start(context.Background(), Options{Name: "orphan", Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(h.state)
	select {}
}

// ownBase is a base of the test's own, with its own bridge, that shares the cached root
// file system.
func ownBase(t *testing.T) *base {
	t.Helper()
	if os.Getenv(EnvE2E) != "1" {
		t.Skipf("needs root and systemd-nspawn: set %s=1", EnvE2E)
	}
	rootfs, err := Build(t.Context(), Trixie, &logWriter{t: t})
	if err != nil {
		t.Fatal(err)
	}
	b := &base{path: t.TempDir()}
	if err := os.Symlink(filepath.Dir(rootfs), filepath.Join(b.path, filepath.Base(filepath.Dir(rootfs)))); err != nil {
		t.Fatal(err)
	}
	return b
}

// startOwner runs a process that owns a host in b.
func startOwner(t *testing.T, b *base) (*exec.Cmd, state) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "RK_TESTHOST_OWNER="+b.path)
	cmd.Stderr = &logWriter{t: t}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("owner: %v, %v", err, cmd.Wait())
	}
	var s state
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatal(err)
	}
	if !s.Supervisor.alive() || !s.Leader.alive() {
		t.Fatalf("not running: %+v", s)
	}
	return cmd, s
}

func kill(t *testing.T, p process) {
	t.Helper()
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// await waits for the end of a process that this test did not start.
func await(t *testing.T, p process) {
	t.Helper()
	fd, err := p.open()
	if err != nil || fd < 0 {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	defer func() { _ = syscall.Close(fd) }()
	if ended, err := awaitPidfd(fd, time.Minute); err != nil || !ended {
		t.Fatalf("process %d does not end: %v", p.PID, err)
	}
}

// checkGone fails when anything of the host is left: the caller has awaited its removal.
func checkGone(t *testing.T, b *base, s state) {
	t.Helper()
	for _, p := range []process{s.Owner, s.Supervisor, s.Leader} {
		if p.PID != os.Getpid() && p.alive() {
			t.Errorf("process %d is alive", p.PID)
		}
	}
	if _, err := os.Stat(b.hosts()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", b.hosts(), err)
	}
	for _, device := range []string{"vb-" + s.ID, s.Bridge} {
		if _, err := net.InterfaceByName(device); err == nil {
			t.Errorf("network device %s is left", device)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/rk-testhost-", "/sys/fs/cgroup/*/rk-testhost-", "/sys/fs/cgroup/*.slice/rk-testhost-"} {
		if left, _ := filepath.Glob(pattern + s.ID + "*"); left != nil {
			t.Errorf("cgroups are left: %q", left)
		}
	}
	// Processes and mounts, wherever they are: every one mentions the host's directory.
	for _, pattern := range []string{"/proc/[0-9]*/mountinfo", "/proc/[0-9]*/cmdline"} {
		files, err := filepath.Glob(pattern)
		if err != nil || files == nil {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			if data, _ := os.ReadFile(file); strings.Contains(string(data), s.ID) {
				t.Errorf("%s mentions the host", file)
			}
		}
	}
}

func TestOwnerKilled(t *testing.T) {
	t.Parallel()
	b := ownBase(t)
	owner, s := startOwner(t, b)
	kill(t, s.Owner)
	_ = owner.Wait()
	await(t, s.Supervisor)
	checkGone(t, b, s)
}

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	b := ownBase(t)
	owner, s := startOwner(t, b)
	kill(t, s.Supervisor)
	await(t, s.Supervisor)
	states, err := b.list()
	if err != nil || len(states) != 1 || states[0].status() != "dead" {
		t.Fatalf("list after the supervisor died: %+v, %v", states, err)
	}
	kill(t, s.Owner)
	_ = owner.Wait()
	await(t, s.Owner)
	names, err := b.prune(t.Context())
	if err != nil || len(names) != 1 || names[0] != "orphan" {
		t.Fatalf("pruned %q, %v", names, err)
	}
	checkGone(t, b, s)
}

func TestKeepAndClose(t *testing.T) {
	t.Parallel()
	b := ownBase(t)
	h, err := b.start(t.Context(), Options{Name: "kept", Progress: &logWriter{t: t}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Keep(); err != nil {
		t.Fatal(err)
	}
	h.owner.close() // as the end of this process would
	if out, err := h.User(t.Context(), "id -un"); err != nil || out != "rk\n" {
		t.Errorf("user: %q, %v", out, err)
	}
	if names, err := b.prune(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("pruned %q, %v", names, err)
	}
	if _, err := b.start(t.Context(), Options{Name: "kept"}); err == nil || !strings.Contains(err.Error(), "testhost down kept") {
		t.Errorf("a second host of that name: %v", err)
	}
	other := &Host{base: b, state: h.state} // as another process has it
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, b, h.state)
}

func TestBootFails(t *testing.T) {
	t.Parallel()
	b := ownBase(t)
	h, err := b.start(t.Context(), Options{Name: "late", BootTimeout: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "boot is not complete after 1ms") {
		t.Errorf("start: %v", err)
	}
	if h != nil {
		t.Errorf("a host that did not boot: %+v", h)
	}
	if _, err := os.Stat(b.hosts()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left", b.hosts())
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	h := ForTest(t, Options{Binds: []Bind{{Src: "/etc/os-release", Dst: "/mnt/a:b"}}, PodmanSocket: true})
	ctx := t.Context()

	t.Run("a real login session", func(t *testing.T) {
		out, err := h.User(ctx, `loginctl show-user rk --property=Linger --value
systemctl --user is-system-running
test -S $XDG_RUNTIME_DIR/podman/podman.sock && pwd
sed -n s,^0::/,,p /proc/self/cgroup | cut -d/ -f1,2; cat /proc/self/uid_map | wc -l; grep -c rk:100000:65536 /etc/subuid`)
		want := "yes\nrunning\n/home/rk\nuser.slice/user-1000.slice\n1\n1\n"
		if err != nil || out != want {
			t.Errorf("got %q, %v; want %q", out, err, want)
		}
	})
	t.Run("streams and exit code", func(t *testing.T) {
		var stdout, stderr strings.Builder
		err := h.Run(ctx, Command{
			Script: `x=$(cat); echo "out $x ${A}" '$HOME'; echo err >&2; exit 3`, Env: []string{"A=b c"},
			Stdin: strings.NewReader("in"), Stdout: &stdout, Stderr: &stderr,
		})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "err" {
			t.Errorf("error %#v", err)
		}
		if stdout.String() != "out in b c $HOME\n" || stderr.String() != "err\n" {
			t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
		}
	})
	t.Run("cancel kills everything", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			done <- h.Run(ctx, Command{Script: "(trap '' TERM HUP; exec -a straggler sleep 1000) & echo started; wait", Stdout: w})
		}()
		if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "started\n" {
			t.Fatalf("%q, %v", line, err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if out, err := h.Root(t.Context(), "pgrep -f '^straggler'"); err == nil {
			t.Errorf("left: %s", out)
		}
	})
	t.Run("binds are read-only", func(t *testing.T) {
		if _, err := h.Root(ctx, "grep -q ^ID= /mnt/a:b && ! touch /mnt/a:b"); err != nil {
			t.Error(err)
		}
	})
	t.Run("journal", func(t *testing.T) {
		var journal strings.Builder
		if _, err := h.Root(ctx, "logger -t e2e a-message"); err != nil {
			t.Fatal(err)
		}
		if err := h.Journal(ctx, &journal); err != nil || !strings.Contains(journal.String(), "a-message") {
			t.Errorf("%v, %d bytes", err, journal.Len())
		}
	})
}

func TestCopy(t *testing.T) {
	t.Parallel()
	h := ForTest(t, Options{})
	ctx, dir := t.Context(), t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(tree, "sub", "a tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.CopyIn(ctx, tree, "/home/rk/new/tree", ""); err != nil {
		t.Fatal(err)
	}
	if err := h.CopyIn(ctx, tool, "/usr/local/bin/tool", "root"); err != nil {
		t.Fatal(err)
	}
	out, err := h.User(ctx, "new/tree/sub/'a tool'; tool; stat -c '%U %a' new new/tree/sub/* /usr/local/bin/tool; echo back >new/tree/back; chmod 600 new/tree/back")
	if want := "ran\nran\nrk 755\nrk 755\nroot 755\n"; err != nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
	if err := h.CopyOut(ctx, "/home/rk/new/tree", filepath.Join(dir, "out", "tree")); err != nil {
		t.Fatal(err)
	}
	if err := h.CopyOut(ctx, "/home/rk/new/tree/back", filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"out/tree/back", "one"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		info, statErr := os.Stat(filepath.Join(dir, file))
		if err != nil || statErr != nil || string(data) != "back\n" || info.Mode() != 0o600 {
			t.Errorf("%s: %q, %v, %v", file, data, info, err)
		}
	}
	for name, err := range map[string]error{
		"in, not allowed": h.CopyIn(ctx, tool, "/usr/local/bin/tool", UserName),
		"out, missing":    h.CopyOut(ctx, "/no/such", filepath.Join(dir, "x")),
	} {
		if err == nil {
			t.Errorf("copy %s: no error", name)
		}
	}
}

func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	one, two := ForTest(t, Options{}), ForTest(t, Options{})
	if one.Addr() == two.Addr() {
		t.Fatalf("both have %s", one.Addr())
	}
	if _, err := one.User(t.Context(), "ping -c1 -W5 "+two.Addr()); err != nil {
		t.Error(err)
	}
	if out, err := two.User(t.Context(), "hostname; ip -4 -o address show dev host0"); err != nil || !strings.HasPrefix(out, two.Name()+"\n") || !strings.Contains(out, two.Addr()+"/24") {
		t.Errorf("%q, %v", out, err)
	}
}

// TestPodman runs a container on each release's rootless Podman, from an image that is
// made of a static program of the host's own.
func TestPodman(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		o             Options
		version       string
		fuseOverlayfs bool
	}{
		"bookworm":        {Options{Release: Bookworm}, "4.3.", false},
		"trixie":          {Options{Release: Trixie}, "5.4.", false},
		"sid":             {Options{Release: Sid}, "5.", false},
		"home on overlay": {Options{Release: Trixie, HomeOnOverlay: true}, "5.4.", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := ForTest(t, tt.o)
			out, err := h.User(t.Context(), `podman info --format '{{.Version.Version}} {{.Store.GraphDriverName}} {{.Host.Security.Rootless}}'`)
			if err != nil || !strings.HasPrefix(out, tt.version) || !strings.HasSuffix(out, " overlay true\n") {
				t.Fatalf("podman info: %q, %v", out, err)
			}
			out, err = h.User(t.Context(), `set -e; mkdir image; cp /sbin/ldconfig image; cd image
printf 'FROM scratch\nCOPY ldconfig /\n' >Containerfile
podman build --quiet --network=none --tag=localhost/hello . >&2
podman run --rm --pids-limit=0 localhost/hello /ldconfig --version | head -1
podman network create two >&2
podman run --rm --pids-limit=0 --network=two --publish=127.0.0.1:8080:80 localhost/hello /ldconfig --version | head -1`)
			if err != nil || strings.Count(out, "ldconfig (") != 2 {
				t.Errorf("podman run: %q, %v", out, err)
			}
			_, err = h.User(t.Context(), "grep -qw true .local/share/containers/storage/overlay/.has-mount-program")
			if (err == nil) != tt.fuseOverlayfs {
				t.Errorf("fuse-overlayfs in use: %t, want %t", err == nil, tt.fuseOverlayfs)
			}
		})
	}
}
