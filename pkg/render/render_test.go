// SPDX-License-Identifier: Apache-2.0

package render

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/Masterminds/sprig/v3"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func file(text string) fstest.MapFS {
	return fstest.MapFS{"t.tmpl": {Data: []byte(text)}}
}

func TestFile(t *testing.T) {
	t.Parallel()
	type data struct {
		Name  string
		Ports map[string]int
	}
	got, err := File(file(`{{ .Name | quote }}{{ range $k, $v := .Ports }} {{ $k }}={{ $v }}{{ end }}{{ list "b" "a" | sortAlpha | join "," | indent 2 }}`),
		"t.tmpl", data{"x", map[string]int{"b": 2, "a": 1}})
	if want := `"x" a=1 b=2  a,b`; err != nil || got != want {
		t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}

func TestFileErrorsNameTheTemplateAndLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, want string }{
		{"missing key", "a\n{{ .nokey }}", `t.tmpl:2:3: executing "t.tmpl" at <.nokey>: map has no entry for key "nokey"`},
		{"missing nested key", "{{ .map.nokey }}", `map has no entry for key "nokey"`},
		{"missing field", "{{ .struct.NoField }}", "can't evaluate field NoField"},
		{"syntax", "\n\n{{ if }}", "template: t.tmpl:3: missing value for if"},
		{"unknown function", "{{ now }}", `template: t.tmpl:1: function "now" not defined`},
		{"failure of a function", `{{ fail "no good" }}`, "no good"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := File(file(tc.text), "t.tmpl", map[string]any{"map": map[string]any{}, "struct": struct{ A int }{}})
			if err == nil || !strings.Contains(err.Error(), tc.want) || got != "" {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
	if _, err := File(file(""), "other.tmpl", nil); err == nil || !strings.Contains(err.Error(), "other.tmpl") {
		t.Errorf("got %v", err)
	}
}

// Nothing that depends on a clock, randomness, the host or the order of a map can be called.
func TestNonRepeatableFunctionsAreGone(t *testing.T) {
	t.Parallel()
	for _, name := range append([]string{
		"now", "date", "dateInZone", "date_in_zone", "dateModify", "date_modify", "htmlDate", "htmlDateInZone",
		"env", "expandenv", "getHostByName", "randAlpha", "randAlphaNum", "randAscii", "randNumeric", "randBytes", "uuidv4",
	}, notRepeatable...) {
		if _, err := File(file("{{ "+name+" }}"), "t.tmpl", nil); err == nil || !strings.Contains(err.Error(), "not defined") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A new version of sprig may bring new functions: look whether they are
// repeatable before this list is updated.
func TestFunctionsAreThoseThatWereReviewed(t *testing.T) {
	t.Parallel()
	got := strings.Join(slices.Sorted(maps.Keys(functions())), "\n") + "\n"
	const golden = "testdata/functions.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRenderingTwiceIsIdentical(t *testing.T) {
	t.Parallel()
	values := map[string]any{}
	for _, k := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		values[k] = map[string]any{"name": k, "list": []int{1, 2, 3}}
	}
	const text = `{{ range $k, $v := . }}{{ $k }}: {{ $v | toJson }} {{ $v }} {{ $v | toString | sha256sum }} {{ get $v "list" | reverse | join "-" }}
{{ end }}{{ toPrettyJson . }}`
	first, err := File(file(text), "t.tmpl", values)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		again, err := File(file(text), "t.tmpl", maps.Clone(values))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	}
}

func TestRemovedFunctionsExistInSprig(t *testing.T) {
	t.Parallel()
	all := sprig.HermeticTxtFuncMap()
	for _, name := range notRepeatable {
		if _, ok := all[name]; !ok {
			t.Errorf("sprig has no function %s: it is removed in vain", name)
		}
	}
}
