// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Environment variables that name the cluster that is meant if no argument and
// no flag does. The second one is kind's.
const (
	envClusterName     = "RK_CLUSTER_NAME"
	envKindClusterName = "KIND_CLUSTER_NAME"
)

// nameFlag adds --name, which has kind's shorthand.
func nameFlag(cmd *cobra.Command, name *string, what string) {
	cmd.Flags().StringVarP(name, "name", "n", config.DefaultName, what+" (default $"+envClusterName+")")
}

// clusterName returns the name of a cluster that was given as argument, as
// --name or in the environment, "" if none was.
func (a *app) clusterName(cmd *cobra.Command, args []string, flag string) (string, error) {
	given := cmd.Flags().Changed("name")
	name := flag
	switch {
	case len(args) > 0:
		name = args[0]
		if given && flag != name {
			return "", usageErrorf(cmd, "two names are given: %q and --name %q", name, flag)
		}
	case !given:
		return a.clusterNameFromEnv()
	}
	if err := config.ValidateName(name); err != nil {
		return "", problem.InvalidName.Wrap(err)
	}
	return name, nil
}

func (a *app) clusterNameFromEnv() (string, error) {
	for _, variable := range []string{envClusterName, envKindClusterName} {
		name := a.Env(variable)
		if name == "" {
			continue
		}
		if err := config.ValidateName(name); err != nil {
			return "", problem.InvalidName.Wrapf("$%s: %w", variable, err)
		}
		return name, nil
	}
	return "", nil
}

// oneCluster is clusterName with the default name.
func (a *app) oneCluster(cmd *cobra.Command, args []string, flag string) (string, error) {
	name, err := a.clusterName(cmd, args, flag)
	return cmp.Or(name, config.DefaultName), err
}
