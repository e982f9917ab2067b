// SPDX-License-Identifier: Apache-2.0

//go:build ignore

// Command registry is the registry of the CNCF Distribution project with
// storage in files, and logins by htpasswd(1) files. A node image's build
// compiles it, with the requirements of parts/registry.mod.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
