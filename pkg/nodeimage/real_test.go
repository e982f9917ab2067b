// SPDX-License-Identifier: Apache-2.0

package nodeimage_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
)

// TestRealBuild builds a node image twice, each time with an empty cache but
// for the programs, and compares the digests. It needs mmdebstrap, the network
// and some minutes, so RK_TEST_NODE_IMAGE=1 must ask for it.
func TestRealBuild(t *testing.T) {
	if os.Getenv("RK_TEST_NODE_IMAGE") == "" {
		t.Skip("RK_TEST_NODE_IMAGE is not set")
	}
	programs, err := part.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	options := nodeimage.Options{
		KubernetesVersion: os.Getenv("RK_TEST_KUBERNETES"),
		Source:            &part.Module{Cache: programs, Arch: runtime.GOARCH},
	}
	build := func(cache string) *nodeimage.Result {
		options.CacheDir = cache
		res, err := nodeimage.Build(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	caches := []string{t.TempDir(), t.TempDir()}
	first, second := build(caches[0]), build(caches[1])
	if diff := cmp.Diff(first.Layers, second.Layers); diff != "" {
		t.Errorf("layers of two builds (-first +second):\n%s", diff)
	}
	if first.Digest != second.Digest {
		t.Errorf("digests %s and %s of two builds", first.Digest, second.Digest)
	}
	info, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != first.Size {
		t.Errorf("the archive has %d bytes, not %d", info.Size(), first.Size)
	}

	again := build(caches[0])
	for _, l := range again.Layers {
		if !l.Cached {
			t.Errorf("layer %s was made anew though nothing changed", l.Name)
		}
	}
	options.Output = filepath.Join(t.TempDir(), "node.tar")
	if other := build(caches[0]); other.Digest != first.Digest || other.Path != options.Output {
		t.Errorf("written to another file it is %s at %s", other.Digest, other.Path)
	}
}
