// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/docs"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func TestEveryCodeHasAPage(t *testing.T) {
	t.Parallel()
	for _, p := range problem.All() {
		got, ok := docs.Code(strings.ToLower(p.Code))
		if !ok || !strings.HasPrefix(got, p.Code+": "+p.Summary+"\n\n**") {
			t.Errorf("%s: got %q", p.Code, got)
		}
		for _, want := range []string{"\n**Cause.**", "\n**Fix.**"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the page lacks %q", p.Code, strings.TrimSpace(want))
			}
		}
		if strings.Contains(got, "<!--") {
			t.Errorf("%s: a comment is for nobody to read: %q", p.Code, got)
		}
	}
	for _, code := range []string{"RK10", "RK000", "../errors", "README"} {
		if got, ok := docs.Code(code); ok {
			t.Errorf("%s has a page: %q", code, got)
		}
	}
}
