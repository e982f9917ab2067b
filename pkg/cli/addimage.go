// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// isImageFile says that --add-image names an archive and not an image of the engine.
func isImageFile(image string) bool {
	return isArchive(image) || strings.HasSuffix(image, ".tar.gz") || strings.HasSuffix(image, ".tgz")
}

// addedImages are the images of --add-image. Their archives are closed by close.
type addedImages struct {
	images []nodeimage.AddedImage
	opened []*imagearchive.Archive
}

func (s *addedImages) close() error {
	var errs []error
	for _, a := range s.opened {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}

// openAdded opens the images to add to a node image for an architecture, those
// of archives and those of the engine's store, before anything is built. eng
// may be nil if there are archives alone.
func (a *app) openAdded(ctx context.Context, eng engine.Images, images []string, arch string) (*addedImages, error) {
	added := &addedImages{}
	if len(images) == 0 {
		return added, nil
	}
	err := a.step(ctx, step.Step{ID: "image/read", Title: "Reading images to add", Timeout: time.Hour, Do: func(ctx context.Context) (step.Undo, error) {
		for _, image := range images {
			var err error
			if isImageFile(image) {
				err = added.file(image, arch)
			} else {
				step.Report(ctx, "saving "+image)
				err = added.stored(ctx, eng, image, arch)
			}
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	}})
	if err != nil {
		return nil, errors.Join(err, added.close())
	}
	return added, nil
}

// file adds all images of an archive.
func (s *addedImages) file(file, arch string) error {
	archive, err := imagearchive.Open(file)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, archive)
	images, err := archive.Images(arch)
	if err != nil {
		return err
	}
	if len(images) == 0 {
		return problem.ArchiveUnreadable.With("Save an image again.").Wrapf("%s holds no image", file)
	}
	for _, img := range images {
		if err := s.add(archive, img, ""); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// stored adds an image of the engine's store.
func (s *addedImages) stored(ctx context.Context, eng engine.Images, ref, arch string) error {
	found, err := eng.InspectImage(ctx, ref)
	if errors.Is(err, engine.ErrNotFound) {
		return problem.ImageNotFound.
			With("'podman images' or 'docker images' lists what is there. Build or pull the image first, or name an archive, which ends in .tar, .tar.gz or .tgz or begins with ./ or /.").
			Wrapf("%s: %w", ref, engine.ErrNotFound)
	}
	if err != nil {
		return err
	}
	stream, err := eng.SaveImages(ctx, []string{ref})
	if err != nil {
		return err
	}
	archive, err := imagearchive.Read("what the engine saved of "+ref, stream)
	if err := errors.Join(err, stream.Close()); err != nil {
		return err
	}
	s.opened = append(s.opened, archive)
	images, err := archive.Images(arch)
	if err != nil {
		return err
	}
	if len(images) != 1 {
		return problem.ArchiveUnreadable.With("Save the image into a file, and name that.").Wrapf("the engine saved %d images of %s", len(images), ref)
	}
	name := ref
	if id := strings.TrimPrefix(found.ID, "sha256:"); strings.HasPrefix(id, strings.TrimPrefix(ref, "sha256:")) {
		name = "" // an ID
	}
	return s.add(archive, images[0], name)
}

// add adds an image by the names of its archive and the one that was asked
// for, as pods ask for them.
func (s *addedImages) add(archive *imagearchive.Archive, img imagearchive.Image, name string) error {
	var names []string
	for _, n := range append([]string{name}, img.Names...) {
		if n == "" {
			continue
		}
		full, err := imagearchive.FullName(n)
		if err != nil {
			return problem.InvalidUsage.With("Give the image a valid name.").Wrap(err)
		}
		if !slices.Contains(names, full) {
			names = append(names, full)
		}
	}
	if len(names) == 0 {
		return problem.ArchiveUnreadable.
			With("Save it by a name; pods ask for images by name.").
			Wrapf("the image %s has no name", img.ID)
	}
	img.Names = names
	s.images = append(s.images, nodeimage.AddedImage{Archive: archive, Image: img})
	return nil
}
