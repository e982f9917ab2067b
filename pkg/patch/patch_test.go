// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, s string) map[string]any {
	t.Helper()
	doc, err := YAML(s)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// The examples of RFC 7386, appendix A, that patch an object with an object.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		doc := parse(t, c[0])
		if diff := cmp.Diff(parse(t, c[2]), Merge(doc, parse(t, c[1]))); diff != "" {
			t.Errorf("%s + %s (-want +got):\n%s", c[0], c[1], diff)
		}
		if diff := cmp.Diff(parse(t, c[0]), doc); diff != "" {
			t.Errorf("%s + %s changes its argument:\n%s", c[0], c[1], diff)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	doc := parse(t, "{a: {b: [1, 2]}, c: 1.5}")
	got, err := JSON(doc, []Operation{
		{Op: "test", Path: "/a/b/1", Value: int64(2)},
		{Op: "add", Path: "/a/b/-", Value: map[string]any{"x": nil}},
		{Op: "replace", Path: "/a/b/0", Value: "one"},
		{Op: "copy", From: "/c", Path: "/d"},
		{Op: "move", From: "/c", Path: "/e~1f"},
		{Op: "remove", Path: "/a/b/1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parse(t, "{a: {b: [one, {x: null}]}, d: 1.5, e/f: 1.5}"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, o := range []Operation{
		{Op: "test", Path: "/c", Value: int64(2)}, {Op: "remove", Path: "/x"}, {Op: "replace", Path: "/x", Value: "y"},
		{Op: "add", Path: "/x/y", Value: "z"}, {Op: "add", Path: "/a/b/9", Value: "z"}, {Op: "move", From: "/x", Path: "/y"},
	} {
		if _, err := JSON(doc, []Operation{{Op: "add", Path: "/ok", Value: true}, o}); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("operation 1 (%s %s)", o.Op, o.Path)) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestTOML(t *testing.T) {
	t.Parallel()
	const text = `a = 1
b = 2.5
c = ["x", "y"]
d = true

["quoted.key"]
when = "5s"

["quoted.key".sub]
n = 9007199254740993

[[list]]
x = 1

[[list]]
x = 2
`
	doc, err := TOML(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := FormatTOML(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := TOML(out)
	if diff := cmp.Diff(doc, again); err != nil || diff != "" {
		t.Errorf("%v, a round trip changes:\n%s", err, diff)
	}
	if got := At(doc, "quoted.key", "sub", "n"); got != int64(9007199254740993) {
		t.Errorf("a whole number became %v", got)
	}
	if _, err := TOML("a = 1\nb = [\n"); err == nil || !strings.HasPrefix(err.Error(), "line ") {
		t.Errorf("an error without its line: %v", err)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	before := parse(t, "{same: {a: 1}, list: [1], gone: {v: 1, w: {}}, scalar: 1, empty: {}}")
	after := parse(t, "{same: {a: 1}, list: [2], scalar: {z: 1}, empty: {}, new: {p: {q: 1}}, none: {}}")
	var got []string
	for _, c := range Changes(before, after) {
		got = append(got, fmt.Sprintf("%s: %v -> %v", strings.Join(c.Path, "."), c.Before, c.After))
	}
	want := []string{
		"gone.v: 1 -> <nil>", "gone.w: map[] -> <nil>", "list: [1] -> [2]", "new.p.q: <nil> -> 1", "none: <nil> -> map[]", "scalar: 1 -> map[z:1]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
