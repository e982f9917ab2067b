// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Health is how a cluster is doing, as its API tells.
type Health struct {
	Nodes        []NodeHealth `json:"nodes"`        // ordered by name
	ControlPlane []Component  `json:"controlPlane"` // ordered by node and name
	Addons       []Workload   `json:"addons"`       // of rk's own namespaces, ordered
}

// NodeHealth is a node as the API knows it.
type NodeHealth struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"` // why it is not
	Kubelet string `json:"kubelet"`           // version
	Runtime string `json:"runtime"`           // e.g. "containerd://2.4.2"
}

// Component is a static pod of the control plane.
type Component struct {
	Name    string `json:"name"` // e.g. "kube-scheduler"
	Node    string `json:"node"`
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"` // why it is not
}

// Workload is a DaemonSet or a Deployment.
type Workload struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Ready     int    `json:"ready"` // pods
	Wanted    int    `json:"wanted"`
}

// addonNamespaces are those of the add-ons of a cluster.
var addonNamespaces = []string{"kube-flannel", "kube-system", "local-path-storage"}

// Health asks the API once for everything. It fails if the API does not
// answer, or is not ready (see WaitReadyz).
func (c *Client) Health(ctx context.Context) (*Health, error) {
	if err := c.readyz(ctx); err != nil {
		return nil, err
	}
	var nodes corev1.NodeList
	var pods corev1.PodList
	var daemons appsv1.DaemonSetList
	var deployments appsv1.DeploymentList
	for _, err := range []error{
		c.get(ctx, "/api/v1/nodes", &nodes),
		c.get(ctx, "/api/v1/namespaces/kube-system/pods", &pods),
		c.get(ctx, "/apis/apps/v1/daemonsets", &daemons),
		c.get(ctx, "/apis/apps/v1/deployments", &deployments),
	} {
		if err != nil {
			return nil, err
		}
	}
	h := &Health{Nodes: []NodeHealth{}, ControlPlane: []Component{}, Addons: []Workload{}}
	for _, n := range nodes.Items {
		h.Nodes = append(h.Nodes, nodeHealth(n))
	}
	for _, p := range pods.Items {
		if p.Labels["tier"] == "control-plane" { // as kubeadm labels them
			h.ControlPlane = append(h.ControlPlane, component(p))
		}
	}
	for _, d := range daemons.Items {
		h.add(Workload{d.Namespace, d.Name, "DaemonSet", int(d.Status.NumberReady), int(d.Status.DesiredNumberScheduled)})
	}
	for _, d := range deployments.Items {
		wanted := 1
		if d.Spec.Replicas != nil {
			wanted = int(*d.Spec.Replicas)
		}
		h.add(Workload{d.Namespace, d.Name, "Deployment", int(d.Status.ReadyReplicas), wanted})
	}
	slices.SortFunc(h.Nodes, func(a, b NodeHealth) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(h.ControlPlane, func(a, b Component) int { return strings.Compare(a.Node+" "+a.Name, b.Node+" "+b.Name) })
	slices.SortFunc(h.Addons, func(a, b Workload) int { return strings.Compare(a.Namespace+" "+a.Name, b.Namespace+" "+b.Name) })
	return h, nil
}

func (h *Health) add(w Workload) {
	if slices.Contains(addonNamespaces, w.Namespace) {
		h.Addons = append(h.Addons, w)
	}
}

func nodeHealth(n corev1.Node) NodeHealth {
	h := NodeHealth{Name: n.Name, Kubelet: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion, Message: "the kubelet has not reported"}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			h.Ready, h.Message = c.Status == corev1.ConditionTrue, firstLine(cmp.Or(c.Message, c.Reason))
		}
	}
	if h.Ready {
		h.Message = ""
	}
	return h
}

func component(p corev1.Pod) Component {
	c := Component{Name: cmp.Or(p.Labels["component"], p.Name), Node: p.Spec.NodeName, Message: "it does not run"}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady {
			c.Ready, c.Message = cond.Status == corev1.ConditionTrue, firstLine(cmp.Or(cond.Message, cond.Reason, c.Message))
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil && !c.Ready {
			c.Message = cmp.Or(w.Reason, c.Message)
		}
	}
	if c.Ready {
		c.Message = ""
	}
	return c
}
