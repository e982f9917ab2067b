// SPDX-License-Identifier: Apache-2.0

package part

import (
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func load(t *testing.T) *Versions {
	t.Helper()
	v, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// allParts returns the parts of all releases, each once.
func allParts(t *testing.T) []Part {
	t.Helper()
	v := load(t)
	var out []Part
	for _, r := range v.Kubernetes.Releases {
		out = append(out, kubernetes(r))
	}
	return append(out, v.For(v.Kubernetes.Releases[0])[1:]...)
}

func TestEveryRecipeIsPinned(t *testing.T) {
	t.Parallel()
	v := load(t)
	for name := range recipes {
		if v.Version(name) == "" {
			t.Errorf("versions.yaml has no version of part %s", name)
		}
	}
	if got := v.Version("nonesuch"); got != "" {
		t.Errorf("an unknown part has version %q", got)
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	v := load(t)
	for in, want := range map[string]string{
		"":        "v1.36.3",
		"v1.36.3": "v1.36.3",
		"1.35.4":  "v1.35.4",
		"1.34":    "v1.34.4",
		"v1.34":   "v1.34.4",
	} {
		if r, err := v.Release(in); err != nil || r.Version != want {
			t.Errorf("Release(%q) = %s, %v, want %s", in, r.Version, err, want)
		}
	}
	for _, in := range []string{"v1.36.2", "1.3", "1", "latest"} {
		_, err := v.Release(in)
		p, ok := problem.Of(err)
		if !ok || !errors.Is(err, problem.KubernetesUnknown) {
			t.Errorf("Release(%q) gives the error %v", in, err)
			continue
		}
		if want := "v1.36.3, v1.35.4, v1.34.4"; !strings.Contains(p.Advice, want) {
			t.Errorf("Release(%q) advises %q, which does not list %s", in, p.Advice, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const good = `
debian: {suite: trixie}
kubernetes:
  default: v1.36.3
  releases:
  - {version: v1.36.3, released: 2026-07-22T18:07:38Z, asksFor: {etcd: "1", coredns: "2", pause: "3"}}
parts:
- {name: runc, module: github.com/opencontainers/runc, version: v1.5.2}
`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":     {"debian:", "devuan: {}\ndebian:", `unknown field "devuan"`},
		"no suite":          {"suite: trixie", "", "debian.suite is missing"},
		"short version":     {"- {version: v1.36.3", "- {version: v1.36", `"v1.36" is not of the form v1.2.3`},
		"no release time":   {"released: 2026-07-22T18:07:38Z, ", "", "has no release time"},
		"unlisted default":  {"default: v1.36.3", "default: v1.36.2", `"v1.36.2"`},
		"unknown part":      {"name: runc", "name: rund", `no recipe for part "rund"`},
		"part's version":    {"v1.5.2", "latest", `"latest" of part runc is not of the form`},
		"part without name": {"name: runc, ", "", `no recipe for part ""`},
	} {
		_, err := Parse([]byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestForListsKubernetesFirst(t *testing.T) {
	t.Parallel()
	v := load(t)
	r, err := v.Release("1.35")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range v.For(r) {
		got = append(got, p.Name+" "+p.Version)
	}
	if len(got) != 1+len(v.Parts) || got[0] != "kubernetes-v1.35 v1.35.4" || !slices.IsSorted(got[1:]) {
		t.Errorf("got %q", got)
	}
}

// One folder can hold all programs of a node.
func TestProgramNamesAreUnique(t *testing.T) {
	t.Parallel()
	v := load(t)
	seen := map[string]string{}
	for _, p := range v.For(v.Kubernetes.Releases[0]) {
		if len(p.Binaries) == 0 {
			t.Errorf("part %s has no program", p.Name)
		}
		for _, b := range p.Binaries {
			if seen[b.Name] != "" {
				t.Errorf("%s is in the parts %s and %s", b.Name, seen[b.Name], p.Name)
			}
			seen[b.Name] = p.Name
		}
	}
}

// modFile is what matters here of a go.mod.
type modFile struct {
	module  string
	tools   []string
	require map[string]string
	replace map[string]string // module to "module version"
}

func parseMod(t *testing.T, name string) modFile {
	t.Helper()
	data, err := nodeimagedata.FS.ReadFile("parts/" + name + ".mod")
	if err != nil {
		t.Fatal(err)
	}
	m := modFile{require: map[string]string{}, replace: map[string]string{}}
	block := ""
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "//")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			continue
		case len(f) == 2 && f[1] == "(":
			block = f[0]
			continue
		case f[0] == ")":
			block = ""
			continue
		case block != "":
			f = append([]string{block}, f...)
		}
		switch f[0] {
		case "module":
			m.module = f[1]
		case "tool":
			m.tools = append(m.tools, f[1])
		case "require":
			m.require[f[1]] = f[2]
		case "replace":
			m.replace[f[1]] = strings.Join(f[3:], " ")
		}
	}
	return m
}

func TestRequirementsAgreeWithVersions(t *testing.T) {
	t.Parallel()
	for _, p := range allParts(t) {
		m := parseMod(t, p.Name)
		if want := "github.com/rootless-kubernetes/rk/node-image/parts/" + p.Name; m.module != want {
			t.Errorf("%s.mod is module %s, want %s", p.Name, m.module, want)
		}
		if p.Module == "" {
			if len(m.require) > 0 {
				t.Errorf("%s.mod requires %v, but the part is a single file", p.Name, m.require)
			}
			continue
		}
		if got := m.require[p.Module]; got != p.Version {
			t.Errorf("%s.mod requires %s %q, versions.yaml says %s", p.Name, p.Module, got, p.Version)
		}
		var packages []string
		for _, b := range p.Binaries {
			packages = append(packages, b.Package)
		}
		if p.Source != nil {
			packages = importsBelow(t, p.Source, p.Module)
		}
		slices.Sort(packages)
		slices.Sort(m.tools)
		if diff := cmp.Diff(packages, m.tools); diff != "" {
			t.Errorf("tools of %s.mod (-recipe +file):\n%s", p.Name, diff)
		}
		sum, err := nodeimagedata.FS.ReadFile("parts/" + p.Name + ".sum")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(sum), p.Module+" "+p.Version+" h1:") {
			t.Errorf("%s.sum has no checksum of %s %s", p.Name, p.Module, p.Version)
		}
	}
}

// importsBelow are the imports of a program's only file that come from a module.
func importsBelow(t *testing.T, source []byte, module string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", source, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range file.Imports {
		if p := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(p, module+"/") {
			out = append(out, p)
		}
	}
	return out
}

func TestKubernetesStagingModulesAreOfTheRelease(t *testing.T) {
	t.Parallel()
	for _, r := range load(t).Kubernetes.Releases {
		p := kubernetes(r)
		m := parseMod(t, p.Name)
		for module, version := range m.require {
			if version == "v0.0.0" && m.replace[module] == "" {
				t.Errorf("%s.mod does not replace %s", p.Name, module)
			}
		}
		if len(m.replace) < 25 {
			t.Errorf("%s.mod replaces only %d modules", p.Name, len(m.replace))
		}
		for module, with := range m.replace {
			if want := module + " v0" + strings.TrimPrefix(r.Version, "v1"); with != want {
				t.Errorf("%s.mod replaces %s with %s, want %s", p.Name, module, with, want)
			}
		}
	}
}

func TestNoRequirementsWithoutPart(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, p := range allParts(t) {
		known[p.Name+".mod"], known[p.Name+".sum"] = true, true
	}
	found, err := fs.Glob(nodeimagedata.FS, "parts/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !known[path.Base(f)] {
			t.Errorf("%s belongs to no part", f)
		}
	}
	if len(found) != len(known) {
		t.Errorf("there are %d files for %d", len(found), len(known))
	}
}
