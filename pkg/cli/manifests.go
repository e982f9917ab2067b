// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/manifest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/redact"
)

// manifestFlags are what is applied to a new cluster.
type manifestFlags struct{ manifests, kustomizations []string }

func (f *manifestFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.manifests, "manifest", nil, "file, folder or URL of Kubernetes objects to apply to the new cluster; can be repeated")
	fs.StringArrayVar(&f.kustomizations, "kustomize", nil, "folder of a kustomization to apply to the new cluster; can be repeated")
	mustMark(cmd.MarkFlagFilename("manifest", "yaml", "yml", "json"))
	mustMark(cmd.MarkFlagDirname("kustomize"))
}

// over returns a configuration with what the flags add.
func (f manifestFlags) over(c config.Cluster) config.Cluster {
	c.Manifests = slices.Clone(c.Manifests)
	for _, m := range f.manifests {
		if strings.HasPrefix(m, "http://") || strings.HasPrefix(m, "https://") {
			c.Manifests = append(c.Manifests, config.Manifest{URL: m})
		} else {
			c.Manifests = append(c.Manifests, config.Manifest{Path: m})
		}
	}
	c.Kustomizations = slices.Concat(c.Kustomizations, f.kustomizations)
	return c
}

// given is what of this host a configuration has applied to and put into a
// new cluster: its objects, and the contents of its files in the place of
// their sources. All that is wrong with it is told before anything is made.
func given(ctx context.Context, c config.Cluster) (config.Cluster, []plan.Object, error) {
	c.Files = slices.Clone(c.Files)
	var errs []error
	for i, f := range c.Files {
		if f.Source == "" {
			continue
		}
		data, err := readSource(f.Source)
		if err != nil {
			errs = append(errs, fmt.Errorf("files[%d].source: %w", i, err))
		}
		c.Files[i].Content, c.Files[i].Source = string(data), ""
	}
	if len(errs) > 0 {
		return c, nil, problem.ManifestUnreadable.Wrap(errors.Join(errs...))
	}
	objects, err := manifest.Read(ctx, c)
	return c, objects, err
}

// inlineManifests checks the manifests that are in a configuration file.
func inlineManifests(f configFile) error {
	err := manifest.CheckInline(f.cluster)
	if cause := errors.Unwrap(err); cause != nil {
		return problem.ManifestInvalid.Wrapf("%s: %w", f.name, cause)
	}
	return err
}

// maxSource is how large a file for nodes may be, in bytes: rk has it in memory
// once for each node.
const maxSource = 64 << 20

func readSource(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err == nil && len(data) > maxSource {
		return nil, fmt.Errorf("%s is larger than %d MiB; mount it instead (nodes[].mounts)", name, maxSource>>20)
	}
	return data, err
}

// printPlan prints a plan without the user's secrets.
func (a *app) printPlan(p *plan.Plan) error {
	shown := *p
	shown.Nodes = slices.Clone(p.Nodes)
	for i, n := range shown.Nodes {
		files := slices.Clone(n.Files)
		for j, f := range files {
			if f.Given {
				files[j].Content = string(redact.Bytes([]byte(f.Content)))
			}
		}
		shown.Nodes[i].Files = files
	}
	data, err := yaml.Marshal(&shown)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(data)
	return err
}
