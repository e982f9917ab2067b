// SPDX-License-Identifier: Apache-2.0

// Package e2e runs real clusters on disposable test hosts. The scenarios are
// the txtar files in testdata; `make e2e` builds what they need and runs them.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

// Where the artefacts lie in a test host.
const (
	hostBin   = "/opt/rk"
	hostImage = hostBin + "/node-image.tar"
)

// bin is the folder with what hack/e2e.sh builds (RK_E2E_BIN).
func bin(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RK_E2E_BIN")
	if dir == "" {
		t.Skip("RK_E2E_BIN is not set: `make e2e` builds what is needed and sets it")
	}
	for _, name := range []string{"rk", "kubectl", "node-image.tar"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("RK_E2E_BIN: %v", err)
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The engines that scenarios run on.
const (
	podman = "podman"
	docker = "docker"
)

func TestTrixie(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Trixie, PodmanSocket: true})
	conformance(t, h, podman)
	runScenarios(t, h, podman, "one-node", "three-nodes", "control-planes", "kubeadm-join", "two-clusters", "nftables", "private", "failures", "faults", "load", "export", "commands", "registry", "kind-config", "kind-network", "manifests", "node-options", "custom-image")
	runIfAll(t, h, podman, "dual-stack", "many-workers")
}

// TestFullDisk has a host of its own, whose engine begins with an empty storage on a small disk.
func TestFullDisk(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Trixie, PodmanSocket: true})
	runScenarios(t, h, podman, "full-disk")
}

// TestBookworm has no podman.socket: rk starts an API service of its own.
func TestBookworm(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Bookworm})
	conformance(t, h, podman)
	runScenarios(t, h, podman, "one-node")
}

func TestSid(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Sid, PodmanSocket: true})
	conformance(t, h, podman)
	runScenarios(t, h, podman, "one-node")
}

// TestFuseOverlayfs puts the engine's storage where overlayfs does not work, so that nodes have to fall back.
func TestFuseOverlayfs(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Trixie, HomeOnOverlay: true})
	runScenarios(t, h, podman, "fuse-overlayfs")
}

// TestVM runs what a container as test host cannot show, as this machine's cgroup
// controllers may not be had in one. It is slow without KVM: RK_E2E_TIMEOUT_SCALE.
func TestVM(t *testing.T) {
	if os.Getenv("RK_E2E_VM") != "1" {
		t.Skip("needs QEMU: `make e2e-vm` sets RK_E2E_VM=1")
	}
	h := testhost.ForTest(t, testhost.Options{
		VM: true, Release: testhost.Trixie, PodmanSocket: true, Binds: []testhost.Bind{{Src: programs(t), Dst: hostBin}},
	})
	runScenarios(t, h, podman, "limits")
}

// programs is a folder with nothing but what scenarios need of bin: a VM gets a copy of it.
func programs(t *testing.T) string {
	t.Helper()
	src := bin(t)
	dst, err := os.MkdirTemp(src, "vm-") //nolint:usetesting // hard links need the same file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dst); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"rk", "kubectl", "node-image.tar"} {
		if err := os.Link(filepath.Join(src, name), filepath.Join(dst, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dst
}

// TestTrixieDocker is Docker 26.1 with its usual drivers, slirp4netns and
// builtin. The host has a Podman too, whose API service does not run.
func TestTrixieDocker(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Trixie, Docker: &testhost.Docker{}})
	conformance(t, h, docker)
	runScenarios(t, h, docker, "one-node", "three-nodes", "private", "failures", "two-engines", "load", "node-options", "kind-config")
	runIfAll(t, h, docker, "control-planes", "registry", "two-clusters", "nftables", "export", "commands", "kind-network", "dual-stack", "custom-image")
}

// TestBookwormDocker is Docker 20.10, the oldest.
func TestBookwormDocker(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Bookworm, Docker: &testhost.Docker{}})
	conformance(t, h, docker)
	runScenarios(t, h, docker, "one-node")
	runIfAll(t, h, docker, "three-nodes")
}

// TestSidDocker is Docker 28.5 with pasta, which then forwards ports, too, and
// with the RootlessKit that pasta needs for that.
func TestSidDocker(t *testing.T) {
	h := start(t, testhost.Options{Release: testhost.Sid, Docker: &testhost.Docker{Net: "pasta", Path: hostBin}})
	conformance(t, h, docker, "RK_LIVE_PORTS=implicit")
	runScenarios(t, h, docker, "one-node")
	runIfAll(t, h, docker, "three-nodes", "failures")
}

// TestDockerSlirpPorts has slirp4netns forward ports, too.
func TestDockerSlirpPorts(t *testing.T) {
	onlyAll(t)
	h := start(t, testhost.Options{Release: testhost.Trixie, Docker: &testhost.Docker{PortDriver: "slirp4netns"}})
	conformance(t, h, docker)
	runScenarios(t, h, docker, "one-node")
}

// all says that RK_E2E_ALL asks for what is too slow for each CI run.
func all() bool { return os.Getenv("RK_E2E_ALL") == "1" }

func onlyAll(t *testing.T) {
	t.Helper()
	if !all() {
		t.Skip("RK_E2E_ALL is not 1")
	}
}

func runIfAll(t *testing.T, h *testhost.Host, engine string, names ...string) {
	t.Helper()
	if all() {
		runScenarios(t, h, engine, names...)
	}
}

// start starts a host that has the artefacts, and a name server for it.
func start(t *testing.T, o testhost.Options) *testhost.Host {
	t.Helper()
	o.Binds = []testhost.Bind{{Src: bin(t), Dst: hostBin}}
	h := testhost.ForTest(t, o)
	serveNames(t, h)
	return h
}

// conformance runs the engine suite against the host's own engine, Podman's in a private API service.
func conformance(t *testing.T, h *testhost.Host, engine string, env ...string) {
	t.Helper()
	t.Run("conformance", func(t *testing.T) {
		if _, err := os.Stat(filepath.Join(bin(t), engine+".test")); err != nil {
			t.Skipf("RK_E2E_BIN has no %s.test: `make e2e` builds it", engine)
		}
		script := "set -eu\n"
		if engine == podman {
			script += `podman system service --time=0 "unix://$XDG_RUNTIME_DIR/conformance.sock" >"$XDG_RUNTIME_DIR/conformance.log" 2>&1 & trap "kill $!" EXIT
export CONTAINER_HOST="unix://$XDG_RUNTIME_DIR/conformance.sock"
until podman --remote --url "$CONTAINER_HOST" version >/dev/null 2>&1; do sleep 0.1; done
`
		}
		out, err := h.User(t.Context(), script+"export RK_LIVE_ENGINE="+engine+" RK_TESTPROG="+hostBin+"/testprog "+strings.Join(env, " ")+"\n"+
			hostBin+"/"+engine+".test -test.v -test.timeout 15m -test.run TestLive")
		t.Log(out)
		if err != nil {
			t.Fatal(err)
		}
	})
}

// runScenarios runs scenarios with rk told to use an engine.
func runScenarios(t *testing.T, h *testhost.Host, engine string, names ...string) {
	t.Helper()
	if len(names) == 0 {
		t.Fatal("no scenario is named")
	}
	prelude, err := os.ReadFile("testdata/prelude.sh")
	if err != nil {
		t.Fatal(err)
	}
	scale, err := testhost.TimeoutScale()
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{ctx: t.Context(), host: h, prelude: string(prelude), engine: engine, scale: scale}
	files := make([]string, len(names))
	for i, n := range names {
		files[i] = filepath.Join("testdata", n+".txtar")
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			env.Setenv("IMAGE", hostImage)
			env.Setenv("WAIT", fmt.Sprintf("%dm", 5*scale)) // for create: rk's default, on a slow host more
			env.Setenv("ENGINE", engine)
			env.Setenv("RK_ENGINE", engine)
			// A scenario that failed half-way must not disturb the next.
			env.Defer(func() {
				_, _ = h.User(context.WithoutCancel(t.Context()), hostBin+"/rk delete clusters --all; for r in $("+hostBin+"/rk get registries -o name); do "+hostBin+"/rk delete registry $r; done")
			})
			return h.CopyIn(t.Context(), env.WorkDir, env.WorkDir, "")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rk":      s.command("rk"),
			"kubectl": s.command("kubectl"),
			"node":    s.command(engine, "exec"), // node NAME COMMAND...
			"user":    s.user,                    // user FILE: a script of the scenario
			"root":    s.root,                    // root FILE: a script of the scenario, as root
			"finding": s.finding,                 // finding CODE STATUS [ARGS]: of rk doctor
			"repair":  s.repair,                  // repair CODE [ARGS]: as rk doctor prints it
		},
	})
}

// scenario runs the commands of scenarios as the host's unprivileged user, in
// a login session and in a copy of the scenario's folder.
type scenario struct {
	ctx     context.Context // of the test: testscript's commands have none
	host    *testhost.Host
	prelude string
	engine  string
	scale   int // of time-outs
}

func (s *scenario) command(words ...string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		s.run(ts, neg, "exec "+quote(append(words, args...)))
	}
}

func (s *scenario) user(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: user FILE")
	}
	s.run(ts, neg, ts.ReadFile(args[0]))
}

func (s *scenario) run(ts *testscript.TestScript, neg bool, script string) {
	err := s.host.Run(s.ctx, testhost.Command{
		Script: s.prelude + "\ncd " + quote([]string{ts.Getenv("WORK")}) + "\n" + script,
		Env: []string{
			"PATH=" + hostBin + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "IMAGE=" + hostImage,
			"ENGINE=" + s.engine, "RK_ENGINE=" + ts.Getenv("RK_ENGINE"), fmt.Sprintf("%s=%d", testhost.EnvTimeoutScale, s.scale),
		},
		Stdout: ts.Stdout(), Stderr: ts.Stderr(),
	})
	var exit *testhost.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		ts.Fatalf("test host: %v", err)
	case err != nil && !neg:
		ts.Fatalf("exit code %d", exit.Code)
	case err == nil && neg:
		ts.Fatalf("unexpected success")
	}
}

func quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}
