// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// program returns an ELF file with one program header.
func program(machine elf.Machine, header elf.ProgType) []byte {
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	_ = binary.Write(&b, binary.LittleEndian, h) // to memory
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(header)})
	return b.Bytes()
}

// tools is a machine's toolchain as a runner sees it.
type tools struct {
	goVersion string
	absent    []string // commands and static libraries that are not there
	libs      string   // folder of static libraries
	fails     string   // go build prints this and fails
	header    elf.ProgType
	machine   elf.Machine // what programs are made for; 0: this one

	mu    sync.Mutex
	built []string // packages
}

func newTools(t *testing.T) *tools {
	t.Helper()
	libs := t.TempDir()
	for _, lib := range []string{"c", "seccomp"} {
		if err := os.WriteFile(filepath.Join(libs, "lib"+lib+".a"), []byte(lib), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &tools{goVersion: "go1.99.0", libs: libs, header: elf.PT_LOAD}
}

func (f *tools) run(_ context.Context, dir string, _ []string, out io.Writer, name string, args ...string) error {
	if slices.Contains(f.absent, name) {
		return &exec.Error{Name: name, Err: exec.ErrNotFound}
	}
	answer := ""
	switch {
	case name == "go" && args[0] == "env":
		answer = fmt.Sprintf("warning: GOPATH set to GOROOT\n"+`{"GOVERSION": %q, "GOPROXY": "https://modules.example", "CC": "cc -m64", "PKG_CONFIG": "pkgconf"}`, f.goVersion)
	case name == "go" && args[0] == "build":
		return f.build(dir, out, args)
	case name == "cc" && args[1] == "--version":
		answer = "cc 12.2\n"
	case name == "cc":
		lib := strings.TrimPrefix(args[1], "-print-file-name=")
		if !slices.Contains(f.absent, lib) {
			lib = filepath.Join(f.libs, lib)
		}
		answer = lib + "\n"
	case name == "pkgconf":
	default:
		return fmt.Errorf("unexpected command %s %q", name, args)
	}
	_, err := io.WriteString(out, answer)
	return err
}

func (f *tools) build(dir string, out io.Writer, args []string) error {
	if f.fails != "" {
		_, err := io.WriteString(out, f.fails)
		return errors.Join(errors.New("exit status 1"), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.sum")); err != nil {
		return err
	}
	for _, s := range []string{"go: downloading example.com/m v1.0.0\nexample.com/m/sub\n# a warn", "ing: of the linker\n"} {
		if _, err := io.WriteString(out, s); err != nil {
			return err
		}
	}
	o := slices.Index(args, "-o")
	target, packages := args[o+1], args[o+2:]
	for _, p := range packages {
		f.mu.Lock()
		f.built = append(f.built, p)
		f.mu.Unlock()
		path := target
		if strings.HasSuffix(target, "/") {
			path += filepath.Base(p)
		}
		if err := os.WriteFile(path, program(stdcmp.Or(f.machine, machines[runtime.GOARCH]), f.header), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func partNamed(t *testing.T, name string) Part {
	t.Helper()
	parts := allParts(t)
	i := slices.IndexFunc(parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no part %s", name)
	}
	return parts[i]
}

func TestModuleBuildsOnce(t *testing.T) {
	t.Parallel()
	f := newTools(t)
	var events []Event
	m := &Module{Cache: filepath.Join(t.TempDir(), "cache"), Arch: runtime.GOARCH, runner: f.run,
		Report: func(e Event) { events = append(events, e) }}
	p := partNamed(t, "containerd")

	first, err := m.Fetch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range first.Files {
		names = append(names, file.Name)
		if filepath.Base(file.Path) != file.Name || file.Path != first.Path(file.Name) || len(file.SHA256) != 64 {
			t.Errorf("odd file %+v", file)
		}
	}
	if want := []string{"containerd", "containerd-shim-runc-v2", "ctr"}; !slices.Equal(names, want) {
		t.Errorf("got programs %q, want %q", names, want)
	}
	if first.Cached || len(f.built) != 3 || first.Path("runc") != "" {
		t.Errorf("cached %v, built %q, runc at %q", first.Cached, f.built, first.Path("runc"))
	}
	second, err := m.Fetch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if !second.Cached || len(f.built) != 3 {
		t.Errorf("the second time: cached %v, built %q", second.Cached, f.built)
	}
	if diff := cmp.Diff(first.Files, second.Files); diff != "" {
		t.Errorf("files differ (-first +second):\n%s", diff)
	}
	want := []Event{
		{"containerd", Downloading, "example.com/m v1.0.0"}, {"containerd", Compiling, "example.com/m/sub"},
		{"containerd", Downloading, "example.com/m v1.0.0"}, {"containerd", Compiling, "example.com/m/sub"},
		{"containerd", Done, p.Version}, {"containerd", Cached, p.Version},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	assertNoScratch(t, m.Cache, 1)
}

// assertNoScratch asserts that a cache holds so many entries and nothing else.
func assertNoScratch(t *testing.T, cache string, entries int) {
	t.Helper()
	found, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != entries {
		t.Errorf("the cache holds %v, want %d entries", found, entries)
	}
}

func TestModuleRebuildsAnEntryThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(program string) error{
		"truncated": func(program string) error { return os.Truncate(program, 3) },
		"gone":      os.Remove,
		"no manifest": func(program string) error {
			return os.Remove(filepath.Join(filepath.Dir(program), manifestName))
		},
		"manifest of something else": func(program string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(program), manifestName), []byte(`{"files":[{"name":"../x"}]}`), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newTools(t)
			m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH, runner: f.run}
			p := partNamed(t, "crictl")
			first, err := m.Fetch(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(first.Files[0].Path); err != nil {
				t.Fatal(err)
			}
			second, err := m.Fetch(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first.Files, second.Files); second.Cached || diff != "" {
				t.Errorf("cached %v, files (-first +second):\n%s", second.Cached, diff)
			}
			assertNoScratch(t, m.Cache, 1)
		})
	}
}

func TestModuleRebuildsForOtherLibraries(t *testing.T) {
	t.Parallel()
	f := newTools(t)
	m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH, runner: f.run}
	p := partNamed(t, "runc")
	if _, err := m.Fetch(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.libs, "libseccomp.a"), []byte("fixed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := m.Fetch(t.Context(), p); err != nil || b.Cached {
		t.Errorf("cached %v, error %v", b.Cached, err)
	}
}

func TestModuleProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part   string
		set    func(*tools, *Module)
		want   *problem.Problem
		text   string // in the error
		advice string
	}{
		"no go": {"crictl", func(f *tools, _ *Module) { f.absent = []string{"go"} },
			problem.BuildToolMissing, "part crictl is compiled by a Go toolchain", "Install Go 1.26.0 or later"},
		"old go": {"containerd", func(f *tools, _ *Module) { f.goVersion = "go1.26.5" },
			problem.BuildToolMissing, "needs go1.26.6 or later, and the Go toolchain is go1.26.5", "Install Go 1.26.6 or later"},
		"no C compiler": {"runc", func(f *tools, _ *Module) { f.absent = []string{"cc"} },
			problem.BuildToolMissing, "C compiler cc", "apt-get install gcc libc6-dev'"},
		"no libc.a": {"flannel", func(f *tools, _ *Module) { f.absent = []string{"libc.a"} },
			problem.BuildToolMissing, "static library libc.a", "apt-get install libc6-dev'"},
		"no libseccomp": {"runc", func(f *tools, _ *Module) { f.absent = []string{"libseccomp.a"} },
			problem.BuildToolMissing, "static library libseccomp.a", "apt-get install libseccomp-dev'"},
		"no pkg-config": {"runc", func(f *tools, _ *Module) { f.absent = []string{"pkgconf"} },
			problem.BuildToolMissing, "tool pkgconf", "apt-get install pkg-config'"},
		"C code for another machine": {"runc", func(_ *tools, m *Module) { m.Arch = "mips" },
			problem.BuildToolMissing, "not compiled for mips", "Build on a machine of that kind"},
		"unreachable": {"etcd", func(f *tools, _ *Module) {
			f.fails = "go: example.com/m@v1.0.0: Get \"https://modules.example/m\": dial tcp: lookup modules.example: no such host\n"
		}, problem.SourceUnreachable, "lookup modules.example: no such host", `GOPROXY (it is "https://modules.example")`},
		"refused": {"etcd", func(f *tools, _ *Module) {
			f.fails = "go: reading https://modules.example/m.zip: 403 Forbidden"
		}, problem.SourceUnreachable, "403 Forbidden", "--source dir --source-dir DIR"},
		"changed module": {"etcd", func(f *tools, _ *Module) { f.fails = "verifying m: checksum mismatch\n\nSECURITY ERROR\n" },
			problem.ChecksumMismatch, "verifying m: checksum mismatch", "go clean -modcache"},
		"full disk": {"etcd", func(f *tools, _ *Module) { f.fails = "write /x: no space left on device\n" },
			problem.DiskFull, "part etcd", "GOCACHE"},
		"code": {"etcd", func(f *tools, _ *Module) { f.fails = "# example.com/m\nm.go:1:1: syntax error\n" },
			problem.BuildFailed, "m.go:1:1: syntax error", "run the same command again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newTools(t)
			m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH, runner: f.run}
			c.set(f, m)
			_, err := m.Fetch(t.Context(), partNamed(t, c.part))
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want a problem %s", err, c.want.Code)
			}
			if p, _ := problem.Of(err); !strings.Contains(p.Advice, c.advice) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q with advice %q lacks %q or %q", err, p.Advice, c.text, c.advice)
			}
			assertNoScratch(t, m.Cache, 0)
		})
	}
}

// Flannel has C code for amd64 alone.
func TestModuleBuildsFlannelForAnotherMachine(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH == "arm64" {
		t.Skip("the machine of the test is the other one")
	}
	f := newTools(t)
	f.machine = elf.EM_AARCH64
	m := &Module{Cache: t.TempDir(), Arch: "arm64", runner: f.run}
	if _, err := m.Fetch(t.Context(), partNamed(t, "flannel")); err != nil {
		t.Error(err)
	}
}

func TestModuleRefusesADynamicProgram(t *testing.T) {
	t.Parallel()
	f := newTools(t)
	f.header = elf.PT_INTERP
	m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH, runner: f.run}
	_, err := m.Fetch(t.Context(), partNamed(t, "crictl"))
	if err == nil || !strings.Contains(err.Error(), "crictl is dynamically linked") {
		t.Errorf("got error %v", err)
	}
	assertNoScratch(t, m.Cache, 0)
}

func TestModuleStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newTools(t)
	m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH}
	m.runner = func(ctx context.Context, dir string, env []string, out io.Writer, name string, args ...string) error {
		if args[0] == "build" {
			cancel()
			return ctx.Err()
		}
		return f.run(ctx, dir, env, out, name, args...)
	}
	if _, err := m.Fetch(ctx, partNamed(t, "crictl")); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
	assertNoScratch(t, m.Cache, 0)
}

// The pause program needs no network, so the real go tool can build it here,
// at two places with the same result.
func TestModuleBuildsPauseReproducibly(t *testing.T) {
	t.Parallel()
	p := partNamed(t, "pause")
	var builds [2]Built
	for i := range builds {
		m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH}
		var err error
		if builds[i], err = m.Fetch(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := builds[0].Files[0], builds[1].Files[0]; a.SHA256 != b.SHA256 {
		t.Errorf("%s is %s, %s is %s", a.Path, a.SHA256, b.Path, b.SHA256)
	}
	out, err := exec.CommandContext(t.Context(), builds[0].Path("pause"), "--version").Output()
	if want := "pause " + p.Version + "\n"; err != nil || string(out) != want {
		t.Errorf("pause --version prints %q (%v), want %q", out, err, want)
	}
}
