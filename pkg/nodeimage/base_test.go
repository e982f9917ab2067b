// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestMissingTools(t *testing.T) {
	t.Parallel()
	tools := []tool{{"mmdebstrap", "mmdebstrap"}, {"newuidmap", "uidmap"}, {"newgidmap", "uidmap"}}
	for name, tc := range map[string]struct {
		have       []string
		cause, fix string
	}{
		"none":    {nil, "not installed: mmdebstrap, newuidmap, newgidmap", "sudo apt-get install mmdebstrap uidmap"},
		"one":     {[]string{"newuidmap", "newgidmap"}, "not installed: mmdebstrap", "sudo apt-get install mmdebstrap"},
		"all":     {[]string{"mmdebstrap", "newuidmap", "newgidmap"}, "", ""},
		"not one": {[]string{"mmdebstrap", "newuidmap"}, "not installed: newgidmap", "sudo apt-get install uidmap"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := missing(tools, func(name string) (string, error) {
				if slices.Contains(tc.have, name) {
					return "/usr/bin/" + name, nil
				}
				return "", exec.ErrNotFound
			})
			if tc.cause == "" {
				if err != nil {
					t.Errorf("error %v, want none", err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if e.Cause != tc.cause || e.Fix != tc.fix || !e.Tool {
				t.Errorf("cause %q, fix %q, tool %v; want %q, %q, true", e.Cause, e.Fix, e.Tool, tc.cause, tc.fix)
			}
		})
	}
}

func TestLineWriter(t *testing.T) {
	t.Parallel()
	var got []string
	w := &lineWriter{line: func(s string) { got = append(got, s) }}
	for _, chunk := range []string{"I: on", "e\nI: two\r\nE: th", "ree"} {
		if _, err := w.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"I: one", "I: two"}; !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	if want := "I: one\nI: two\nE: three"; w.tail() != want {
		t.Errorf("tail %q, want %q", w.tail(), want)
	}
	for range 100 {
		if _, err := w.Write([]byte(strings.Repeat("x", 10) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(w.tail(), "\n"); n > 12 {
		t.Errorf("the tail has %d lines", n)
	}
}
