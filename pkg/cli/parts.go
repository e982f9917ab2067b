// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

func (a *app) buildParts() *cobra.Command {
	var version, output string
	cmd := &cobra.Command{
		Use: "parts [PROGRAM...]", Short: "Compile the programs of a node image into a folder",
		Long: `Compile the programs of a node image from their Go modules into a folder, laid
out as PART/PROGRAM: what 'rk build node-image --source-dir' takes on a machine
without a network. Naming programs (kubectl, say) writes those alone.`,
		Example: `  rk build parts --output ./artifacts
  rk build parts --output ./artifacts kubectl`,
		RunE: func(cmd *cobra.Command, programs []string) error {
			if output == "" {
				return usageErrorf(cmd, "--output is needed: the folder to write to")
			}
			return a.exportParts(cmd.Context(), version, output, programs)
		},
	}
	cmd.Flags().StringVar(&version, "kubernetes-version", config.DefaultKubernetesVersion, "Kubernetes version")
	cmd.Flags().StringVar(&output, "output", "", "folder to write to")
	completeFlag(cmd, "kubernetes-version", completeVersions)
	mustMark(cmd.MarkFlagDirname("output"))
	return cmd
}

// exportParts builds what is not cached and copies it; it prints a line for each program.
func (a *app) exportParts(ctx context.Context, version, output string, programs []string) error {
	versions, err := part.Load()
	if err != nil {
		return err
	}
	release, err := versions.Release(version)
	if err != nil {
		return err
	}
	parts, err := partsWith(versions.For(release), programs)
	if err != nil {
		return err
	}
	cache, err := part.DefaultCache()
	if err != nil {
		return err
	}
	var built []part.Built
	err = a.step(ctx, step.Step{ID: "parts", Title: "Building programs", Do: func(ctx context.Context) (step.Undo, error) {
		source := &part.Module{Cache: cache, Arch: runtime.GOARCH, Report: func(e part.Event) {
			if e.Kind == part.Downloading || e.Kind == part.Compiling {
				step.Report(ctx, e.Part+": "+e.Detail)
			}
		}}
		var err error
		if built, err = part.FetchAll(ctx, source, parts); err != nil {
			return nil, err
		}
		for i := range built {
			built[i] = only(built[i], programs)
		}
		return nil, part.Export(ctx, built, output)
	}})
	if err != nil {
		return err
	}
	for _, b := range built {
		for _, f := range b.Files {
			if _, err := fmt.Fprintln(a.Out, filepath.Join(output, b.Part.Name, f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// partsWith returns the parts that have one of programs, all parts if there are none.
func partsWith(parts []part.Part, programs []string) ([]part.Part, error) {
	if len(programs) == 0 {
		return parts, nil
	}
	var out []part.Part
	var known []string
	for _, p := range parts {
		wanted := false
		for _, b := range p.Binaries {
			known = append(known, b.Name)
			wanted = wanted || slices.Contains(programs, b.Name)
		}
		if wanted {
			out = append(out, p)
		}
	}
	for _, name := range programs {
		if !slices.Contains(known, name) {
			return nil, problem.InvalidUsage.Withf("The programs are: %s.", strings.Join(known, ", ")).Wrapf("no part has a program %q", name)
		}
	}
	return out, nil
}

// only leaves out the programs that were not asked for.
func only(b part.Built, programs []string) part.Built {
	if len(programs) == 0 {
		return b
	}
	out := part.Built{Part: b.Part, Cached: b.Cached}
	out.Part.Binaries = nil
	for i, bin := range b.Part.Binaries {
		if slices.Contains(programs, bin.Name) {
			out.Part.Binaries = append(out.Part.Binaries, bin)
			out.Files = append(out.Files, b.Files[i])
		}
	}
	return out
}
