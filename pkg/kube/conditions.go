// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

const (
	kindNode       = "Node"
	kindPod        = "Pod"
	kindDeployment = "Deployment"
	kindDaemonSet  = "DaemonSet"
)

func newNodeList() runtime.Object       { return &corev1.NodeList{} }
func newPodList() runtime.Object        { return &corev1.PodList{} }
func newDeploymentList() runtime.Object { return &appsv1.DeploymentList{} }
func newDaemonSetList() runtime.Object  { return &appsv1.DaemonSetList{} }

var nodes = source{path: "/api/v1/nodes", kind: kindNode}

func podsIn(ns string) source {
	return source{path: "/api/v1/namespaces/" + ns + "/pods", kind: kindPod}
}

// condition is a Condition made of its parts.
type condition struct {
	name string
	from []source
	met  func(v *view) error
}

func (c *condition) String() string      { return c.name }
func (c *condition) sources() []source   { return c.from }
func (c *condition) check(v *view) error { return c.met(v) }

// APIReady is met once the API server's /readyz has said ok.
func APIReady() Condition {
	s := source{path: "/readyz"}
	return &condition{"Kubernetes API", []source{s}, func(v *view) error { return v.errs[s] }}
}

// NodesReady is met when each of these nodes is registered and its condition
// Ready is True.
func NodesReady(names ...string) Condition {
	return &condition{"nodes", []source{nodes}, func(v *view) error {
		var causes []string
		for _, name := range names {
			o, err := v.get(nodes, name)
			switch {
			case errors.Is(err, errAbsent):
				causes = append(causes, name+" is not registered yet")
			case err != nil:
				return err
			default:
				if err := nodeReady(o.(*corev1.Node)); err != nil {
					causes = append(causes, name+": "+err.Error())
				}
			}
		}
		if len(causes) == 0 {
			return nil
		}
		return fmt.Errorf("%d of %d are Ready; %s", len(names)-len(causes), len(names), strings.Join(causes, "; "))
	}}
}

func nodeReady(n *corev1.Node) error {
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return nil
		}
		return fmt.Errorf("Ready is %s: %s", c.Status, reason(c.Reason, c.Message)) //nolint:staticcheck // Ready is a name
	}
	return errors.New("its kubelet has not reported yet")
}

// DeploymentAvailable is met when the Deployment's condition Available is
// True for its current specification.
func DeploymentAvailable(ns, name string) Condition {
	s := source{path: "/apis/apps/v1/namespaces/" + ns + "/deployments", kind: kindDeployment}
	pods := podsIn(ns)
	return &condition{"deployment " + ns + "/" + name, []source{s, pods}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		d := o.(*appsv1.Deployment)
		if d.Status.ObservedGeneration < d.Generation {
			return errUnseen
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		return fmt.Errorf("%d of %d replicas are available%s", d.Status.AvailableReplicas, want, podCause(v, pods, d.Spec.Selector))
	}}
}

// DaemonSetReady is met when every pod that the DaemonSet wants is up to
// date and ready, and at least one is wanted. Names of nodes make it stricter:
// each of them has a ready pod of it, also if the DaemonSet's status does not
// count that node yet.
func DaemonSetReady(ns, name string, onNodes ...string) Condition {
	s := source{path: "/apis/apps/v1/namespaces/" + ns + "/daemonsets", kind: kindDaemonSet}
	pods := podsIn(ns)
	return &condition{"daemonset " + ns + "/" + name, []source{s, pods}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		d := o.(*appsv1.DaemonSet)
		if len(onNodes) > 0 {
			return podsOnNodes(v, pods, d.UID, onNodes)
		}
		st := d.Status
		switch {
		case st.ObservedGeneration < d.Generation:
			return errUnseen
		case st.DesiredNumberScheduled == 0:
			return errors.New("there is no node for it yet")
		case st.NumberReady < st.DesiredNumberScheduled || st.UpdatedNumberScheduled < st.DesiredNumberScheduled:
			return fmt.Errorf("%d of %d pods are ready%s", st.NumberReady, st.DesiredNumberScheduled, podCause(v, pods, d.Spec.Selector))
		}
		return nil
	}}
}

// podsOnNodes checks that each node has a ready pod of the owner.
func podsOnNodes(v *view, pods source, owner types.UID, nodes []string) error {
	all, err := v.all(pods)
	if err != nil {
		return err
	}
	missing := slices.Clone(nodes)
	why := ""
	for _, o := range all {
		p := o.(*corev1.Pod)
		ref := metav1.GetControllerOf(p)
		if ref == nil || ref.UID != owner || p.DeletionTimestamp != nil {
			continue
		}
		i := slices.Index(missing, p.Spec.NodeName)
		if i < 0 {
			continue
		}
		if cause := podReady(p); cause != nil {
			if why == "" {
				why = fmt.Sprintf(": pod %s: %v", p.Name, cause)
			}
			continue
		}
		missing = slices.Delete(missing, i, i+1)
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("no ready pod on %s%s", strings.Join(missing, ", "), why)
}

// podCause describes the first pod of a selector that is not ready, as an
// addition to a message; empty if there is none to blame.
func podCause(v *view, pods source, selector *metav1.LabelSelector) string {
	all, err := v.all(pods)
	if err != nil {
		return ""
	}
	sel, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return ""
	}
	found := false
	for _, o := range all {
		p := o.(*corev1.Pod)
		if !sel.Matches(labels.Set(p.Labels)) || p.DeletionTimestamp != nil {
			continue
		}
		found = true
		if cause := podReady(p); cause != nil {
			return fmt.Sprintf(": pod %s: %v", p.Name, cause)
		}
	}
	if !found {
		return ": it has no pods yet"
	}
	return ""
}

// podReady returns nil if the pod is ready, else what is in its way: the
// scheduler, a container that waits or crashes, or a readiness probe.
func podReady(p *corev1.Pod) error {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
		if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			return fmt.Errorf("is not scheduled: %s", reason(c.Reason, c.Message))
		}
	}
	if p.Spec.NodeName == "" {
		return errors.New("is not scheduled yet")
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if cause := containerCause(s); cause != "" {
			return fmt.Errorf("container %s %s", s.Name, cause)
		}
	}
	if p.Status.Message != "" || p.Status.Reason != "" {
		return fmt.Errorf("is %s: %s", p.Status.Phase, reason(p.Status.Reason, p.Status.Message))
	}
	return fmt.Errorf("is %s on node %s", strings.ToLower(string(p.Status.Phase)), p.Spec.NodeName)
}

func containerCause(s corev1.ContainerStatus) string {
	last := ""
	if t := s.LastTerminationState.Terminated; t != nil {
		last = fmt.Sprintf("; it last ended with exit code %d: %s", t.ExitCode, reason(t.Reason, t.Message))
	}
	switch {
	case s.State.Waiting != nil:
		return "waits: " + reason(s.State.Waiting.Reason, s.State.Waiting.Message) + last
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		t := s.State.Terminated
		return fmt.Sprintf("ended with exit code %d: %s", t.ExitCode, reason(t.Reason, t.Message))
	case s.State.Running != nil && !s.Ready:
		return "runs but is not ready" + last
	}
	return ""
}

// reason joins a machine's reason and a human's message.
func reason(reason, message string) string {
	switch {
	case message == "":
		return reason
	case reason == "":
		return strings.TrimSpace(message)
	}
	return reason + ": " + strings.TrimSpace(message)
}
