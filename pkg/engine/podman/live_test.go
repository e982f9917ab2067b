// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

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

func liveURI() string {
	if uri := os.Getenv("CONTAINER_HOST"); uri != "" {
		return uri
	}
	return "unix://" + os.Getenv("XDG_RUNTIME_DIR") + "/podman/podman.sock"
}

// dialLive also works when the test's context has ended.
func dialLive(t *testing.T) *Client {
	t.Helper()
	c, err := Dial(context.WithoutCancel(t.Context()), liveURI())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func countVolumes(t *testing.T) int {
	t.Helper()
	c := dialLive(t)
	defer c.Close() //nolint:errcheck // done with
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

// BenchmarkLiveNode times what a node's container costs: the calls that create
// it, give it its files, start it, run a command and remove it.
func BenchmarkLiveNode(b *testing.B) {
	if os.Getenv("RK_LIVE_ENGINE") != "podman" {
		b.Skip("RK_LIVE_ENGINE is not podman")
	}
	c, err := Dial(b.Context(), liveURI())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // done with
	ctx := b.Context()
	network := engine.NetworkSpec{Name: "rk-enginetest-bench", Subnet: netip.MustParsePrefix("10.211.250.0/24")}
	if err := c.CreateNetwork(ctx, network); err != nil {
		b.Fatal(err)
	}
	defer c.RemoveNetwork(context.WithoutCancel(ctx), network.Name) //nolint:errcheck // a benchmark
	spec := nodeSpec
	spec.Name, spec.Image, spec.Network, spec.IP = network.Name, enginetest.ImageRef, network.Name, netip.MustParseAddr("10.211.250.2")
	spec.Volumes = []string{"/data"}
	spent := map[string]time.Duration{}
	timed := func(what string, f func() error) {
		begin := time.Now()
		if err := f(); err != nil {
			b.Fatal(what, err)
		}
		spent[what] += time.Since(begin)
	}
	for b.Loop() {
		timed("create", func() error { _, err := c.CreateContainer(ctx, spec); return err })
		timed("copy", func() error { return c.CopyIn(ctx, spec.Name, "/etc", bytes.NewReader(make([]byte, 1024))) })
		timed("start", func() error { return c.StartContainer(ctx, spec.Name) })
		timed("list", func() error { _, err := c.ListContainers(ctx, nil); return err })
		timed("exec", func() error {
			_, err := c.Exec(ctx, spec.Name, engine.Process{Argv: []string{"/testprog", "exit", "0"}})
			return err
		})
		timed("remove", func() error { return c.RemoveContainer(ctx, spec.Name) })
		timed("info", func() error { _, err := c.Info(ctx); return err })
	}
	for what, d := range spent {
		b.ReportMetric(float64(d.Milliseconds())/float64(b.N), "ms/"+what)
	}
}
