// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/problem"
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
			advice, _ := problem.Of(err)
			if !errors.Is(err, problem.BuildToolMissing) || !strings.HasSuffix(err.Error(), tc.cause) || !strings.HasSuffix(advice.Advice, tc.fix) {
				t.Errorf("error %v, advice %q; want one with %q and %q", err, advice.Advice, tc.cause, tc.fix)
			}
		})
	}
}

func TestHasRange(t *testing.T) {
	t.Parallel()
	const file = "alice:100000:65536\n1001:165536:65536\n"
	for _, tc := range []struct {
		name, uid string
		want      bool
	}{{"alice", "1000", true}, {"bob", "1001", true}, {"carol", "1002", false}, {"ali", "100", false}} {
		if got := hasRange(file, tc.name, tc.uid); got != tc.want {
			t.Errorf("hasRange(%s, %s) = %v, want %v", tc.name, tc.uid, got, tc.want)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	cause := errors.New("exit status 25")
	for tail, want := range map[string]*problem.Problem{
		"W: Failed to fetch x: Temporary failure resolving 'mirror'": problem.SourceUnreachable,
		"E: Could not connect to mirror:80":                          problem.SourceUnreachable,
		"W: GPG error: NO_PUBKEY 0123":                               problem.BuildToolMissing,
		"cannot write: No space left on device":                      problem.DiskFull,
		"E: Unable to locate package nonesuch":                       problem.BuildFailed,
	} {
		err := explain(cause, tail)
		if !errors.Is(err, want) || !errors.Is(err, cause) || !strings.HasSuffix(err.Error(), tail) {
			t.Errorf("%q gives %v, want %v with the cause and what was said", tail, err, want)
		}
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

func TestCheckForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := checkForeign("amd64", "amd64", dir); err != nil {
		t.Errorf("the machine's own architecture: %v", err)
	}
	if err := checkForeign("arm64", "amd64", dir); !errors.Is(err, problem.BuildToolMissing) || !strings.Contains(err.Error(), "qemu-aarch64 is not registered") {
		t.Errorf("without an emulator: %v", err)
	}
	for content, works := range map[string]bool{"enabled\ninterpreter /usr/bin/qemu-aarch64-static\n": true, "disabled\n": false} {
		if err := os.WriteFile(filepath.Join(dir, "qemu-aarch64"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkForeign("arm64", "amd64", dir); (err == nil) != works {
			t.Errorf("%q: %v", content, err)
		}
	}
}
