// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Values of --build.
const (
	buildAuto   = "auto"
	buildAlways = "always"
	buildNever  = "never"
)

// isArchive says that --image is a file and not a reference, which never
// begins like a path.
func isArchive(image string) bool {
	return strings.HasPrefix(image, "/") || strings.HasPrefix(image, ".") || strings.HasSuffix(image, ".tar")
}

// nodeImage returns what is known of the node image, which is in the engine's
// store afterwards: an archive is loaded, an absent image is built or pulled.
// A dry run only looks.
func (a *app) nodeImage(ctx context.Context, eng engine.Engine, ref string, f createFlags) (plan.ImageFacts, error) {
	if isArchive(f.image) {
		return a.archiveImage(ctx, eng, f.image, f.dryRun)
	}
	version, buildable := strings.CutPrefix(ref, config.NodeImage(""))
	image, err := preflight.Image(ctx, eng, ref)
	absent := errors.Is(err, engine.ErrNotFound)
	switch {
	case f.build == buildAlways && !buildable:
		return image, problem.InvalidUsage.
			With("Leave out --build=always, or choose what to build with --kubernetes-version.").
			Wrapf("--build=always cannot build %s", ref)
	case f.dryRun && absent && buildable:
		return unbuiltImage(ref, version)
	case f.dryRun, err == nil && f.build != buildAlways, err != nil && !absent:
		return image, err
	case buildable && f.build == buildNever:
		return image, problem.ImageNotPresent.
			Withf("Build it with 'rk build node-image --kubernetes-version %s', or give an archive with '--image FILE.tar'.", version).
			Wrapf("%s", ref)
	case buildable:
		err = a.buildMissing(ctx, eng, ref, version, absent)
	default:
		err = a.pull(ctx, eng, ref)
	}
	if err != nil {
		return image, err
	}
	return preflight.Image(ctx, eng, ref)
}

func (a *app) buildMissing(ctx context.Context, eng engine.Engine, ref, version string, absent bool) error {
	if absent {
		a.note("The engine does not have the node image %s. Building it takes some minutes the first time.", ref)
	}
	built, err := a.buildImage(ctx, BuildOptions{KubernetesVersion: version})
	if err != nil {
		return err
	}
	_, err = a.loadArchive(ctx, eng, built.Path)
	return err
}

// pull fetches a reference that names a registry.
func (a *app) pull(ctx context.Context, eng engine.Engine, ref string) error {
	if strings.HasPrefix(ref, "localhost/") {
		return problem.PullFailed.
			Withf("List what is there with 'podman images', build an image with 'rk build node-image', or give an archive with '--image FILE.tar'.").
			Wrapf("%s is not in the engine's store, and no registry is called localhost", ref)
	}
	return a.step(ctx, step.Step{ID: "image/pull", Title: "Pulling " + ref, Timeout: time.Hour, Do: func(ctx context.Context) (step.Undo, error) {
		if err := eng.PullImage(ctx, ref); err != nil {
			return nil, problem.PullFailed.Wrap(err)
		}
		return nil, nil
	}})
}

// archiveImage loads the node image of an archive, unless the engine has this
// very image already. What the archive holds is read first: nobody waits for
// the load of a file that is something else.
func (a *app) archiveImage(ctx context.Context, eng engine.Engine, path string, dryRun bool) (plan.ImageFacts, error) {
	archive, err := os.Open(path)
	if err != nil {
		return plan.ImageFacts{}, problem.ArchiveUnreadable.With("Check the path that was given with --image.").Wrap(err)
	}
	image, err := preflight.Archive(archive)
	if err := errors.Join(err, archive.Close()); err != nil {
		return image, fmt.Errorf("%s: %w", path, err)
	}
	present, err := preflight.Image(ctx, eng, image.Ref)
	if dryRun || err == nil && strings.TrimPrefix(present.ID, "sha256:") == image.ID {
		return image, nil
	}
	ref, err := a.loadArchive(ctx, eng, path)
	if err != nil {
		return image, err
	}
	return preflight.Image(ctx, eng, ref)
}

// loadArchive loads an image archive into the engine and returns its reference.
func (a *app) loadArchive(ctx context.Context, eng engine.Engine, path string) (ref string, err error) {
	load := func(ctx context.Context) (step.Undo, error) {
		archive, err := os.Open(path)
		if err != nil {
			return nil, problem.ArchiveUnreadable.Wrap(err)
		}
		defer archive.Close() //nolint:errcheck // only read
		refs, err := eng.LoadImage(ctx, archive)
		if err != nil {
			return nil, loadError(fmt.Errorf("%s: %w", path, err))
		}
		if len(refs) == 0 {
			return nil, problem.ArchiveUnreadable.
				With("Save the image with a name, as 'rk build node-image --output FILE.tar' does.").
				Wrapf("%s: the image has no name", path)
		}
		ref = refs[0]
		return nil, nil
	}
	err = a.step(ctx, step.Step{ID: "image/load", Title: "Loading the node image into the engine", Timeout: time.Hour, Do: load})
	return ref, err
}

func loadError(err error) error {
	switch _, known := problem.Of(err); {
	case known, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, engine.ErrUnreachable):
		return problem.EngineUnreachable.Wrap(err)
	case strings.Contains(err.Error(), "no space left on device"):
		return problem.DiskFull.Wrap(err)
	}
	return problem.EngineFailed.Wrap(err)
}
