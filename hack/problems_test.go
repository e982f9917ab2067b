// SPDX-License-Identifier: Apache-2.0

package hack

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Every problem of the catalogue can happen: code that is not a test uses it.
func TestEveryProblemIsUsed(t *testing.T) {
	t.Parallel()
	unused := map[string]bool{}
	for _, file := range []string{"catalogue.go", "checks.go"} {
		catalogue, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../pkg/problem", file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(catalogue, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].IsExported() {
				unused[v.Names[0].Name] = true
			}
			return true
		})
	}
	if len(unused) < 10 {
		t.Fatalf("only %d problems were found", len(unused))
	}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "problem" {
						delete(unused, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
	for name := range unused {
		t.Errorf("problem.%s is used nowhere", name)
	}
}
