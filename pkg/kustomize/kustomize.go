// SPDX-License-Identifier: Apache-2.0

// Package kustomize builds a kustomization, a folder with a kustomization.yaml,
// as kubectl does, but from local files alone: nothing is downloaded, no git,
// no helm and no plug-in is run. It is the only package that imports kustomize.
//
// It must never import any package of this module.
package kustomize

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Build returns the objects of the kustomization in a folder as YAML
// documents. As with kubectl, files outside of the folders of kustomizations
// cannot be used. What is not local is an error that names where it is asked for.
// Of deprecated fields, such as bases and commonLabels, kustomize itself warns on
// standard error.
func Build(dir string) ([]byte, error) {
	s := scanner{seen: map[string]bool{}}
	s.folder(dir)
	if len(s.errs) > 0 {
		return nil, errors.Join(s.errs...)
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}

// scanner finds what is not local, before kustomize gets to see it: kustomize
// would fetch it, over HTTP or with git, and has no option against that.
type scanner struct {
	seen map[string]bool
	errs []error
}

func (s *scanner) fail(file, format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("%s: "+format, append([]any{file}, args...)...))
}

// folder scans the kustomization in a folder.
func (s *scanner) folder(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if s.seen[dir] {
		return // kustomize itself tells of cycles
	}
	s.seen[dir] = true
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		file := filepath.Join(dir, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.errs = append(s.errs, err)
			return
		}
		s.document(dir, file, data)
		return
	}
	s.fail(dir, "there is no %s", strings.Join(konfig.RecognizedKustomizationFileNames(), ", "))
}

// Fields that name files and folders, in kustomizations and in the
// configuration of generators and transformers.
var (
	// folderFields may name a kustomization, or configuration of a generator or transformer.
	folderFields = []string{"resources", "bases", "components", "generators", "transformers", "validators"}
	// pluginFields hold configuration of generators and transformers, in files or in place.
	pluginFields = []string{"generators", "transformers", "validators"}
	fileFields   = []string{"crds", "configurations", "patchesStrategicMerge", "path", "paths", "file", "files", "env", "envs"}
	helmFields   = []string{"helmCharts", "helmChartInflationGenerator"}
)

// document scans the YAML documents of a file, whose paths begin at dir.
func (s *scanner) document(dir, file string, data []byte) {
	for _, doc := range bytes.Split(data, []byte("\n---")) {
		var content map[string]any
		if err := yaml.Unmarshal(doc, &content); err != nil {
			s.fail(file, "%w", err)
			return
		}
		s.mapping(dir, file, content)
	}
}

func (s *scanner) mapping(dir, file string, m map[string]any) {
	for field, value := range m {
		switch {
		case slices.Contains(helmFields, field):
			s.fail(file, "%s: charts of Helm are not rendered; render them first, with 'helm template'", field)
			continue
		case slices.Contains(folderFields, field) || slices.Contains(fileFields, field):
			for _, entry := range texts(value) {
				s.entry(dir, file, field, entry)
			}
		}
		s.nested(dir, file, value)
	}
}

func (s *scanner) nested(dir, file string, value any) {
	switch v := value.(type) {
	case map[string]any:
		s.mapping(dir, file, v)
	case []any:
		for _, item := range v {
			s.nested(dir, file, item)
		}
	}
}

// texts are the strings of a field that holds one or a list of them.
func texts(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if t, ok := item.(string); ok {
				out = append(out, t)
			}
		}
		return out
	}
	return nil
}

// entry scans one file or folder that is named in a field.
func (s *scanner) entry(dir, file, field, entry string) {
	plugin := slices.Contains(pluginFields, field)
	if strings.Contains(entry, "\n") { // written in place
		if plugin {
			s.document(dir, file, []byte(entry))
		}
		return
	}
	name := entry
	if slices.Contains([]string{"files", "env", "envs"}, field) { // of a generator: KEY=FILE
		if _, rest, ok := strings.Cut(entry, "="); ok {
			name = rest
		}
	}
	if remote(name) {
		s.fail(file, "%s: %s is not a local file: kustomizations are built from local files alone; fetch it first and name its folder", field, name)
		return
	}
	if !slices.Contains(folderFields, field) {
		return
	}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.fail(file, "%s: %s is not there", field, name)
	case err != nil:
		s.fail(file, "%s: %w", field, err)
	case info.IsDir() && plugin: // its own transformers could change what is configured here
		s.fail(file, "%s: %s is a folder; of generators, transformers and validators, files alone are read", field, name)
	case info.IsDir():
		s.folder(path)
	case plugin:
		data, err := os.ReadFile(path)
		if err != nil {
			s.errs = append(s.errs, err)
			return
		}
		s.document(dir, path, data)
	}
}

// userRe is how the name of git's ssh URLs without a scheme begins.
var userRe = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*@`)

// remote says what kustomize takes for a URL or a git repository
// (NewRepoSpecFromURL in kustomize's api/internal/git, IsRemoteFile in its loader).
func remote(name string) bool {
	lower := strings.ToLower(name)
	return strings.Contains(name, "://") || userRe.MatchString(name) || strings.HasPrefix(lower, "git::") ||
		strings.HasPrefix(lower, "github.com/") || strings.HasPrefix(lower, "github.com:")
}
