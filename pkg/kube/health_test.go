// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type jsonObject = map[string]any

func conditionOf(kind, status, message string) jsonObject {
	return jsonObject{"conditions": []any{jsonObject{"type": kind, "status": status, "message": message}}}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	node := func(status, message string) jsonObject {
		s := conditionOf("Ready", status, message)
		s["nodeInfo"] = jsonObject{"kubeletVersion": "v1.36.3", "containerRuntimeVersion": "containerd://2.4.2"}
		return jsonObject{"apiVersion": "v1", "kind": "Node", "status": s}
	}
	f.put("/api/v1/nodes/b", node("False", "container runtime network not ready\nmore"))
	f.put("/api/v1/nodes/a", node("True", "kubelet is posting ready status"))
	pod := func(component string, status jsonObject) jsonObject {
		return jsonObject{
			"apiVersion": "v1", "kind": "Pod", "status": status, "spec": jsonObject{"nodeName": "a"},
			"metadata": jsonObject{"namespace": "kube-system", "labels": jsonObject{"tier": "control-plane", "component": component}},
		}
	}
	f.put("/api/v1/namespaces/kube-system/pods/etcd-a", pod("etcd", conditionOf("Ready", "True", "")))
	waiting := conditionOf("Ready", "False", "containers with unready status")
	waiting["containerStatuses"] = []any{jsonObject{"name": "x", "state": jsonObject{"waiting": jsonObject{"reason": "CrashLoopBackOff"}}}}
	f.put("/api/v1/namespaces/kube-system/pods/kube-scheduler-a", pod("kube-scheduler", waiting))
	f.put("/api/v1/namespaces/kube-system/pods/coredns-1", jsonObject{"apiVersion": "v1", "kind": "Pod", "metadata": jsonObject{"namespace": "kube-system"}})
	f.put("/apis/apps/v1/daemonsets/kube-proxy", jsonObject{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": jsonObject{"namespace": "kube-system"},
		"status": jsonObject{"numberReady": 1, "desiredNumberScheduled": 2},
	})
	f.put("/apis/apps/v1/daemonsets/mine", jsonObject{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": jsonObject{"namespace": "default"}})
	f.put("/apis/apps/v1/deployments/coredns", jsonObject{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": jsonObject{"namespace": "kube-system"},
		"spec": jsonObject{"replicas": 2}, "status": jsonObject{"readyReplicas": 2},
	})
	f.setFault(func(r *http.Request) (int, string) {
		if r.URL.Path == "/readyz" {
			return http.StatusOK, "ok"
		}
		return 0, ""
	})
	got, err := f.client().Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &Health{
		Nodes: []NodeHealth{
			{Name: "a", Ready: true, Kubelet: "v1.36.3", Runtime: "containerd://2.4.2"},
			{Name: "b", Message: "container runtime network not ready", Kubelet: "v1.36.3", Runtime: "containerd://2.4.2"},
		},
		ControlPlane: []Component{{Name: "etcd", Node: "a", Ready: true}, {Name: "kube-scheduler", Node: "a", Message: "CrashLoopBackOff"}},
		Addons:       []Workload{{"kube-system", "coredns", "Deployment", 2, 2}, {"kube-system", "kube-proxy", "DaemonSet", 1, 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.setFault(func(r *http.Request) (int, string) {
		if r.URL.Path == "/readyz" {
			return http.StatusInternalServerError, "[+]ping ok\n[-]etcd failed: reason withheld\n"
		}
		return 0, ""
	})
	if _, err := f.client().Health(t.Context()); err == nil || !strings.Contains(err.Error(), "not ready: etcd") {
		t.Errorf("got %v", err)
	}
}
