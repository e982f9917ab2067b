// SPDX-License-Identifier: Apache-2.0

package hack

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The linters see the code with the tags that it is built with.
func TestLintTagsAreThoseOfTheMakefile(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^TAGS\s*:?=\s*(.*)$`).FindSubmatch(makefile)
	if m == nil {
		t.Fatal("the Makefile has no variable TAGS")
	}
	data, err := os.ReadFile("../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var lint struct {
		Run struct {
			BuildTags []string `json:"build-tags"`
		} `json:"run"`
	}
	if err := yaml.Unmarshal(data, &lint); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(lint.Run.BuildTags, " "), strings.TrimSpace(string(m[1])); got != want {
		t.Errorf(".golangci.yml has the tags %q, the Makefile %q", got, want)
	}
}
