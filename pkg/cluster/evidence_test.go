// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// TestRootCause: what a node says of the host's limits is what is wrong,
// whatever the step that failed for want of them.
func TestRootCause(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]*problem.Problem{
		"Failed to allocate directory watch: Too many open files":                        problem.HostLimit,
		`{"level":"fatal","msg":"failed to create WAL: no space left on device"}`:        problem.DiskFull,
		"inotify_add_watch /sys/fs/cgroup: no space left on device":                      problem.HostLimit,
		"write /sys/fs/cgroup/a/cgroup.procs: no space left on device":                   problem.APINotServing,
		"mkdir /var/lib/containerd/tmpmounts: disk quota exceeded":                       problem.DiskFull,
		"E1125 kubelet.go:2000 \"Error syncing pod\" err=\"CrashLoopBackOff: back-off\"": problem.APINotServing,
	} {
		t.Run(want.Code, func(t *testing.T) {
			t.Parallel()
			f := enginetest.NewFake(testImage)
			f.ExecFunc = func(_ context.Context, _ engine.Container, p engine.Process) (int, error) {
				if p.Stdout == nil || !strings.Contains(strings.Join(p.Argv, " "), "journalctl") {
					return 1, nil
				}
				_, err := fmt.Fprintln(p.Stdout, line)
				return 0, err
			}
			o := CreateOptions{Wait: time.Minute, apiTimeout: time.Millisecond, Kubeconfig: t.TempDir() + "/config"}
			_, err := Create(t.Context(), f, testPlan(t, "demo", 0), o)
			if p, _ := problem.Of(err); !errors.Is(p, want) {
				t.Errorf("got %v, want %s", err, want.Code)
			}
			if !errors.Is(err, problem.APINotServing) {
				t.Errorf("what failed is lost: %v", err)
			}
			if logs := problem.Logs(err); len(logs) != 1 || logs[0].Lines[0] != line {
				t.Errorf("logs: %v", logs)
			}
		})
	}
}

// TestFullDiskEndsTheWait: nobody waits for an API that has no room to come up.
func TestFullDiskEndsTheWait(t *testing.T) {
	t.Parallel()
	f := enginetest.NewFake(testImage)
	f.ExecFunc = func(_ context.Context, _ engine.Container, p engine.Process) (int, error) {
		if p.Stdout == nil || !strings.Contains(strings.Join(p.Argv, " "), "journalctl") {
			return 1, nil
		}
		_, err := fmt.Fprintln(p.Stdout, "panic: failed to create WAL: no space left on device")
		return 0, err
	}
	o := CreateOptions{Wait: time.Hour, watchInterval: time.Millisecond, Kubeconfig: t.TempDir() + "/config"}
	_, err := Create(t.Context(), f, testPlan(t, "demo", 0), o)
	if p, _ := problem.Of(err); !errors.Is(p, problem.DiskFull) || !strings.Contains(err.Error(), "demo-control-plane: panic: failed to create WAL") {
		t.Errorf("got %v, want %s", err, problem.DiskFull.Code)
	}
	if !f.Empty() {
		t.Errorf("left: %v", f.Leftovers())
	}
}
