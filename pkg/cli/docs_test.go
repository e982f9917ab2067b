// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootless-kubernetes/rk/pkg/cli"
)

// sections splits docs/cli.md at its titles.
func sections(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range strings.Split(string(data), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		out[title] = text
	}
	return out
}

var flagRowRe = regexp.MustCompile("(?m)^\\| `--([a-z-]+)`(?:, `-([a-zA-Z])`)? \\|([^|]*)\\|")

// docs/cli.md describes every command with every flag and its default, and nothing else.
func TestDocsDescribeEveryFlag(t *testing.T) {
	t.Parallel()
	docs := sections(t)
	root := cli.New(cli.Deps{Env: func(string) string { return "" }})
	root.InitDefaultHelpFlag()
	common := []*pflag.FlagSet{root.PersistentFlags(), root.LocalNonPersistentFlags()}
	checkFlags(t, "flags of every command", docs["Flags of every command"], common...)
	delete(docs, "Flags of every command")
	for _, cmd := range leaves(root) {
		text, ok := docs[cmd.CommandPath()]
		if !ok {
			t.Errorf("docs/cli.md does not describe %q", cmd.CommandPath())
			continue
		}
		checkFlags(t, cmd.CommandPath(), text, cmd.LocalNonPersistentFlags())
		delete(docs, cmd.CommandPath())
	}
	for title := range docs {
		t.Errorf("docs/cli.md describes %q, which is no command", title)
	}
}

func leaves(cmd *cobra.Command) []*cobra.Command {
	if len(cmd.Commands()) == 0 {
		return []*cobra.Command{cmd}
	}
	var out []*cobra.Command
	for _, c := range cmd.Commands() {
		out = append(out, leaves(c)...)
	}
	return out
}

func checkFlags(t *testing.T, command, text string, sets ...*pflag.FlagSet) {
	t.Helper()
	var documented []string
	for _, row := range flagRowRe.FindAllStringSubmatch(text, -1) {
		name, short, value := row[1], row[2], strings.Trim(row[3], "` ")
		documented = append(documented, name)
		var f *pflag.Flag
		for _, s := range sets {
			if f == nil {
				f = s.Lookup(name)
			}
		}
		switch {
		case f == nil:
			t.Errorf("docs/cli.md: %s has no flag --%s", command, name)
		case f.Shorthand != short:
			t.Errorf("docs/cli.md: %s --%s is short -%s, the page says %q", command, name, f.Shorthand, short)
		case strings.HasPrefix(strings.TrimSpace(row[3]), "`") && f.DefValue != value && f.DefValue != "":
			t.Errorf("docs/cli.md: %s --%s defaults to %q, the page says %q", command, name, f.DefValue, value)
		}
	}
	for _, s := range sets {
		s.VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(documented, f.Name) {
				t.Errorf("docs/cli.md does not describe %s --%s", command, f.Name)
			}
		})
	}
}
