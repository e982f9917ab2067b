// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeyOf(t *testing.T) {
	t.Parallel()
	key := func(stage string, inputs ...any) string {
		k, err := keyOf(stage, inputs...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key("store", map[string]string{"a": "1", "b": "2"}, []string{"x"})
	if again := key("store", map[string]string{"b": "2", "a": "1"}, []string{"x"}); again != first {
		t.Error("the same inputs give another key")
	}
	for name, other := range map[string]string{
		"another value":     key("store", map[string]string{"a": "1", "b": "3"}, []string{"x"}),
		"another stage":     key("base", map[string]string{"a": "1", "b": "2"}, []string{"x"}),
		"moved between two": key("store", map[string]string{"a": "1"}, map[string]string{"b": "2"}, []string{"x"}),
		"one more":          key("store", map[string]string{"a": "1", "b": "2"}, []string{"x"}, ""),
	} {
		if other == first {
			t.Errorf("%s gives the same key", name)
		}
	}
	if _, err := keyOf("x", func() {}); err == nil {
		t.Error("an input that cannot be encoded is no error")
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	c := cache{filepath.Join(t.TempDir(), "cache")}
	runs := 0
	stage := func() (string, string, bool, error) {
		return do(c, "stage-1", func(dir string) (string, error) {
			runs++
			return "made", os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644)
		})
	}
	for _, wantCached := range []bool{false, true} {
		got, dir, cached, err := stage()
		if err != nil {
			t.Fatal(err)
		}
		if got != "made" || cached != wantCached || runs != 1 {
			t.Errorf("got %q, cached %v after %d runs; want \"made\", %v after 1", got, cached, runs, wantCached)
		}
		if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
			t.Error(err)
		}
	}
}

func TestCacheKeepsNothingOfAFailure(t *testing.T) {
	t.Parallel()
	c := cache{t.TempDir()}
	boom := errors.New("boom")
	_, _, _, err := do(c, "stage-1", func(dir string) (int, error) {
		return 0, errors.Join(boom, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
	})
	if !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left in the cache (%v)", left, err)
	}
}

func TestCacheBrokenEntry(t *testing.T) {
	t.Parallel()
	c := cache{t.TempDir()}
	entry := filepath.Join(c.dir, "stage-1")
	if err := os.MkdirAll(entry, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(entry, resultFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := do(c, "stage-1", func(string) (map[string]int, error) { return nil, nil })
	if err == nil || !strings.Contains(err.Error(), entry+" cannot be read; delete it") {
		t.Errorf("error %v, want one that names the entry and says to delete it", err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	c := cache{t.TempDir()}
	now := time.Now()
	for name, age := range map[string]time.Duration{"new": time.Hour, "old": cacheAge + time.Hour} {
		dir := filepath.Join(c.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.prune(now); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0].Name() != "new" {
		t.Errorf("%v is left, want new only", left)
	}
}
