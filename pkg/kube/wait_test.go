// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	deployPath = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
	daemonPath = "/apis/apps/v1/namespaces/kube-system/daemonsets/flannel"
	podPath    = "/api/v1/namespaces/kube-system/pods/"
)

func nodeObject(status, reason, message string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Node", "status": map[string]any{"conditions": []any{
		map[string]any{"type": "MemoryPressure", "status": "False"},
		map[string]any{"type": "Ready", "status": status, "reason": reason, "message": message},
	}}}
}

func deployObject(generation, observed int, available string) map[string]any {
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"generation": generation},
		"spec": map[string]any{"replicas": 2, "selector": map[string]any{"matchLabels": map[string]any{"app": "dns"}}},
		"status": map[string]any{
			"observedGeneration": observed, "availableReplicas": 1,
			"conditions": []any{map[string]any{"type": "Available", "status": available}},
		},
	}
}

func daemonObject(desired, ready int) map[string]any {
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": map[string]any{"generation": 1, "uid": "ds-uid"},
		"spec":   map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": "flannel"}}},
		"status": map[string]any{"observedGeneration": 1, "desiredNumberScheduled": desired, "updatedNumberScheduled": desired, "numberReady": ready},
	}
}

func podObject(app, node string, status map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"labels": map[string]any{"app": app}, "ownerReferences": []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": app, "uid": "ds-uid", "controller": true},
		}},
		"spec": map[string]any{"nodeName": node}, "status": status,
	}
}

var podIsReady = map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}

// waiting runs Wait and hands over every reported line.
func waiting(t *testing.T, c *Client, conds ...Condition) (next func() string, done func() error) {
	lines, result := make(chan string, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { result <- c.Wait(ctx, func(s string) { lines <- s }, conds...) }()
	return func() string { return <-lines }, func() error { return <-result }
}

// until reads reported lines up to one that contains want.
func until(t *testing.T, next func() string, want string) {
	t.Helper()
	for !strings.Contains(next(), want) {
	}
}

func TestWaitFollowsNodes(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	next, done := waiting(t, api.client(), NodesReady("a", "b"))
	until(t, next, "nodes: 0 of 2 are Ready; a is not registered yet; b is not registered yet")
	api.put("/api/v1/nodes/a", nodeObject("False", "KubeletNotReady", "cni plugin not initialized"))
	until(t, next, "a: Ready is False: KubeletNotReady: cni plugin not initialized; b is not registered yet")
	api.put("/api/v1/nodes/a", nodeObject("True", "KubeletReady", ""))
	until(t, next, "1 of 2 are Ready; b is not registered yet")
	api.put("/api/v1/nodes/other", nodeObject("True", "", ""))
	api.put("/api/v1/nodes/b", map[string]any{"apiVersion": "v1", "kind": "Node"})
	until(t, next, "b: its kubelet has not reported yet")
	api.put("/api/v1/nodes/b", nodeObject("True", "", ""))
	if err := done(); err != nil {
		t.Error(err)
	}
}

func TestWaitNeedsAllConditionsAtTheSameTime(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/api/v1/nodes/a", nodeObject("True", "", ""))
	next, done := waiting(t, api.client(), NodesReady("a"), DeploymentAvailable("kube-system", "coredns"))
	until(t, next, "deployment kube-system/coredns: does not exist yet")
	api.put("/api/v1/nodes/a", nodeObject("Unknown", "NodeStatusUnknown", "gone"))
	until(t, next, "Ready is Unknown: NodeStatusUnknown: gone (and 1 more)")
	api.put(deployPath, deployObject(1, 1, "True"))
	api.put("/api/v1/nodes/a", nodeObject("True", "", ""))
	if err := done(); err != nil {
		t.Error(err)
	}
}

func TestWaitIsImmediateWhenMet(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/api/v1/nodes/a", nodeObject("True", "", ""))
	if err := api.client().Wait(t.Context(), nil, NodesReady("a")); err != nil {
		t.Error(err)
	}
	if err := api.client().Wait(t.Context(), nil); err != nil {
		t.Errorf("without conditions: %v", err)
	}
}

func TestWaitResumesAfterADroppedWatchAndMissedEvents(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/api/v1/nodes/b", nodeObject("True", "", ""))
	next, done := waiting(t, api.client(), NodesReady("a", "b"))
	until(t, next, "1 of 2 are Ready; a is not registered yet")

	var mu sync.Mutex
	down := true
	asked := make(chan struct{}, 1)
	api.setFault(func(r *http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if !down {
			return 0, ""
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return 503, statusBody(503, "ServiceUnavailable", "restarting")
	})
	api.dropWatches()
	<-asked // it tries again while the server is down
	api.remove("/api/v1/nodes/b")
	api.put("/api/v1/nodes/a", nodeObject("True", "", ""))
	mu.Lock()
	down = false
	mu.Unlock()
	until(t, next, "b is not registered yet") // the removal happened while nobody watched
	api.put("/api/v1/nodes/b", nodeObject("True", "", ""))
	if err := done(); err != nil {
		t.Error(err)
	}
}

func TestWaitErrorHoldsTheLastCauseOfEachCondition(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put("/api/v1/nodes/a", nodeObject("False", "KubeletNotReady", "cni plugin not initialized"))
	api.put("/api/v1/nodes/b", nodeObject("True", "", ""))
	api.put(deployPath, deployObject(2, 2, "False"))
	api.put(podPath+"coredns-1", podObject("dns", "b", podIsReady))
	api.put(podPath+"coredns-2", podObject("dns", "a", map[string]any{"phase": "Pending", "containerStatuses": []any{
		map[string]any{"name": "dns", "state": map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
			"lastState": map[string]any{"terminated": map[string]any{"exitCode": 1, "reason": "Error"}}},
	}}))
	api.put(daemonPath, daemonObject(2, 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	const want = `nodes: 1 of 2 are Ready; a: Ready is False: KubeletNotReady: cni plugin not initialized
deployment kube-system/coredns: 1 of 2 replicas are available: pod coredns-2: container dns waits: CrashLoopBackOff: back-off 10s; it last ended with exit code 1: Error
daemonset kube-system/flannel: 1 of 2 pods are ready: it has no pods yet`
	known := []string{"/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/namespaces/kube-system/deployments", "/apis/apps/v1/namespaces/kube-system/daemonsets"}
	go func() { // time is up once everything is listed and watched
		for {
			n := 0
			for _, p := range known {
				for _, r := range api.requests() {
					if r == "GET "+p {
						n++
					}
				}
			}
			if n >= 2*len(known) {
				cancel(nil)
				return
			}
		}
	}()
	conds := []Condition{NodesReady("a", "b"), DeploymentAvailable("kube-system", "coredns"), DaemonSetReady("kube-system", "flannel")}
	err := api.client().Wait(ctx, nil, conds...)
	var we *WaitError
	if !errors.As(err, &we) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
	var names []string
	for _, u := range we.Unmet {
		names = append(names, u.Condition)
	}
	if !slices.Equal(names, []string{"nodes", "deployment kube-system/coredns", "daemonset kube-system/flannel"}) {
		t.Errorf("unmet: %v", names)
	}
}

func TestWaitErrorWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.setFault(func(*http.Request) (int, string) { return 503, statusBody(503, "ServiceUnavailable", "not today") })
	ctx, cancel := context.WithCancel(t.Context())
	err := api.client().Wait(ctx, func(line string) {
		if strings.Contains(line, "not today") {
			cancel()
		}
	}, NodesReady("a"))
	if err == nil || err.Error() != "nodes: not today" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDeploymentAvailable(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	next, done := waiting(t, api.client(), DeploymentAvailable("kube-system", "coredns"))
	until(t, next, "does not exist yet")
	api.put(deployPath, deployObject(2, 1, "True"))
	until(t, next, "the controller manager has not seen it yet")
	api.put(deployPath, deployObject(2, 2, "False"))
	until(t, next, "1 of 2 replicas are available: it has no pods yet")
	api.put(podPath+"p", podObject("dns", "", map[string]any{"phase": "Pending", "conditions": []any{
		map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
	}}))
	until(t, next, "pod p: is not scheduled: Unschedulable: 0/1 nodes are available")
	api.put(deployPath, deployObject(2, 2, "True"))
	if err := done(); err != nil {
		t.Error(err)
	}
}

func TestDaemonSetReady(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	next, done := waiting(t, api.client(), DaemonSetReady("kube-system", "flannel"))
	until(t, next, "does not exist yet")
	api.put(daemonPath, daemonObject(0, 0))
	until(t, next, "there is no node for it yet")
	api.put(daemonPath, daemonObject(2, 1))
	until(t, next, "1 of 2 pods are ready")
	api.put(daemonPath, daemonObject(2, 2))
	if err := done(); err != nil {
		t.Error(err)
	}
}

// The DaemonSet says that it is complete, but does not count node b yet.
func TestDaemonSetReadyOnNodes(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put(daemonPath, daemonObject(1, 1))
	api.put(podPath+"flannel-a", podObject("flannel", "a", podIsReady))
	other := podObject("flannel", "b", podIsReady)
	other["metadata"].(map[string]any)["ownerReferences"] = nil
	api.put(podPath+"other", other)
	next, done := waiting(t, api.client(), DaemonSetReady("kube-system", "flannel", "a", "b"))
	until(t, next, "daemonset kube-system/flannel: no ready pod on b")
	api.put(podPath+"flannel-b", podObject("flannel", "b", map[string]any{"phase": "Running", "containerStatuses": []any{
		map[string]any{"name": "flannel", "ready": false, "state": map[string]any{"running": map[string]any{}}},
	}}))
	until(t, next, "no ready pod on b: pod flannel-b: container flannel runs but is not ready")
	api.put(podPath+"flannel-b", podObject("flannel", "b", podIsReady))
	if err := done(); err != nil {
		t.Error(err)
	}
}

func TestAPIReady(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	var mu sync.Mutex
	ready := false
	api.setFault(func(r *http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if ready {
			return 200, "ok"
		}
		return 500, "[-]etcd failed: reason withheld\nreadyz check failed"
	})
	next, done := waiting(t, api.client(), APIReady())
	until(t, next, "Kubernetes API: API server is not ready: etcd")
	mu.Lock()
	ready = true
	mu.Unlock()
	if err := done(); err != nil {
		t.Error(err)
	}
}
