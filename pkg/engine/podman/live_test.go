// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"os"
	"testing"

	"github.com/containers/podman/v5/pkg/bindings/volumes"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
)

// TestLive runs the conformance suite against a real rootless Podman if
// RK_LIVE_ENGINE is "podman". The API service is CONTAINER_HOST or the user's
// podman.socket; RK_TESTPROG is a static build of enginetest/testprog.
func TestLive(t *testing.T) {
	if os.Getenv("RK_LIVE_ENGINE") != "podman" {
		t.Skip("RK_LIVE_ENGINE is not podman")
	}
	binary, err := os.ReadFile(os.Getenv("RK_TESTPROG"))
	if err != nil {
		t.Fatalf("RK_TESTPROG: %v", err)
	}
	enginetest.Run(t, func(t *testing.T) engine.Engine { return dialLive(t) }, enginetest.Options{
		Binary: binary, Live: true, Volumes: countVolumes,
	})
}

// dialLive also works when the test's context has ended.
func dialLive(t *testing.T) *Client {
	t.Helper()
	uri := os.Getenv("CONTAINER_HOST")
	if uri == "" {
		uri = "unix://" + os.Getenv("XDG_RUNTIME_DIR") + "/podman/podman.sock"
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
	defer c.Close()
	n := 0
	err := c.do(context.WithoutCancel(t.Context()), func(ctx context.Context) error {
		list, err := volumes.List(ctx, nil)
		n = len(list)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
