// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const nodePath = "/api/v1/nodes/n1"

func TestEnsureNode(t *testing.T) {
	t.Parallel()
	ours := map[string]any{"key": "role", "value": "cp", "effect": "NoSchedule"}
	kubelets := map[string]any{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
	for _, tc := range []struct {
		name       string
		have       map[string]any // nil: no such node
		labels     map[string]any
		spec       map[string]any
		wantWrites int
	}{
		{
			name:       "creates it",
			labels:     map[string]any{"a": "b"},
			spec:       map[string]any{"podCIDR": "10.244.1.0/24", "podCIDRs": []any{"10.244.1.0/24"}, "taints": []any{ours}},
			wantWrites: 1,
		},
		{
			name: "adds to what the kubelet created",
			have: map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"a": "old", "kubernetes.io/hostname": "n1"}},
				"spec":     map[string]any{"providerID": "p", "taints": []any{kubelets, map[string]any{"key": "role", "value": "old", "effect": "NoSchedule"}}},
			},
			labels: map[string]any{"a": "b", "kubernetes.io/hostname": "n1"},
			spec: map[string]any{
				"providerID": "p", "podCIDR": "10.244.1.0/24", "podCIDRs": []any{"10.244.1.0/24"}, "taints": []any{kubelets, ours},
			},
			wantWrites: 2,
		},
		{
			name: "leaves alone what is right",
			have: map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"a": "b"}},
				"spec":     map[string]any{"podCIDR": "10.244.1.0/24", "podCIDRs": []any{"10.244.1.0/24"}, "taints": []any{ours}},
			},
			labels:     map[string]any{"a": "b"},
			spec:       map[string]any{"podCIDR": "10.244.1.0/24", "podCIDRs": []any{"10.244.1.0/24"}, "taints": []any{ours}},
			wantWrites: 1, // the attempt to create it
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t)
			if tc.have != nil {
				api.put(nodePath, tc.have)
			}
			err := api.client().EnsureNode(t.Context(), "n1", []string{"10.244.1.0/24"}, map[string]string{"a": "b"}, Taint{"role", "cp", "NoSchedule"})
			if err != nil {
				t.Fatal(err)
			}
			got := api.object(nodePath)
			if diff := cmp.Diff(tc.labels, got["metadata"].(map[string]any)["labels"]); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.spec, got["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			writes := 0
			for _, r := range api.requests() {
				if !strings.HasPrefix(r, "GET ") {
					writes++
				}
			}
			if writes != tc.wantWrites {
				t.Errorf("%d writes, want %d: %v", writes, tc.wantWrites, api.requests())
			}
		})
	}
}

func TestEnsureNodeSurvivesAChangeInBetween(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put(nodePath, map[string]any{})
	var gets atomic.Int32
	api.setFault(func(r *http.Request) (int, string) {
		if r.Method == http.MethodPatch && gets.Add(1) == 1 { // the kubelet is faster
			api.put(nodePath, map[string]any{"metadata": map[string]any{"labels": map[string]any{"kubelet": "yes"}}})
		}
		return 0, ""
	})
	if err := api.client().EnsureNode(t.Context(), "n1", nil, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": "b", "kubelet": "yes"}
	if diff := cmp.Diff(want, api.object(nodePath)["metadata"].(map[string]any)["labels"]); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestEnsureNodeRefusesOtherPodCIDR(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t)
	api.put(nodePath, map[string]any{"spec": map[string]any{"podCIDR": "10.244.9.0/24", "podCIDRs": []any{"10.244.9.0/24"}}})
	err := api.client().EnsureNode(t.Context(), "n1", []string{"10.244.1.0/24"}, nil)
	if err == nil || !strings.Contains(err.Error(), "node n1: has the pod CIDRs [10.244.9.0/24] already") {
		t.Errorf("got %v", err)
	}
}
