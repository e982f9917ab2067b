// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Sources of the node image's programs.
const (
	sourceModule  = "module"
	sourceRelease = "release"
	sourceDir     = "dir"
)

// architectures that node images are built for, as Go names them.
var architectures = []string{"amd64", "arm64"}

// envReleaseMirror is --release-mirror where that is not given.
const envReleaseMirror = "RK_RELEASE_MIRROR"

// ProgramSource says where the programs of a node image come from.
type ProgramSource struct {
	Kind   string // "module" (also ""), "release" or "dir"
	Arch   string // GOARCH; "" for this machine's
	Dir    string // of "dir"
	Mirror string // of "release", see part.Mirrored
	Pins   string // of "release": file with further checksums
}

// open returns the source. report is called from several goroutines.
func (s ProgramSource) open(report func(part.Event)) (part.Source, error) {
	arch := cmp.Or(s.Arch, runtime.GOARCH)
	if s.Kind == sourceDir {
		return &part.Dir{Root: s.Dir, Arch: arch, Report: report}, nil
	}
	cache, err := part.DefaultCache()
	if err != nil {
		return nil, err
	}
	module := &part.Module{Cache: cache, Arch: arch, Report: report}
	if s.Kind != sourceRelease {
		return module, nil
	}
	releases, err := s.releases()
	if err != nil {
		return nil, err
	}
	return &part.Official{Cache: cache, Arch: arch, Releases: releases, Mirror: s.Mirror, Else: module, Report: report}, nil
}

// releases are rk's own pins, and those of the file.
func (s ProgramSource) releases() (*part.Releases, error) {
	releases, err := part.LoadReleases()
	if err != nil || s.Pins == "" {
		return releases, err
	}
	data, err := os.ReadFile(s.Pins)
	if err == nil {
		err = releases.AddPins(data)
	}
	if err != nil {
		return nil, problem.InvalidUsage.With("Give --release-pins a file that 'rk build pins --output FILE' wrote.").Wrapf("%s: %w", s.Pins, err)
	}
	return releases, nil
}

// mirrorOf is --release-mirror, or the variable.
func (a *app) mirrorOf(cmd *cobra.Command, flag string) (string, error) {
	mirror := cmp.Or(flag, a.Env(envReleaseMirror))
	if mirror == "" {
		return "", nil
	}
	if u, err := url.Parse(mirror); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
		return "", usageErrorf(cmd, "the mirror of releases is no address that begins with https:// or http://: %q (--release-mirror, $%s)", mirror, envReleaseMirror)
	}
	return mirror, nil
}

// noteSources says which parts are not official artifacts, where those were asked for.
func (a *app) noteSources(kind string, parts []nodeimage.Part) {
	if kind != sourceRelease {
		return
	}
	var compiled []string
	for _, p := range parts {
		if p.From != part.FromRelease {
			compiled = append(compiled, p.Name+" "+p.Version)
		}
	}
	if len(compiled) > 0 {
		a.note("Compiled from Go modules, for want of an official artifact or of its checksum: %s", strings.Join(compiled, ", "))
	}
}

func (a *app) buildPins() *cobra.Command {
	var version, arch, mirror, output string
	cmd := &cobra.Command{
		Use: "pins", Short: "Record the checksums of official release artifacts",
		Long: `Record the checksums of the official release artifacts that a node image is made
from, as the projects publish them: what 'rk build node-image --source release
--release-pins FILE' takes. An artifact whose project publishes no checksum is
fetched, and its own is taken: look at those before you trust them. A checksum that
differs from the one that rk has is an error.`,
		Example: `  rk build pins --output pins.yaml
  rk build node-image --source release --release-pins pins.yaml`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "arch", arch, architectures...); err != nil {
				return err
			}
			mirror, err := a.mirrorOf(cmd, mirror)
			if err != nil {
				return err
			}
			pins, err := a.pins(cmd.Context(), version, ProgramSource{Kind: sourceRelease, Arch: arch, Mirror: mirror})
			if err != nil {
				return err
			}
			data, err := part.FormatPins(pins)
			if err != nil {
				return err
			}
			if output == "" {
				_, err = a.Out.Write(data)
				return err
			}
			return os.WriteFile(output, data, 0o644)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&version, "kubernetes-version", config.DefaultKubernetesVersion, "Kubernetes version")
	fs.StringVar(&arch, "arch", runtime.GOARCH, "processor architecture of the nodes: amd64 or arm64")
	fs.StringVar(&mirror, "release-mirror", "", "server with the files of the projects' sites (default $"+envReleaseMirror+")")
	fs.StringVar(&output, "output", "", "write to this file (default: standard output)")
	completeFlag(cmd, "kubernetes-version", completeVersions)
	choices(cmd, "arch", architectures...)
	return cmd
}

// pins asks for the checksum of each artifact of a node image.
func (a *app) pins(ctx context.Context, version string, from ProgramSource) (map[string]string, error) {
	versions, err := part.Load()
	if err != nil {
		return nil, err
	}
	release, err := versions.Release(version)
	if err != nil {
		return nil, err
	}
	pins := map[string]string{}
	err = a.step(ctx, step.Step{ID: "pins", Title: "Asking for checksums", Do: func(ctx context.Context) (step.Undo, error) {
		source, err := from.open(func(e part.Event) { step.Report(ctx, e.Detail) })
		if err != nil {
			return nil, err
		}
		official := source.(*part.Official) //nolint:forcetypeassert // of this kind
		differ := map[string]string{}
		for _, p := range versions.For(release) {
			_, artifacts := official.Releases.Artifacts(p, from.Arch)
			for _, artifact := range artifacts {
				step.Report(ctx, artifact.URL)
				sum, err := official.Pin(ctx, artifact)
				if err != nil {
					return nil, fmt.Errorf("part %s: %w", p.Name, err)
				}
				pins[artifact.URL] = sum
				if artifact.SHA256 != "" && artifact.SHA256 != sum {
					differ[artifact.URL] = fmt.Sprintf("%s is published as %s, and rk has %s", artifact.URL, sum, artifact.SHA256)
				}
			}
		}
		if len(differ) > 0 {
			return nil, problem.ChecksumMismatch.
				With("Do not use these files until it is known why. Compare with what the project says elsewhere, and report it.").
				Wrapf("%s", strings.Join(slices.Sorted(maps.Values(differ)), "; "))
		}
		return nil, nil
	}})
	return pins, err
}
