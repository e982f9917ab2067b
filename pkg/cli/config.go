// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/kindcompat"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) config() *cobra.Command {
	return group("config", "Convert, check and describe configuration files", a.configConvert(), a.configValidate(), a.configSchema())
}

func (a *app) configConvert() *cobra.Command {
	return &cobra.Command{
		Use: "convert FILE", Short: "Print a configuration file of kind as one of rk",
		Long: `Print a configuration file of kind (kind.x-k8s.io/v1alpha4) as one of rk
(rk.io/v1alpha1), - for standard input. What becomes something else than it
says is noted on standard error. 'rk create cluster' reads both.`,
		Example: `  rk config convert kind.yaml >rk.yaml`,
		Args:    usage(oneFile),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := a.readConfig(args[0])
			if err != nil {
				return err
			}
			if _, err := f.check(); err != nil {
				return err
			}
			data, err := yaml.Marshal(f.cluster)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(data)
			return err
		},
	}
}

func (a *app) configValidate() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE...", Short: "Check configuration files, those of rk and of kind",
		Long: `Check configuration files of rk and of kind, - for standard input: everything
that can be known without an engine and a host. All errors are told, each with
its line; what a file asks for and has no effect here is a warning.`,
		Example: `  rk config validate demo.yaml kind.yaml`,
		Args:    usage(files),
		RunE: func(_ *cobra.Command, args []string) error {
			var all error
			for _, name := range args {
				f, err := a.readConfig(name)
				var warnings []string
				if err == nil {
					warnings, err = f.check()
				}
				if err == nil {
					err = inlineManifests(f)
				}
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				for _, w := range warnings {
					a.warn(f.name + ": " + w)
				}
				if _, err := fmt.Fprintf(a.Out, "%s: valid\n", f.name); err != nil {
					return err
				}
			}
			return all
		},
	}
}

func (a *app) configSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of rk's configuration file, for editors",
		Long: `Print the JSON schema of rk.io/v1alpha1. An editor that knows it completes
fields and marks mistakes; with the YAML language server, a first line of
"# yaml-language-server: $schema=rk.schema.json" names it.`,
		Example: `  rk config schema >rk.schema.json`,
		Args:    usage(noArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.Out.Write(config.Schema())
			return err
		},
	}
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one file is wanted, there are %d", len(args))
	}
	return nil
}

func files(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("a file is missing")
	}
	return nil
}

// configFile is a configuration file that was read and is valid by itself.
type configFile struct {
	name    string // for messages; empty if there is none
	data    []byte
	cluster config.Cluster
	kind    *kindcompat.File // nil for one of rk
}

// readConfig reads a configuration file of rk or kind; no path is an empty
// configuration.
func (a *app) readConfig(path string) (f configFile, err error) {
	defer func() { a.file = f }()
	switch path {
	case "":
		return f, nil
	case "-":
		f.name = "standard input"
		f.data, err = io.ReadAll(a.In)
	default:
		f.name = path
		f.data, err = os.ReadFile(path)
	}
	if err != nil {
		return f, problem.ConfigUnreadable.Wrap(err)
	}
	if !kindcompat.Is(f.data) {
		if f.cluster, err = config.Load(f.data); err != nil {
			return f, problem.InvalidConfig.Wrapf("%s: %w", f.name, err)
		}
		return f, nil
	}
	versions, err := part.Load()
	if err != nil {
		return f, err
	}
	var releases []string
	for _, r := range versions.Kubernetes.Releases {
		releases = append(releases, r.Version)
	}
	if f.kind, err = kindcompat.Parse(f.data, releases); err != nil {
		return f, problem.InvalidConfig.Wrapf("%s: %w", f.name, err)
	}
	f.cluster = f.kind.Cluster
	if err := config.Validate(config.Default(f.cluster)); err != nil {
		return f, f.placed(err)
	}
	for _, n := range f.kind.Notes {
		a.note("%s: %s", f.name, n)
	}
	return f, nil
}

// placed puts errors of the configuration into the words and places of the file.
func (f configFile) placed(err error) error {
	var errs config.Errors
	switch {
	case !errors.As(err, &errs) || f.name == "":
		return problem.InvalidConfig.Wrap(err)
	case f.kind != nil:
		errs = f.kind.Errors(errs)
	default:
		errs = config.Locate(f.data, errs)
	}
	return problem.InvalidConfig.Wrapf("%s: %w", f.name, errs)
}

// worded puts a warning of a plan into the words of the file.
func (f configFile) worded(warning string) string {
	if f.kind == nil {
		return warning
	}
	return f.kind.Text(warning)
}

// check says whether the file can be planned, and what of it has no effect.
func (f configFile) check() (warnings []string, err error) {
	if warnings, err = plan.Check(config.Default(f.cluster)); err != nil {
		return nil, f.placed(err)
	}
	for i, w := range warnings {
		warnings[i] = f.worded(w)
	}
	return warnings, nil
}

// absolute makes paths of the host absolute, as seen from the current directory.
func absolute(c config.Cluster) error {
	if err := absoluteRegistries(c.Registries); err != nil {
		return err
	}
	for i := range c.Nodes {
		for j := range c.Nodes[i].Mounts {
			m := &c.Nodes[i].Mounts[j]
			path, err := filepath.Abs(m.HostPath)
			if err != nil {
				return problem.InvalidConfig.Wrapf("nodes[%d].mounts[%d].hostPath: %w", i, j, err)
			}
			m.HostPath = path
		}
	}
	for i, f := range c.Proxy.CAFiles {
		path, err := filepath.Abs(f)
		if err != nil {
			return problem.InvalidConfig.Wrapf("proxy.caFiles[%d]: %w", i, err)
		}
		c.Proxy.CAFiles[i] = path
	}
	return nil
}
