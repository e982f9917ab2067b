// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/docs"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func TestErrorReturnsOneEntry(t *testing.T) {
	t.Parallel()
	for _, p := range problem.All() {
		got, ok := docs.Error(strings.ToLower(p.Code))
		if !ok || !strings.HasPrefix(got, p.Code+": "+p.Summary+"\n") {
			t.Errorf("%s: got %q", p.Code, got)
		}
		if strings.Count(got, "**Cause.**") != 1 || strings.Count(got, "**Fix.**") != 1 || strings.Contains(got, "\n#") {
			t.Errorf("%s: not exactly one entry: %q", p.Code, got)
		}
	}
	if got, ok := docs.Error("RK10"); ok {
		t.Errorf("RK10 has an entry: %q", got)
	}
}
