// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args           string
		operands, rest []string
		release, err   string
	}{
		"flags last":      {args: "one --release sid", operands: []string{"one"}, release: "sid"},
		"flags first":     {args: "--release=sid one", operands: []string{"one"}, release: "sid"},
		"default":         {args: "one", operands: []string{"one"}, release: "trixie"},
		"rest left alone": {args: "one -- ls --release x", operands: []string{"one"}, rest: []string{"ls", "--release", "x"}, release: "trixie"},
		"none":            {args: "", err: "number of operands"},
		"too many":        {args: "one two", err: "number of operands"},
		"unknown flag":    {args: "one --color", err: "not defined: -color"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := newFlags("up")
			release := releaseFlag(flags)
			operands, rest, err := parse(flags, strings.Fields(tt.args), 1, 1)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(operands, tt.operands) || !slices.Equal(rest, tt.rest) || *release != tt.release {
				t.Errorf("operands %q, rest %q, release %s, error %v", operands, rest, *release, err)
			}
		})
	}
}

func TestSplitPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"one:/etc":   {"one", "/etc"},
		"/a:b":       {"", "/a:b"},
		"./one:/etc": {"", "./one:/etc"},
		"file":       {"", "file"},
	} {
		host, path, ok := splitPath(in)
		if host != want[0] || path != want[1] || ok != (want[0] != "") {
			t.Errorf("%s: %q, %q, %t", in, host, path, ok)
		}
	}
}

func TestUsageNamesEveryCommand(t *testing.T) {
	t.Parallel()
	for name := range commands {
		if !strings.Contains(usage, "\n  "+name+" ") {
			t.Errorf("the usage lacks %q", name)
		}
	}
}
