// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"os"
	"path/filepath"
	"slices"
)

// KubeconfigPaths returns the files in which kubectl looks for clusters:
// explicit (--kubeconfig) alone if it is given, else the files of env (the
// value of $KUBECONFIG), else home/.kube/config.
func KubeconfigPaths(explicit, env, home string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	var paths []string
	for _, p := range filepath.SplitList(env) {
		if p != "" && !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		paths = []string{filepath.Join(home, ".kube", "config")}
	}
	return paths
}

// ResolvePath returns the one file to which kubectl adds a new cluster: of
// the files of KubeconfigPaths the first that exists, else the last
// (client-go, tools/clientcmd, PathOptions.GetDefaultFilename).
func ResolvePath(explicit, env, home string) string {
	paths := KubeconfigPaths(explicit, env, home)
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[len(paths)-1]
}
