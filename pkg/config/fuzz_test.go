// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
)

// FuzzLoad: whatever the file holds, it is accepted or answered with errors
// that lie in the file and can be shown on a terminal; what is accepted is
// valid with its defaults, and survives being written and read again.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds in %s (%v)", pattern, err)
		}
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Load(data)
		if err != nil {
			checkErrors(t, data, err)
			return
		}
		c = config.Default(c)
		if err := config.Validate(c); err != nil {
			t.Fatalf("Load accepts what Validate refuses: %v", err)
		}
		out, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Load(out)
		if err != nil {
			t.Fatalf("its own output is refused: %v\n%s", err, out)
		}
		if diff := cmp.Diff(c, config.Default(again)); diff != "" {
			t.Errorf("does not survive a round trip (-first +second):\n%s", diff)
		}
	})
}

func checkErrors(t *testing.T, data []byte, err error) {
	t.Helper()
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("error is %T (%v), want config.Errors", err, err)
	}
	// YAML has more kinds of line breaks than \n.
	lines := 2 // the first, and the end of the file
	for _, b := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		lines += bytes.Count(data, []byte(b))
	}
	for _, e := range errs {
		if e.Line < 0 || e.Line > lines || e.Column < 0 || e.Column > len(data)+1 || e.Line == 0 && e.Column > 0 {
			t.Errorf("not in the file: %v", e)
		}
		if e.Message == "" {
			t.Errorf("says nothing: %v", e)
		}
		for _, r := range e.Error() {
			if r != '\n' && !unicode.IsPrint(r) || r == utf8.RuneError {
				t.Errorf("not to be shown on a terminal: %q", e.Error())
				break
			}
		}
	}
}

// FuzzName: a cluster's name is accepted exactly if it is made of what the
// documentation says, by the command line as in a file, and what is derived
// from it is a valid name in Kubernetes.
func FuzzName(f *testing.F) {
	for _, name := range []string{
		"", "rk", "a", "0", "-", "a-", "-a", "a--b", "A", "a.b", "a_b", "a/b", "../a", "a b", "a\n", "\na", "a\x00", "ä", "\xff", "--help",
		strings.Repeat("a", 40), strings.Repeat("a", 41), strings.Repeat("ä", 40),
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
		want := name != "" && len(name) <= config.MaxNameLength && strings.Trim(name, allowed) == "" && strings.Trim(name, "-") == name
		err := config.ValidateName(name)
		if got := err == nil; got != want {
			t.Fatalf("%q: %v, want acceptance: %v", name, err, want)
		}
		if err == nil {
			for _, derived := range []string{"rk-" + name, name + "-control-plane", name + "-worker253"} {
				if msgs := validation.IsDNS1123Label(derived); len(msgs) > 0 {
					t.Errorf("%q: %q is no valid name: %v", name, derived, msgs)
				}
			}
		}
		if name == "" || !utf8.ValidString(name) {
			return // no name, or nothing that a file can hold
		}
		file, err := json.Marshal(map[string]string{"apiVersion": config.APIVersion, "kind": config.Kind, "name": name})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(file); (err == nil) != want || want && c.Name != name {
			t.Errorf("%s: %v with the name %q, want acceptance: %v", file, err, c.Name, want)
		}
	})
}
