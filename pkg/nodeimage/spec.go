// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"sigs.k8s.io/yaml"
)

// Repository is what the references of a node's own images begin with. No
// registry has that name, so none can be asked for them by mistake.
const Repository = "localhost/rk/"

// spec is images/NAME/image.yaml: how an image that runs in a cluster is made.
type spec struct {
	Name string `json:"-"` // that of its folder

	Tag     tagSource `json:"tag"`
	Base    bool      `json:"base"`    // only for other images to stand on
	From    string    `json:"from"`    // base image; "" for none
	Aliases []string  `json:"aliases"` // further short names in the label io.rk.images

	Programs map[string]string `json:"programs"` // path in the image -> program of a part
	Debian   []string          `json:"debian"`   // patterns of files of the Debian base; libraries come along
	Links    map[string]string `json:"links"`
	Dirs     map[string]mode   `json:"dirs"`

	Entrypoint []string          `json:"entrypoint"`
	Cmd        []string          `json:"cmd"`
	Env        map[string]string `json:"env"`
	User       string            `json:"user"`
}

// tagSource says what an image's tag is the version of.
type tagSource struct {
	Part    string `json:"part,omitempty"`    // a part, "kubernetes" for the release
	Package string `json:"package,omitempty"` // a Debian package
}

// loadSpecs reads NAME/image.yaml of each folder that has one, by name.
// Unknown fields are errors.
func loadSpecs(fsys fs.FS) ([]spec, error) {
	files, err := fs.Glob(fsys, "*/image.yaml")
	if err != nil {
		return nil, err
	}
	var out []spec
	for _, name := range files {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		s := spec{}
		if err := yaml.UnmarshalStrict(data, &s); err != nil {
			return nil, fmt.Errorf("images/%s: %w", name, err)
		}
		s.Name = path.Dir(name)
		out = append(out, s)
	}
	return out, checkSpecs(out)
}

func checkSpecs(specs []spec) error {
	byName := map[string]spec{}
	for _, s := range specs {
		byName[s.Name] = s
	}
	var errs []error
	for _, s := range specs {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("images/%s/image.yaml: %s", s.Name, fmt.Sprintf(format, args...)))
		}
		switch {
		case s.Base && s.Tag != (tagSource{}):
			bad("a base has no tag")
		case !s.Base && (s.Tag.Part == "") == (s.Tag.Package == ""):
			bad("tag needs either part or package")
		}
		if s.From != "" && !byName[s.From].Base {
			bad("from: %q is no base image", s.From)
		}
		if s.Base && s.From != "" {
			bad("a base cannot stand on another one")
		}
		for _, p := range slices.Sorted(maps.Keys(s.Programs)) {
			if !path.IsAbs(p) {
				bad("programs: %q is no absolute path", p)
			}
		}
	}
	return errors.Join(errs...)
}

// sources is where the files of images come from.
type sources struct {
	debian   *debian
	programs map[string]string // name -> path on this machine
	versions map[string]string // part -> version
}

// files returns what the image adds to its base.
func (s spec) files(src sources) (*tree, error) {
	t, err := src.debian.pick(s.Debian)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", s.Name, err)
	}
	for to, name := range s.Programs {
		from, ok := src.programs[name]
		if !ok {
			return nil, fmt.Errorf("image %s: no part has a program %q", s.Name, name)
		}
		if err := t.file(to, 0o755, from); err != nil {
			return nil, fmt.Errorf("image %s: %w", s.Name, err)
		}
	}
	for name, m := range s.Dirs {
		t.dir(name, int64(m))
	}
	for name, target := range s.Links {
		t.link(name, target)
	}
	return t, nil
}

// reference returns the image's reference in the node.
func (s spec) reference(src sources) (string, error) {
	if s.Tag.Package != "" {
		v, err := src.debian.version(s.Tag.Package)
		if err != nil {
			return "", fmt.Errorf("image %s: %w", s.Name, err)
		}
		return Repository + s.Name + ":" + v, nil
	}
	v, ok := src.versions[s.Tag.Part]
	if !ok {
		return "", fmt.Errorf("image %s: there is no part %q", s.Name, s.Tag.Part)
	}
	return Repository + s.Name + ":" + v, nil
}
