// SPDX-License-Identifier: Apache-2.0

package part_test

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
)

// versionOf says how a program is asked for its version where that is not
// --version, and what it answers with where that is not the part's version.
var versionOf = map[string]struct{ args, want string }{
	"bandwidth":                      {args: "", want: "CNI bandwidth plugin"},
	"bridge":                         {args: "", want: "CNI bridge plugin"},
	"coredns":                        {args: "-version"},
	"etcd":                           {args: "--version"},
	"firewall":                       {args: "", want: "CNI firewall plugin"},
	"flannel":                        {args: "", want: "CNI flannel plugin"},
	"flanneld":                       {args: "--version"},
	"host-local":                     {args: "", want: "CNI host-local plugin"},
	"kubectl":                        {args: "version --client"},
	"kubeadm":                        {args: "version -o short"},
	"loopback":                       {args: "", want: "CNI loopback plugin"},
	"portmap":                        {args: "", want: "CNI portmap plugin"},
	"ptp":                            {args: "", want: "CNI ptp plugin"},
	"tuning":                         {args: "", want: "CNI tuning plugin"},
	"containerd-shim-runc-v2":        {args: "-v"},
	"containerd-fuse-overlayfs-grpc": {args: "--help", want: "fuse-overlayfs"},
}

// TestRealParts compiles the parts named in RK_TEST_PARTS (comma-separated, or
// "all"; those of RK_TEST_KUBERNETES or of the default release) into the
// user's own cache and asks each program for its version. It needs the
// network and, with a cold cache, many minutes: go test -timeout 90m.
func TestRealParts(t *testing.T) {
	wanted := os.Getenv("RK_TEST_PARTS")
	if wanted == "" {
		t.Skip("RK_TEST_PARTS is not set")
	}
	versions, err := part.Load()
	if err != nil {
		t.Fatal(err)
	}
	release, err := versions.Release(os.Getenv("RK_TEST_KUBERNETES"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := part.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	source := &part.Module{Cache: cache, Arch: runtime.GOARCH}
	for _, p := range versions.For(release) {
		if wanted != "all" && !slices.Contains(strings.Split(wanted, ","), p.Name) {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			start := time.Now()
			built, err := source.Fetch(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %s: cached %v, %v", p.Name, p.Version, built.Cached, time.Since(start).Round(time.Millisecond))
			for _, f := range built.Files {
				t.Logf("%-32s %6.1f MB %s", f.Name, float64(f.Size)/1e6, f.Path)
				checkVersion(t, p, f)
			}
		})
	}
}

func checkVersion(t *testing.T, p part.Part, f part.File) {
	t.Helper()
	ask, ok := versionOf[f.Name]
	if !ok {
		ask.args = "--version"
	}
	if ask.want == "" {
		ask.want = strings.TrimPrefix(p.Version, "v")
	}
	// Some answer a question for their version with exit code 1.
	out, err := exec.CommandContext(t.Context(), f.Path, strings.Fields(ask.args)...).CombinedOutput()
	if !strings.Contains(string(out), ask.want) {
		t.Errorf("%s %s answers %q (%v), want something with %q", f.Name, ask.args, out, err, ask.want)
	}
}
