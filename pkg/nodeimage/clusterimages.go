// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// clusterStore makes the images of a cluster.
func (b *builder) clusterStore(src sources) (*store, error) {
	s := &store{epoch: b.recipe.Epoch}
	bases := map[string]stacked{}
	for _, base := range []bool{true, false} { // bases first
		for _, sp := range b.specs {
			if sp.Base != base {
				continue
			}
			below := bases[sp.From]
			files, err := sp.files(src)
			if err != nil {
				return nil, err
			}
			id, top, err := s.addLayer(below.id, files)
			if err != nil {
				return nil, err
			}
			top.by = madeBy(sp.Name)
			stack := stacked{id, append(slices.Clone(below.layers), top)}
			if base {
				bases[sp.Name] = stack
				continue
			}
			if err := b.addImage(s, sp, stack); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// stacked is a stack of layers and the ID of its uppermost snapshot.
type stacked struct {
	id     int
	layers []layer
}

func (b *builder) addImage(s *store, sp spec, stack stacked) error {
	img, err := assemble(b.arch, b.recipe.Epoch, sp.config(), stack.layers)
	if err != nil {
		return err
	}
	manifest, config, err := parts(img)
	if err != nil {
		return err
	}
	s.images = append(s.images, storedImage{b.images[sp.Name], manifest, config, s.snapshots[stack.id-1].chainID})
	return nil
}

// config is how the image runs.
func (s spec) config() v1.Config {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	maps.Copy(env, s.Env)
	c := v1.Config{Entrypoint: s.Entrypoint, Cmd: s.Cmd, User: s.User, WorkingDir: "/"}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		c.Env = append(c.Env, k+"="+env[k])
	}
	return c
}
