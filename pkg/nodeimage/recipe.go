// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/render"
)

// recipe is node-image/rootfs.yaml: how a node's root file system is made.
type recipe struct {
	Epoch    time.Time           `json:"epoch"`
	Packages []string            `json:"packages"`
	Exclude  []string            `json:"exclude"`
	Keep     []string            `json:"keep"`
	Mask     []string            `json:"mask"`
	Enable   []string            `json:"enable"`
	Programs map[string][]string `json:"programs"` // folder -> programs of the parts
	Links    map[string]string   `json:"links"`
	Dirs     map[string]mode     `json:"dirs"`
}

// mode is a file mode written as an octal string, e.g. "0755".
type mode int64

// UnmarshalJSON implements json.Unmarshaler.
func (m *mode) UnmarshalJSON(data []byte) error {
	s, err := strconv.Unquote(string(data))
	if err != nil {
		return fmt.Errorf("mode %s is not a string such as \"0755\"", data)
	}
	n, err := strconv.ParseInt(s, 8, 16)
	if err != nil || n < 0 || n > 0o7777 {
		return fmt.Errorf("mode %q is not an octal number such as \"0755\"", s)
	}
	*m = mode(n)
	return nil
}

// loadRecipe reads rootfs.yaml. Unknown fields are errors.
func loadRecipe(fsys fs.FS) (*recipe, error) {
	data, err := fs.ReadFile(fsys, "rootfs.yaml")
	if err != nil {
		return nil, err
	}
	r := &recipe{}
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		return nil, fmt.Errorf("rootfs.yaml: %w", err)
	}
	if r.Epoch.IsZero() {
		return nil, fmt.Errorf("rootfs.yaml: epoch is missing")
	}
	for _, p := range slices.Concat(r.Exclude, r.Keep) {
		if _, err := path.Match(strings.TrimSuffix(p, "/**"), "/"); err != nil || !path.IsAbs(p) {
			return nil, fmt.Errorf("rootfs.yaml: exclude, keep: %q is not a pattern of an absolute path", p)
		}
	}
	return r, nil
}

const unitDir = "/usr/lib/systemd/system"

// overlay returns the files of rootfs/, with the links, masks and directories
// of the recipe. Files called *.tmpl are rendered with data and lose that
// suffix; a file that begins with "#!" is executable.
func (r *recipe) overlay(fsys fs.FS, data any) (*tree, error) {
	t := newTree()
	err := fs.WalkDir(fsys, "rootfs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		target := strings.TrimPrefix(name, "rootfs")
		if before, ok := strings.CutSuffix(target, ".tmpl"); ok {
			text, err := render.File(fsys, name, data)
			if err != nil {
				return err
			}
			target, content = before, []byte(text)
		}
		t.data(target, fileMode(content), content)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, m := range r.Dirs {
		t.dir(name, int64(m))
	}
	for name, target := range r.Links {
		t.link(name, target)
	}
	for _, unit := range r.Mask {
		t.link("/etc/systemd/system/"+unit, "/dev/null")
	}
	for _, unit := range r.Enable {
		if _, ok := t.entries[path.Join(unitDir, unit)]; !ok {
			return nil, fmt.Errorf("rootfs.yaml: enable: there is no %s in rootfs%s", unit, unitDir)
		}
		t.link("/etc/systemd/system/multi-user.target.wants/"+unit, path.Join(unitDir, unit))
	}
	return t, nil
}

func fileMode(content []byte) int64 {
	if bytes.HasPrefix(content, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// excluded tells whether the recipe leaves out the given path of the base.
func (r *recipe) excluded(name string) bool {
	for _, pattern := range r.Keep {
		if ok, _ := path.Match(pattern, name); ok {
			return false
		}
	}
	for _, pattern := range r.Exclude {
		if folder, ok := strings.CutSuffix(pattern, "/**"); ok {
			if below(folder, name) {
				return true
			}
			continue
		}
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// below tells whether a folder above name, but not name itself, matches the
// pattern.
func below(pattern, name string) bool {
	depth := strings.Count(pattern, "/") + 1
	parts := strings.Split(name, "/")
	if len(parts) <= depth {
		return false
	}
	ok, _ := path.Match(pattern, strings.Join(parts[:depth], "/"))
	return ok
}
