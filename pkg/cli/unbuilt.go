// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/images"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// tagOfPackage stands, in the plan of a dry run, for the tag of an image that
// has the version of a Debian package, which only a build finds out.
const tagOfPackage = "built-later"

// unbuiltImage is what a node image would say of itself if it were built: for
// a dry run, which must not build it.
func unbuiltImage(ref, version string) (plan.ImageFacts, error) {
	f := plan.ImageFacts{Ref: ref, Images: map[string]string{}}
	versions, err := part.Load()
	if err != nil {
		return f, err
	}
	release, err := versions.Release(version)
	if err != nil {
		return f, err
	}
	f.KubernetesVersion = release.Version
	files, err := fs.Glob(images.FS, "*/image.yaml")
	if err != nil {
		return f, err
	}
	for _, file := range files {
		var spec struct {
			Base    bool
			Aliases []string
			Tag     struct{ Part string }
		}
		data, err := fs.ReadFile(images.FS, file)
		if err != nil {
			return f, err
		}
		if err := yaml.Unmarshal(data, &spec); err != nil {
			return f, fmt.Errorf("images/%s: %w", file, err)
		}
		if spec.Base {
			continue
		}
		tag := cmp.Or(versions.Version(spec.Tag.Part), tagOfPackage)
		if spec.Tag.Part == "kubernetes" {
			tag = release.Version
		}
		name := path.Dir(file)
		for _, short := range append([]string{name}, spec.Aliases...) {
			f.Images[short] = nodeimage.Repository + name + ":" + tag
		}
	}
	return f, nil
}
