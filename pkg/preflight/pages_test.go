// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// pages is where the page of each code is.
const pages = "../../docs/codes"

const generated = "<!-- Made by 'go test ./pkg/preflight -run TestCodePages -update' from pkg/problem, docs/errors.md and the checks of pkg/preflight. -->\n"

// distributions are those that fixes differ for.
var distributions = []OS{
	{ID: "debian", Name: "Debian and Ubuntu"}, {ID: "fedora", Name: "Fedora and RHEL"}, {ID: "arch", Name: "Arch Linux"},
	{ID: "opensuse-leap", IDLike: []string{"suse", "opensuse"}, Name: "openSUSE"}, {ID: "other", Name: "others"},
}

// TestCodePages holds the page of every code, and their index, to the
// catalogue, to docs/errors.md and to the checks.
func TestCodePages(t *testing.T) {
	t.Parallel()
	entries := errorEntries(t)
	var index strings.Builder
	index.WriteString("# Codes of rk\n\n" + generated + "\nWhat each code means and how to repair it; `rk explain CODE` prints the same.\n" +
		"\n| code | meaning | exit code | `rk doctor` |\n|---|---|---|---|\n")
	want := []string{"README.md"}
	for _, p := range problem.All() {
		at := slices.IndexFunc(checks(), func(c check) bool { return c.problem == p })
		examined := ""
		if at >= 0 {
			examined = string(checks()[at].level)
		}
		fmt.Fprintf(&index, "| [%s](%s.md) | %s | %d | %s |\n", p.Code, p.Code, p.Summary, p.Exit, examined)
		want = append(want, p.Code+".md")

		var b strings.Builder
		fmt.Fprintf(&b, "# %s: %s\n\n%s", p.Code, p.Summary, generated)
		entry, ok := entries[p.Code]
		if ok {
			b.WriteString("\n" + entry + "\n")
		}
		switch {
		case at >= 0:
			describe(t, &b, checks()[at], ok)
		case !ok:
			t.Errorf("%s is neither a check nor in docs/errors.md", p.Code)
		}
		golden(t, filepath.Join(pages, p.Code+".md"), b.String())
	}
	golden(t, filepath.Join(pages, "README.md"), index.String())
	files, err := os.ReadDir(pages)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(want, f.Name()) {
			t.Errorf("docs/codes/%s is the page of no code", f.Name())
		}
	}
}

// errorEntries are the entries of docs/errors.md by their code, without their titles.
func errorEntries(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, part := range strings.Split(string(data), "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		code, _, _ := strings.Cut(title, ":")
		body, _, _ = strings.Cut(body, "\n## ")
		out[code] = strings.TrimSpace(body)
	}
	if len(out) < 10 {
		t.Fatalf("docs/errors.md has %d entries", len(out))
	}
	return out
}

// describe writes what a check looks at and how it is repaired, by
// distribution. The page of an error has said the cause already.
func describe(t *testing.T, b *strings.Builder, c check, isError bool) {
	t.Helper()
	levels := map[Level]string{
		Required:    "required: `rk create cluster` stops if it fails",
		Recommended: "recommended: clusters can be created all the same",
		MultiHost:   "required for clusters across hosts: `rk doctor --multi-host` looks at it",
	}
	if isError {
		b.WriteString("\n## As a check of rk doctor\n")
	}
	fmt.Fprintf(b, "\n**Cause.** %s\n", c.why)
	fmt.Fprintf(b, "\n**Level.** %s.\n", strings.ToUpper(levels[c.level][:1])+levels[c.level][1:])
	var texts []string
	systems := map[string][]string{}
	for _, o := range distributions {
		text := example(c, o)
		if len(systems[text]) == 0 {
			texts = append(texts, text)
		}
		systems[text] = append(systems[text], o.Name)
	}
	if texts[0] == "" {
		b.WriteString("\n**Fix.** An ordinary user cannot see whether it is well, so `rk doctor` only says what to look at.\n")
		return
	}
	b.WriteString("\n**Fix.** As `rk doctor` prints it")
	if len(texts) == 1 {
		fmt.Fprintf(b, ":\n\n%s\n", block(texts[0]))
		return
	}
	b.WriteString(".\n")
	for _, text := range texts {
		fmt.Fprintf(b, "\nOn %s:\n\n%s\n", strings.Join(systems[text], ", "), block(text))
	}
}

// example is the fix of the first situation that fails, for a user called USER.
func example(c check, o OS) string {
	for _, s := range situations[c.problem] {
		f := healthy()
		f.User.Name, f.OS = "USER", o
		s.change(&f)
		if x, ok := of(Evaluate(f), c.problem.Code); ok && x.Status == Failed {
			return x.Fix.Text()
		}
	}
	return ""
}

func block(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }
