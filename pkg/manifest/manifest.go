// SPDX-License-Identifier: Apache-2.0

// Package manifest reads the Kubernetes objects that a configuration has
// applied to a new cluster: from files, folders, URLs, kustomizations, and the
// configuration itself. Everything that is wrong with them, as far as no API
// server is needed to tell, is found here, all at once, before anything is made.
//
// It must never import cluster, kube, cli, or an engine.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/kustomize"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// maxSize of a file or a download in bytes: etcd takes objects of up to
// 1.5 MiB, and the largest bundles of operators have some 10 MiB.
const maxSize = 32 << 20

// Read returns the objects of a configuration's manifests, then those of its
// kustomizations, in their order. The error is ManifestUnreadable if something
// could not be read or downloaded, else ManifestInvalid, with all mistakes.
func Read(ctx context.Context, c config.Cluster) ([]plan.Object, error) {
	var texts []text
	var errs []error
	for i, m := range c.Manifests {
		found, err := read(ctx, i, m)
		texts = append(texts, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, problem.ManifestUnreadable.Wrap(errors.Join(errs...))
	}
	for _, dir := range c.Kustomizations {
		data, err := kustomize.Build(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, problem.ManifestUnreadable.Wrapf("kustomization %s: %w", dir, err)
		case err != nil:
			errs = append(errs, fmt.Errorf("kustomization %s: %w", dir, err))
		}
		texts = append(texts, text{"kustomization " + dir, data})
	}
	objects, err := parse(texts)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, problem.ManifestInvalid.Wrap(err)
	}
	return objects, nil
}

// CheckInline finds what is wrong with the objects that are in the
// configuration itself: what Read finds without reading anything.
func CheckInline(c config.Cluster) error {
	var texts []text
	for i, m := range c.Manifests {
		if m.Inline != "" {
			texts = append(texts, inline(i, m))
		}
	}
	if _, err := parse(texts); err != nil {
		return problem.ManifestInvalid.Wrap(err)
	}
	return nil
}

func inline(i int, m config.Manifest) text {
	return text{fmt.Sprintf("manifests[%d].inline", i), []byte(m.Inline)}
}

// text is what is in one place.
type text struct {
	name string // for messages
	data []byte
}

func read(ctx context.Context, i int, m config.Manifest) ([]text, error) {
	switch {
	case m.URL != "":
		data, err := download(ctx, m.URL, m.SHA256)
		return []text{{shown(m.URL), data}}, err
	case m.Inline != "":
		return []text{inline(i, m)}, nil
	}
	info, err := os.Stat(m.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Path, strip(err))
	}
	if !info.IsDir() {
		data, err := readFile(m.Path)
		return []text{{m.Path, data}}, err
	}
	entries, err := os.ReadDir(m.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Path, strip(err))
	}
	var texts []text
	var errs []error
	for _, e := range entries { // sorted by name
		name := filepath.Join(m.Path, e.Name())
		if !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) || e.IsDir() {
			continue
		}
		data, err := readFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		texts = append(texts, text{name, data})
	}
	if len(texts) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("%s: the folder has no file that ends in .yaml, .yml or .json (folders in it are not looked into)", m.Path)
	}
	return texts, errors.Join(errs...)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, strip(err))
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := bounded(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, strip(err))
	}
	return data, nil
}

// strip takes the operation and the name out of an error of a file, where the message has them already.
func strip(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
