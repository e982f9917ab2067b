// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cache keeps what stages made, by a key of everything that went into it. Two
// builds may use one cache at once: entries appear whole, by renaming.
type cache struct{ dir string }

// cacheAge is how long an entry is kept that no build has used.
const cacheAge = 30 * 24 * time.Hour

const resultFile = "result.json"

// keyOf returns the key of a stage from its name and inputs, which must be
// encodable as JSON.
func keyOf(stage string, inputs ...any) (string, error) {
	data, err := json.Marshal(inputs)
	if err != nil {
		return "", fmt.Errorf("inputs of stage %s: %w", stage, err)
	}
	sum := sha256.Sum256(data)
	return stage + "-" + hex.EncodeToString(sum[:12]), nil
}

// do loads the result of the stage with the given key, or runs produce in a new
// folder and keeps that folder and the result, which must be encodable as
// JSON. Paths in the result are relative to the folder that do returns.
func do[T any](c cache, key string, produce func(dir string) (T, error)) (result T, dir string, cached bool, err error) {
	final := filepath.Join(c.dir, key)
	if err := readJSON(filepath.Join(final, resultFile), &result); err == nil {
		now := time.Now()
		return result, final, true, os.Chtimes(final, now, now)
	} else if !errors.Is(err, os.ErrNotExist) {
		return result, "", false, fmt.Errorf("cache entry %s cannot be read; delete it and try again: %w", final, err)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return result, "", false, err
	}
	tmp, err := os.MkdirTemp(c.dir, "tmp-"+key+"-")
	if err != nil {
		return result, "", false, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if result, err = produce(tmp); err != nil {
		return result, "", false, err
	}
	if err := writeJSON(filepath.Join(tmp, resultFile), result); err != nil {
		return result, "", false, err
	}
	if err := os.Rename(tmp, final); err != nil {
		if _, statErr := os.Stat(filepath.Join(final, resultFile)); statErr != nil {
			return result, "", false, err
		}
		// Another build made the same entry meanwhile.
		if err := readJSON(filepath.Join(final, resultFile), &result); err != nil {
			return result, "", false, err
		}
	}
	return result, final, false, nil
}

// prune deletes entries that were not used for a long time, and folders that
// a killed build left.
func (c cache) prune(now time.Time) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < cacheAge {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(c.dir, e.Name())))
	}
	return errors.Join(errs...)
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
