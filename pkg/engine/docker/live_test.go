// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"os"
	"testing"

	"github.com/docker/docker/api/types/volume"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
)

// TestLive runs the conformance suite against a real rootless Docker if
// RK_LIVE_ENGINE is "docker". The daemon is DOCKER_HOST or the one at
// $XDG_RUNTIME_DIR/docker.sock; RK_TESTPROG is a static build of
// enginetest/testprog. RK_LIVE_PORTS is "implicit" where RootlessKit's port
// driver is that.
func TestLive(t *testing.T) {
	if os.Getenv("RK_LIVE_ENGINE") != "docker" {
		t.Skip("RK_LIVE_ENGINE is not docker")
	}
	binary, err := os.ReadFile(os.Getenv("RK_TESTPROG"))
	if err != nil {
		t.Fatalf("RK_TESTPROG: %v", err)
	}
	enginetest.Run(t, func(t *testing.T) engine.Engine { return dialLive(t) }, enginetest.Options{
		Binary: binary, Live: true, Volumes: countVolumes, FollowedPorts: os.Getenv("RK_LIVE_PORTS") == "implicit",
	})
}

// dialLive also works when the test's context has ended.
func dialLive(t *testing.T) *Client {
	t.Helper()
	uri := os.Getenv("DOCKER_HOST")
	if uri == "" {
		uri = "unix://" + os.Getenv("XDG_RUNTIME_DIR") + "/docker.sock"
	}
	c, err := Dial(context.WithoutCancel(t.Context()), uri)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func countVolumes(t *testing.T) int {
	t.Helper()
	c := dialLive(t)
	defer c.Close() //nolint:errcheck // done with
	list, err := c.api.VolumeList(context.WithoutCancel(t.Context()), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Volumes)
}
