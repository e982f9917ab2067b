// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The environment of tests that use hosts.
const (
	// EnvE2E has to be "1", or ForTest skips the test.
	EnvE2E = "RK_E2E"
	// EnvKeep tells which tests' hosts to keep: "never" (default), "failure" or "always".
	EnvKeep = "RK_KEEP"
	// EnvArtifacts is the directory for the journals of failed tests' hosts. Default: a
	// directory rk-e2e in the system's directory for temporary files.
	EnvArtifacts = "RK_E2E_ARTIFACTS"
	// EnvTimeoutScale is a whole number, by which the time-outs of a slow host are multiplied. Default 1.
	EnvTimeoutScale = "RK_E2E_TIMEOUT_SCALE"
)

// TimeoutScale is the value of RK_E2E_TIMEOUT_SCALE.
func TimeoutScale() (int, error) {
	value := os.Getenv(EnvTimeoutScale)
	if value == "" {
		return 1, nil
	}
	scale, err := strconv.Atoi(value)
	if err != nil || scale < 1 {
		return 0, fmt.Errorf("%s=%s: use a whole number, 1 or more", EnvTimeoutScale, value)
	}
	return scale, nil
}

// ForTest starts a host for a test and removes it with the test's cleanup; the journal of a
// failed test's host is saved first. Default name: the test's, with a random part.
func ForTest(t testing.TB, o Options) *Host {
	t.Helper()
	if os.Getenv(EnvE2E) != "1" {
		t.Skipf("needs root and systemd-nspawn: set %s=1", EnvE2E)
	}
	keep := os.Getenv(EnvKeep)
	switch keep {
	case "", "never", "failure", "always":
	default:
		t.Fatalf("%s=%s: use never, failure or always", EnvKeep, keep)
	}
	suffix, err := randomHex(2)
	if err != nil {
		t.Fatal(err)
	}
	if o.Name == "" {
		o.Name = testName(t.Name()) + "-" + suffix
	}
	if o.Progress == nil {
		o.Progress = &logWriter{t: t}
	}
	h, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.finish(t, keep) })
	return h
}

const journalTimeout = 30 * time.Second

func (h *Host) finish(t testing.TB, keep string) {
	if t.Failed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), journalTimeout)
		defer cancel()
		if path, err := h.saveJournal(ctx); err != nil {
			t.Errorf("no journal: %v", err)
		} else {
			t.Logf("journal of %s: %s", h.Name(), path)
		}
	}
	if keep == "always" || keep == "failure" && t.Failed() {
		err := h.Keep()
		if err == nil {
			t.Logf("kept: testhost sh %[1]s; remove it with: testhost down %[1]s", h.Name())
			return
		}
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func (h *Host) saveJournal(ctx context.Context) (string, error) {
	dir := os.Getenv(EnvArtifacts)
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "rk-e2e")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(dir, h.Name()+".journal"))
	if err != nil {
		return "", err
	}
	defer discard(f)
	return f.Name(), h.Journal(ctx, f)
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// testName makes a host name of a test's name; there is room for a suffix.
func testName(test string) string {
	name := notInName.ReplaceAllString(strings.ToLower(strings.TrimPrefix(test, "Test")), "-")
	if len(name) > 40 {
		name = name[:40]
	}
	if name = strings.Trim(name, "-"); name == "" {
		name = "host"
	}
	return name
}

// logWriter logs whole lines to a test.
type logWriter struct {
	t    testing.TB
	rest string
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, ok := strings.Cut(w.rest, "\n")
		if !ok {
			return len(p), nil
		}
		w.t.Log(line)
		w.rest = rest
	}
}
