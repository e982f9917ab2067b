// SPDX-License-Identifier: Apache-2.0

//go:build ignore

// Command registry is the registry of the CNCF Distribution project with
// storage in files, and logins by htpasswd(1) files. A node image's build
// compiles it, with the requirements of parts/registry.mod.
package main

import (
	"net"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// dialTimeout is how long a cache tries to reach its upstream before it serves
// what it has. Go's own transport tries for 30 s, which is as long as containerd
// waits for an answer (ResponseHeaderTimeout in its core/remotes/docker/registry.go).
const dialTimeout = 5 * time.Second

func main() {
	if t, ok := http.DefaultTransport.(*http.Transport); ok { // the proxy's, too
		t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
