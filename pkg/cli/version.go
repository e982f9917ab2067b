// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// Set by the linker: -X github.com/rootless-kubernetes/rk/pkg/cli.version=… (see the Makefile).
var (
	version = "unknown"
	commit  = "unknown"
)

// Version is what rk says of itself.
type Version struct {
	Version           string `json:"version"`
	Commit            string `json:"commit"`
	Go                string `json:"go"`       // e.g. "go1.26.0"
	Platform          string `json:"platform"` // e.g. "linux/amd64"
	NodeImage         string `json:"nodeImage"`
	KubernetesVersion string `json:"kubernetesVersion"`
}

func (a *app) version() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of rk, its default node image and Kubernetes version",
		Args:  usage(noArgs),
		RunE: func(*cobra.Command, []string) error {
			format, err := ui.ParseFormat(output, documentFormats...)
			if err != nil {
				return err
			}
			v := thisVersion()
			if format != ui.FormatTable {
				return ui.PrintValue(a.Out, format, v)
			}
			_, err = fmt.Fprintf(a.Out, "rk %s (commit %s, %s, %s)\nnode image %s (Kubernetes %s)\n",
				v.Version, v.Commit, v.Go, v.Platform, v.NodeImage, v.KubernetesVersion)
			return err
		},
	}
	outputFlag(cmd, &output, documentFormats...)
	return cmd
}

func thisVersion() Version {
	return Version{
		Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		NodeImage: config.NodeImage(config.DefaultKubernetesVersion), KubernetesVersion: config.DefaultKubernetesVersion,
	}
}
