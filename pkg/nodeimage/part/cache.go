// SPDX-License-Identifier: Apache-2.0

package part

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DefaultCache is where built parts are kept: rk/parts below the user's cache folder.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	return filepath.Join(dir, "rk", "parts"), nil
}

// manifestName is the file that completes an entry of the cache.
const manifestName = "manifest.json"

type manifest struct {
	Module  string         `json:"module,omitempty"`
	Version string         `json:"version"`
	Files   []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// cached returns the files of an entry, and false if there is none or it is
// not whole.
func cached(entry string, p Part) ([]File, bool, error) {
	data, err := os.ReadFile(filepath.Join(entry, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var m manifest
	if json.Unmarshal(data, &m) != nil || len(m.Files) != len(p.Binaries) {
		return nil, false, nil
	}
	var out []File
	for i, f := range m.Files {
		path := filepath.Join(entry, f.Name)
		info, err := os.Stat(path)
		if err != nil || info.Size() != f.Size || f.Name != p.Binaries[i].Name {
			return nil, false, nil
		}
		out = append(out, File{Name: f.Name, Path: path, Size: f.Size, SHA256: f.SHA256})
	}
	return out, true, nil
}

// store makes the folder built, which holds the programs of p, the entry of
// the cache. If another process was faster, its entry stands.
func store(built, entry string, p Part) ([]File, error) {
	m := manifest{Module: p.Module, Version: p.Version}
	for _, b := range p.Binaries {
		f, err := describe(b.Name, filepath.Join(built, b.Name))
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, manifestFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(built, manifestName), append(data, '\n'), 0o644); err != nil {
		return nil, err
	}
	if _, ok, _ := cached(entry, p); !ok {
		// An entry that is not whole gives way.
		if err := os.RemoveAll(entry); err != nil {
			return nil, err
		}
	}
	renameErr := os.Rename(built, entry)
	out, ok, err := cached(entry, p)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("storing part %s in the cache", p.Name), renameErr, err)
	}
	return out, nil
}
