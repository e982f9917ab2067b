// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	kindcmd "sigs.k8s.io/kind/pkg/cmd"
	"sigs.k8s.io/kind/pkg/cmd/kind"

	"github.com/rootless-kubernetes/rk/pkg/cli"
)

var (
	kindRowRe = regexp.MustCompile("(?m)^\\| `(kind [^`]*|[A-Z_]+)` \\| (.*) \\| (\\S+) \\|$")
	rkRe      = regexp.MustCompile("`(rk [a-z -]+)`")
	rkFlagRe  = regexp.MustCompile("`(--[a-z-]+)")
)

// docs/kind.md has every command and every flag of kind, what it says of rk is
// there, and the tests that it names exist.
func TestDocsHaveAllOfKind(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/kind.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, ok := strings.Cut(string(data), "\n## Commands\n")
	if !ok {
		t.Fatal("docs/kind.md has no section Commands")
	}
	commands, _, _ = strings.Cut(commands, "\n## ")
	rk := cli.New(cli.Deps{Env: func(string) string { return "" }})
	rows := map[string]string{}
	for _, row := range kindRowRe.FindAllStringSubmatch(commands, -1) {
		rows[row[1]] = row[2]
		if _, err := os.Stat(filepath.Join("../..", row[3])); err != nil {
			t.Errorf("%s is shown by what does not exist: %v", row[1], err)
		}
		checkCounterpart(t, rk, row[1], row[2])
	}
	var want []string
	root := kind.NewCommand(kindcmd.NewLogger(), kindcmd.StandardIOStreams())
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { want = append(want, "kind --"+f.Name) })
	for _, c := range leaves(root) {
		want = append(want, c.CommandPath())
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { want = append(want, c.CommandPath()+" --"+f.Name) })
	}
	if len(want) < 40 {
		t.Fatalf("kind has only %d commands and flags?", len(want))
	}
	for _, w := range want {
		if _, ok := rows[w]; !ok {
			t.Errorf("docs/kind.md lacks %q", w)
		}
	}
	for r := range rows {
		if strings.HasPrefix(r, "kind ") && !slices.Contains(want, r) {
			t.Errorf("docs/kind.md has %q, which kind has not", r)
		}
	}
}

// checkCounterpart sees that the commands and flags of rk exist that a row names.
func checkCounterpart(t *testing.T, rk *cobra.Command, ofKind, text string) {
	t.Helper()
	for _, m := range rkRe.FindAllStringSubmatch(text, -1) {
		words := strings.Fields(m[1])[1:]
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") })
		if c, rest, err := rk.Find(words); err != nil || len(c.Commands()) > 0 || len(rest) > 0 && c.Name() != "completion" {
			t.Errorf("%s: there is no %q", ofKind, m[1])
		}
	}
	words := strings.Fields(ofKind)
	if words[0] != "kind" {
		return
	}
	words = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "-") })
	c, _, err := rk.Find(words)
	if err != nil {
		t.Errorf("%s: rk has no such command", ofKind)
		return
	}
	for _, m := range rkFlagRe.FindAllStringSubmatch(text, -1) {
		if name := strings.TrimPrefix(m[1], "--"); c.Flags().Lookup(name) == nil && c.Root().PersistentFlags().Lookup(name) == nil {
			t.Errorf("%s: %s has no flag %s", ofKind, c.CommandPath(), m[1])
		}
	}
}
