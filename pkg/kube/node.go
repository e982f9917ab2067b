// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Taint is a taint of a node.
type Taint struct {
	Key    string
	Value  string
	Effect string // "NoSchedule", "PreferNoSchedule" or "NoExecute"
}

// EnsureNode sees to it that the node object exists with these pod CIDRs,
// labels and taints. It creates the object, so that a pod network can be laid
// out before the kubelet registers, or adds to one that the kubelet has
// created already (a kubelet likewise takes over an object that it finds).
// Other labels and taints stay. Pod CIDRs cannot be changed once they are
// set: other ones than these are an error. Transient errors are repeated
// until ctx ends.
func (c *Client) EnsureNode(ctx context.Context, name string, podCIDRs []string, labels map[string]string, taints ...Taint) error {
	want := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.NodeSpec{PodCIDRs: podCIDRs},
	}
	if len(podCIDRs) > 0 {
		want.Spec.PodCIDR = podCIDRs[0]
	}
	for _, t := range taints {
		want.Spec.Taints = append(want.Spec.Taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	err := retry(ctx, isTransient, func(ctx context.Context) error { return c.ensureNode(ctx, want) })
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	return nil
}

func (c *Client) ensureNode(ctx context.Context, want *corev1.Node) error {
	err := c.send(ctx, http.MethodPost, "/api/v1/nodes", runtime.ContentTypeJSON, want, map[string]string{"fieldManager": fieldManager})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	path := "/api/v1/nodes/" + want.Name
	var have corev1.Node
	if err := c.get(ctx, path, &have); err != nil {
		return err
	}
	patch, err := nodePatch(&have, want)
	if err != nil || patch == nil {
		return err
	}
	return c.send(ctx, http.MethodPatch, path, string(types.MergePatchType), patch, map[string]string{"fieldManager": fieldManager})
}

// nodePatch returns the merge patch that adds to have what want has, nil if
// nothing is missing. With the resource version that was read, a change in
// between makes a conflict.
func nodePatch(have, want *corev1.Node) (map[string]any, error) {
	metadata, spec := map[string]any{}, map[string]any{}
	if len(want.Spec.PodCIDRs) > 0 && !slices.Equal(have.Spec.PodCIDRs, want.Spec.PodCIDRs) {
		if len(have.Spec.PodCIDRs) > 0 {
			return nil, &permanentError{fmt.Errorf("has the pod CIDRs %v already, and they cannot be changed to %v: is the controller manager allocating them (--allocate-node-cidrs)?",
				have.Spec.PodCIDRs, want.Spec.PodCIDRs)}
		}
		spec["podCIDR"], spec["podCIDRs"] = want.Spec.PodCIDR, want.Spec.PodCIDRs
	}
	labels := map[string]string{}
	for k, v := range want.Labels {
		if old, ok := have.Labels[k]; !ok || old != v {
			labels[k] = v
		}
	}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if taints := mergeTaints(have.Spec.Taints, want.Spec.Taints); !slices.Equal(taints, have.Spec.Taints) {
		spec["taints"] = taints // a merge patch replaces lists
	}
	if len(metadata) == 0 && len(spec) == 0 {
		return nil, nil
	}
	metadata["resourceVersion"] = have.ResourceVersion
	return map[string]any{"metadata": metadata, "spec": spec}, nil
}

func mergeTaints(have, want []corev1.Taint) []corev1.Taint {
	out := slices.Clone(have)
	for _, t := range want {
		i := slices.IndexFunc(out, func(h corev1.Taint) bool { return h.MatchTaint(&t) })
		switch {
		case i < 0:
			out = append(out, t)
		case out[i].Value != t.Value:
			out[i].Value = t.Value
		}
	}
	return out
}
