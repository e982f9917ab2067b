// SPDX-License-Identifier: Apache-2.0

// Package hack holds what the repository is checked and built with. These
// tests enforce the architecture of DESIGN.md: who may import what, one
// package for each third-party library, and a pure ring without I/O.
package hack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/rootless-kubernetes/rk/"

// layers says for each package which packages of this module its code may
// import. Tests may import more: they stand above all layers.
var layers = map[string][]string{
	"cmd/rk": {"pkg/cli", "pkg/problem"},

	"pkg/cli": {
		"docs", "images", "pkg/cluster", "pkg/config", "pkg/engine", "pkg/engine/connect", "pkg/imagearchive", "pkg/kindcompat", "pkg/kube", "pkg/manifest", "pkg/nodeimage", "pkg/nodeimage/part",
		"pkg/plan", "pkg/preflight", "pkg/problem", "pkg/redact", "pkg/step", "pkg/ui",
	},
	"pkg/cluster":    {"pkg/authfile", "pkg/config", "pkg/engine", "pkg/group", "pkg/imagearchive", "pkg/kube", "pkg/node", "pkg/pki", "pkg/plan", "pkg/problem", "pkg/redact", "pkg/step"},
	"pkg/kindcompat": {"pkg/config", "pkg/engine", "pkg/group", "pkg/node", "pkg/patch", "pkg/plan", "pkg/problem"},
	"pkg/kube":       {"pkg/group", "pkg/problem"},
	"pkg/kustomize":  {},
	"pkg/manifest":   {"pkg/config", "pkg/kustomize", "pkg/plan", "pkg/problem", "pkg/redact"},

	"pkg/imagearchive": {"pkg/problem"},

	"pkg/node":          {"pkg/engine", "pkg/problem"},
	"pkg/redact":        {},
	"pkg/node/nodetest": {"pkg/engine", "pkg/imagearchive"},
	"pkg/preflight":     {"pkg/authfile", "pkg/config", "pkg/engine", "pkg/nodeimage", "pkg/plan", "pkg/problem"},
	"pkg/ui":            {"pkg/problem", "pkg/step"},

	"pkg/engine/connect":    {"pkg/engine", "pkg/engine/docker", "pkg/engine/podman", "pkg/problem"},
	"pkg/engine/docker":     {"pkg/engine", "pkg/engine/multiplex"},
	"pkg/engine/podman":     {"pkg/engine", "pkg/engine/multiplex", "pkg/group"},
	"pkg/engine/multiplex":  {},
	"pkg/engine/enginetest": {"pkg/engine", "pkg/engine/enginetest/internal/..."},

	"pkg/nodeimage":       {"images", "node-image", "pkg/imagearchive", "pkg/nodeimage/part", "pkg/problem", "pkg/render", "pkg/step"},
	"pkg/nodeimage/fetch": {"pkg/problem"},
	"pkg/nodeimage/part":  {"images", "images/pause", "node-image", "node-image/await", "node-image/registry", "pkg/nodeimage/fetch", "pkg/problem"},

	// The pure ring and the data that it reads.
	"pkg/authfile": {},
	"pkg/config":   {"pkg/problem"},
	"pkg/engine":   {},
	"pkg/pki":      {},
	"pkg/kubeadm":  {"pkg/config", "pkg/patch"},
	"pkg/patch":    {},
	"pkg/plan": {
		"images", "node-image", "node-image/templates", "pkg/config", "pkg/engine", "pkg/kubeadm", "pkg/patch", "pkg/pki", "pkg/problem", "pkg/render",
	},
	"pkg/problem":          {},
	"pkg/render":           {},
	"pkg/group":            {},
	"pkg/step":             {"pkg/group"},
	"docs":                 {},
	"images":               {},
	"images/pause":         {},
	"node-image":           {},
	"node-image/await":     {},
	"node-image/registry":  {},
	"node-image/templates": {},

	"hack":          {},
	"e2e":           {"e2e/testhost"},
	"e2e/testhost":  {},
	"e2e/cmd/bench": {"e2e/testhost"}, "e2e/cmd/testhost": {"e2e/testhost"},
}

// Programs that run in a container, and have nothing to do with rk's code.
var standalone = []string{"images/pause/pause", "node-image/await/await", "pkg/engine/enginetest/testprog", "pkg/engine/enginetest/internal/prog"}

// pure is the ring without I/O, clock and randomness: same input, same result.
var pure = []string{"pkg/authfile", "pkg/config", "pkg/engine", "pkg/pki", "pkg/plan", "pkg/problem", "pkg/render", "pkg/step", "pkg/group", "pkg/engine/multiplex", "pkg/kubeadm", "pkg/patch"}

// impure is what the ring does without. (Not the whole of net: its types for addresses are values.)
var impure = []string{"os", "os/exec", "os/signal", "os/user", "net/http", "net/rpc", "net/smtp", "syscall", "math/rand", "math/rand/v2", "crypto/rand"}

type library struct {
	prefix string
	owners []string // nil: every package
}

// libraries says which package may import a third-party library, and why
// there is more than one where there is. A library that is not listed may
// not be imported: decide first who owns it.
var libraries = []library{
	{"github.com/docker/docker", []string{"pkg/engine/docker"}},
	{"github.com/docker/go-connections", []string{"pkg/engine/docker"}}, // ports in its API's structs
	{"github.com/containerd/errdefs", []string{"pkg/engine/docker"}},    // the kinds of its client's errors
	{"github.com/containers/podman/v5", []string{"pkg/engine/podman"}},
	{"go.podman.io", []string{"pkg/engine/podman"}},
	{"github.com/opencontainers/runtime-spec", []string{"pkg/engine/podman"}},
	{"sigs.k8s.io/kind", []string{"pkg/kindcompat"}},
	{"sigs.k8s.io/kustomize", []string{"pkg/kustomize"}},
	{"github.com/BurntSushi/toml", []string{"pkg/patch"}},
	{"github.com/evanphx/json-patch/v5", []string{"pkg/patch"}},
	{"k8s.io/client-go", []string{"pkg/kube"}},
	{"k8s.io/api", []string{"pkg/kube"}},
	{"k8s.io/apimachinery", []string{"pkg/kube", "pkg/config"}}, // config: the rules for names and labels
	{"github.com/spf13/cobra", []string{"pkg/cli"}},
	{"github.com/Masterminds/sprig/v3", []string{"pkg/render"}},
	{"github.com/vbauerster/mpb/v8", []string{"pkg/ui"}},
	{"github.com/mattn/go-runewidth", []string{"pkg/ui"}},
	{"github.com/google/go-containerregistry", []string{"pkg/nodeimage", "pkg/engine/enginetest"}}, // the suite makes images to load
	{"go.etcd.io/bbolt", []string{"pkg/nodeimage"}},
	{"github.com/distribution/reference", []string{"pkg/config", "pkg/imagearchive"}}, // names of node images; names that pods use
	{"github.com/klauspost/compress", []string{"pkg/imagearchive"}},                   // layers that are compressed with zstd
	{"go.yaml.in/yaml/v3", []string{"pkg/config", "pkg/kindcompat", "pkg/kube"}},      // trees with line numbers (and as kind itself decodes), with comments
	{"sigs.k8s.io/yaml", nil},
	{"github.com/blang/semver/v4", nil},
	{"golang.org/x/sync", nil},
	{"golang.org/x/sys", nil},
	{"golang.org/x/term", nil},
}

// packageInfo is what these tests need of `go list -json`.
type packageInfo struct {
	ImportPath, Name, Dir string
	GoFiles, Imports      []string

	path string // without the module
}

// packages are the module's packages, with the build tags of this test.
func packages(t *testing.T) []packageInfo {
	t.Helper()
	all, err := listOnce()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var listOnce = sync.OnceValues(list)

func list() ([]packageInfo, error) {
	tags, err := buildTags()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("go", "list", "-e", "-tags", tags, "-json=ImportPath,Name,Dir,GoFiles,Imports", module+"...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []packageInfo
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p packageInfo
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		p.path = strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(standalone, p.path) {
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		return nil, fmt.Errorf("go list finds only %d packages", len(all))
	}
	return all, nil
}

// buildTags are the tags that this test was built with (TAGS of the Makefile).
func buildTags() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("the test binary has no build information")
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value, nil
		}
	}
	return "", errors.New("run this test with the build tags of the Makefile: make test")
}

func matches(importPath, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
	}
	return importPath == pattern
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		allowed, known := layers[p.path]
		if !known {
			t.Errorf("%s is not in the table of layers: say what it may import", p.path)
			continue
		}
		for _, i := range p.Imports {
			target, ours := strings.CutPrefix(i, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool { return matches(target, a) }) {
				t.Errorf("%s imports %s; it may import: %s", p.path, target, strings.Join(allowed, ", "))
			}
		}
	}
}

// The table itself keeps the rules that it was made for.
func TestLayersTable(t *testing.T) {
	t.Parallel()
	data := []string{"docs", "images", "images/pause", "node-image", "node-image/await", "node-image/registry", "node-image/templates"}
	for p, allowed := range layers {
		for _, a := range allowed {
			switch {
			case a == "pkg/cli" && p != "cmd/rk":
				t.Errorf("%s may import pkg/cli: only cmd/rk may", p)
			case a == "pkg/ui" && p != "pkg/cli":
				t.Errorf("%s may import pkg/ui: only pkg/cli may", p)
			case a == "pkg/engine/enginetest" || a == "pkg/node/nodetest":
				t.Errorf("%s may import %s: only tests may", p, a)
			case (a == "pkg/engine/podman" || a == "pkg/engine/docker") && p != "pkg/engine/connect":
				t.Errorf("%s may import the adapter %s: only pkg/engine/connect may", p, a)
			case slices.Contains(pure, p) && !slices.Contains(pure, a) && !slices.Contains(data, a):
				t.Errorf("%s is pure and may import %s, which is not", p, a)
			}
		}
	}
}

func TestPureRing(t *testing.T) {
	t.Parallel()
	found := 0
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.path) {
			continue
		}
		found++
		for _, i := range p.Imports {
			if slices.Contains(impure, i) {
				t.Errorf("%s imports %s: it must stay without I/O and randomness", p.path, i)
			}
		}
	}
	if found != len(pure) {
		t.Errorf("%d of the %d pure packages were found", found, len(pure))
	}
}

func TestOneLibraryOnePackage(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module) || !strings.Contains(strings.Split(i, "/")[0], ".") {
				continue // ours, or the standard library
			}
			at := slices.IndexFunc(libraries, func(l library) bool { return matches(i, l.prefix+"/...") })
			switch {
			case at < 0:
				t.Errorf("%s imports %s, which is not in the table of libraries: say who owns it", p.path, i)
			case libraries[at].owners != nil && !slices.Contains(libraries[at].owners, p.path):
				t.Errorf("%s imports %s; only %s may", p.path, i, strings.Join(libraries[at].owners, " and "))
			}
		}
	}
}

// forbidden are calls that only a program's main package may make, or that
// the pure ring may not make.
var forbidden = []struct {
	name  string
	where func(p packageInfo) bool // true: forbidden there
	why   string
}{
	{"os.Exit", notMain, "return an error: only a main package ends the program"},
	{"log.Fatal", notMain, "return an error: only a main package ends the program"},
	{"log.Fatalf", notMain, "return an error: only a main package ends the program"},
	{"context.Background", notMain, "take the context as the first parameter"},
	{"context.TODO", notMain, "take the context as the first parameter"},
	{"time.Now", noClock, "a pure package reads no clock: take the time as a parameter"},
	{"time.Since", noClock, "a pure package reads no clock: take the time as a parameter"},
	{"rand.Reader", isPure, "a pure package has no randomness: take a reader as a parameter"},
}

func notMain(p packageInfo) bool { return p.Name != "main" }
func isPure(p packageInfo) bool  { return slices.Contains(pure, p.path) }

// noClock: step is the one pure package that measures, for its events.
func noClock(p packageInfo) bool { return isPure(p) && p.path != "pkg/step" }

func TestForbiddenCalls(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				pos := func() string {
					return path.Join(p.path, name) + ":" + fset.Position(n.Pos()).String()[len(fset.File(n.Pos()).Name())+1:]
				}
				switch n := n.(type) {
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					if !ok {
						return true
					}
					for _, rule := range forbidden {
						if x.Name+"."+n.Sel.Name == rule.name && rule.where(p) {
							t.Errorf("%s uses %s: %s", pos(), rule.name, rule.why)
						}
					}
				case *ast.FuncDecl:
					if n.Name.Name == "init" && n.Recv == nil {
						t.Errorf("%s has an init function: wire things where they are used", pos())
					}
				}
				return true
			})
		}
	}
}

// Every Go file starts with its licence.
func TestLicenceHeader(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "_output" || name == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		data, err := os.ReadFile(file)
		if first, _, _ := strings.Cut(string(data), "\n"); err == nil && first != "// SPDX-License-Identifier: Apache-2.0" {
			t.Errorf("%s starts with %q", file, first)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
