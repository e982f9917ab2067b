// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestCommands(t *testing.T) {
	t.Parallel()
	for arch, name := range map[string]string{"amd64": "commands.golden", "arm64": "commands-arm64.golden"} {
		var got bytes.Buffer
		for _, p := range allParts(t) {
			fmt.Fprintf(&got, "# %s\n", p.Name)
			for _, c := range commands(p.forArch(arch), arch, "OUT") {
				fmt.Fprintf(&got, "env %s\ngo %s\nmakes %s\n\n", strings.Join(c.env, " "), strings.Join(c.args, "\n   "), strings.Join(c.outs, " "))
			}
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("commands for %s (-want +got; run with -update):\n%s", arch, diff)
		}
	}
}

// The go tool names the programs of a command by their packages when there
// are several, so there the recipe has no choice.
func TestProgramsBuiltTogetherAreNamedByTheirPackages(t *testing.T) {
	t.Parallel()
	for _, p := range allParts(t) {
		for _, g := range byTags(p.Binaries) {
			for _, b := range g {
				if len(g) > 1 && b.Name != path.Base(b.Package) {
					t.Errorf("%s of part %s is built as %s", b.Name, p.Name, path.Base(b.Package))
				}
			}
		}
	}
}

func TestKeyKnowsEveryInput(t *testing.T) {
	t.Parallel()
	type input struct {
		part      Part
		arch      string
		toolchain string
		files     map[string][]byte
	}
	base := func() input {
		return input{
			part: Part{
				Name: "p", Module: "example.com/m", Version: "v1.0.0",
				Binaries: []Binary{{Name: "b", Package: "example.com/m/b", Tags: []string{"x"}}},
				Stamps:   map[string]string{"main.version": "1"},
			},
			arch: "amd64", toolchain: "go1.26.0",
			files: map[string][]byte{"go.mod": []byte("module p\n"), "go.sum": []byte("sum\n")},
		}
	}
	keyOf := func(i input) string { return key(i.part, i.arch, i.toolchain, i.files) }
	seen := map[string]string{keyOf(base()): "nothing"}
	if again := keyOf(base()); seen[again] == "" {
		t.Fatal("the same input has two keys")
	}
	for name, change := range map[string]func(*input){
		"part":      func(i *input) { i.part.Name = "q" },
		"program":   func(i *input) { i.part.Binaries[0].Name = "c" },
		"package":   func(i *input) { i.part.Binaries[0].Package = "example.com/m/c" },
		"tags":      func(i *input) { i.part.Binaries[0].Tags = nil },
		"stamps":    func(i *input) { i.part.Stamps["main.version"] = "2" },
		"cgo":       func(i *input) { i.part.Cgo = true },
		"arch":      func(i *input) { i.arch = "arm64" },
		"toolchain": func(i *input) { i.toolchain = "go1.26.1" },
		"mod":       func(i *input) { i.files["go.mod"] = []byte("module p\n\ngo 1.26\n") },
		"sum":       func(i *input) { i.files["go.sum"] = []byte("other\n") },
		"source":    func(i *input) { i.files["main.go"] = []byte("package main\n") },
		// The same bytes, cut differently.
		"cut": func(i *input) { i.files["go.mod"], i.files["go.sum"] = []byte("module p\nsum\n"), nil },
	} {
		i := base()
		change(&i)
		k := keyOf(i)
		if was := seen[k]; was != "" {
			t.Errorf("changing %s gives the same key as changing %s", name, was)
		}
		seen[k] = name
	}
}

func TestRequiredGo(t *testing.T) {
	t.Parallel()
	if got := requiredGo([]byte("module m\n\ngo 1.26.6\n\nrequire x v1\n")); got != "go1.26.6" {
		t.Errorf("got %q", got)
	}
	for _, p := range allParts(t) {
		f, err := files(p)
		if err != nil {
			t.Fatal(err)
		}
		if requiredGo(f["go.mod"]) == "" {
			t.Errorf("%s.mod has no go line", p.Name)
		}
	}
}
