// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWrapKeepsCauseAndProblem(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("read config: %w", ConfigUnreadable.Wrap(fs.ErrNotExist))

	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("errors.Is does not find the cause")
	}
	if !errors.Is(err, ConfigUnreadable) {
		t.Error("errors.Is does not find the problem")
	}
	if errors.Is(err, InvalidConfig) {
		t.Error("errors.Is finds another problem")
	}
	var p *Problem
	if !errors.As(err, &p) || p.Code != ConfigUnreadable.Code {
		t.Errorf("errors.As found %v", p)
	}
	want := "read config: the configuration file cannot be read: file does not exist"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestWrapWithoutCauseIsNotNil(t *testing.T) {
	t.Parallel()
	err := NoEngine.Wrap(nil)
	if err == nil || err.Error() != NoEngine.Summary {
		t.Errorf("got %v", err)
	}
}

func TestWrapDoesNotChangeTheCatalogue(t *testing.T) {
	t.Parallel()
	summary, advice := PortTaken.Error(), PortTaken.Advice
	err := PortTaken.Withf("stop what listens on %d", 6443).Wrapf("listen on port %d: %w", 6443, fs.ErrPermission)

	p, ok := Of(err)
	if !ok || p.Advice != "stop what listens on 6443" || !errors.Is(err, fs.ErrPermission) || !errors.Is(err, PortTaken) {
		t.Errorf("got %+v", p)
	}
	if PortTaken.Error() != summary || PortTaken.Advice != advice {
		t.Errorf("the catalogue was changed: %+v", PortTaken)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"unknown error", errors.New("x"), 1},
		{"usage", InvalidUsage.Wrapf("unknown flag"), 2},
		{"setup", fmt.Errorf("dial: %w", NoEngine), 3},
		{"cancelled", fmt.Errorf("create: %w", context.Canceled), 130},
		{"first of joined", errors.Join(NodesNotReady.Wrapf("x"), InvalidConfig), 1},
		{"outermost", Interrupted.Wrap(NodesNotReady.Wrap(context.Canceled)), 130},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := ExitCode(tc.err); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, p := range All() {
		for _, code := range []string{p.Code, strings.ToLower(p.Code)} {
			if got, ok := Lookup(code); !ok || got != p {
				t.Errorf("Lookup(%q) = %v, %v", code, got, ok)
			}
		}
	}
	if p, ok := Lookup("RK000"); ok {
		t.Errorf("Lookup(RK000) = %v", p)
	}
}

func TestCatalogueIsWellFormed(t *testing.T) {
	t.Parallel()
	codes := make([]string, 0, len(catalogue))
	for _, p := range All() {
		codes = append(codes, p.Code)
		if !regexp.MustCompile(`^RK[1-79]\d\d$`).MatchString(p.Code) {
			t.Errorf("%s: not a code", p.Code)
		}
		if p.Summary == "" || strings.HasSuffix(p.Summary, ".") || strings.Contains(p.Summary, "\n") {
			t.Errorf("%s: summary %q is not one sentence without a full stop", p.Code, p.Summary)
		}
		if p.Advice == "" {
			t.Errorf("%s: no advice", p.Code)
		}
		if !slices.Contains([]int{ExitFailure, ExitUsage, ExitSetup, ExitInterrupted}, p.Exit) {
			t.Errorf("%s: exit code %d", p.Code, p.Exit)
		}
	}
	if !slices.IsSorted(codes) || len(slices.Compact(slices.Clone(codes))) != len(codes) {
		t.Errorf("codes are not sorted and unique: %v", codes)
	}
}

// Every Problem value of the package is in the catalogue slice.
func TestCatalogueIsComplete(t *testing.T) {
	t.Parallel()
	found := 0
	code := func(e ast.Expr) {
		code, err := strconv.Unquote(e.(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if _, ok := Lookup(code); !ok {
			t.Errorf("%s is declared but not in the catalogue", code)
		}
	}
	for _, file := range []string{"catalogue.go", "checks.go", "manifests.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
					if _, literal := n.Value.(*ast.BasicLit); literal {
						code(n.Value)
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "check" {
					code(n.Args[0])
				}
			}
			return true
		})
	}
	if found != len(catalogue) {
		t.Errorf("%d problems are declared, %d are in the catalogue", found, len(catalogue))
	}
}

// docs/errors.md has one entry for each code, with the catalogue's summary as its title, and
// no other. (The checks of rk doctor have pages of their own, which a test of package preflight holds to their table.)
func TestDocsParity(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile(`(?m)^### (RK\d+): (.*)$`)
	parts := entry.FindAllSubmatchIndex(doc, -1)
	seen := map[string]bool{}
	for i, m := range parts {
		code, title := string(doc[m[2]:m[3]]), string(doc[m[4]:m[5]])
		end := len(doc)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		body := string(doc[m[1]:end])
		p, ok := Lookup(code)
		switch {
		case !ok:
			t.Errorf("%s has an entry in docs/errors.md but is not in the catalogue", code)
		case seen[code]:
			t.Errorf("%s has two entries in docs/errors.md", code)
		case title != p.Summary:
			t.Errorf("%s: title in docs/errors.md is %q, summary is %q", code, title, p.Summary)
		}
		for _, want := range []string{"\n**Cause.**", "\n**Fix.**"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: docs/errors.md lacks %q", code, strings.TrimSpace(want))
			}
		}
		if exit := fmt.Sprintf("(exit code %d)", p.Exit); ok && !strings.Contains(body, exit) {
			t.Errorf("%s: docs/errors.md does not say %q", code, exit)
		}
		seen[code] = true
	}
	for _, p := range All() {
		if isCheck := p != HostNotReady && slices.Contains(checks, p); seen[p.Code] == isCheck {
			t.Errorf("%s: entry in docs/errors.md: %t", p.Code, seen[p.Code])
		}
	}
}
