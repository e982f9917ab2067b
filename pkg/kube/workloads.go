// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	kindStatefulSet = "StatefulSet"
	kindJob         = "Job"
)

func newStatefulSetList() runtime.Object { return &appsv1.StatefulSetList{} }
func newJobList() runtime.Object         { return &batchv1.JobList{} }

// WorkloadsAvailable returns a condition for each workload among objects:
// Deployments that are available, DaemonSets and StatefulSets whose pods are
// all up to date and ready, Jobs that are complete (those that are suspended
// are not waited for), and Pods that are ready or have succeeded. A Job or Pod
// that has failed ends the waiting at once.
func WorkloadsAvailable(objects []Object) []Condition {
	var out []Condition
	for _, o := range objects {
		var w struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
			Spec             json.RawMessage
		}
		var spec struct{ Suspend bool }
		if json.Unmarshal(o.JSON, &w) != nil {
			continue // no workload is like that
		}
		ns, name := w.Metadata.Namespace, w.Metadata.Name
		if ns == "" {
			ns = metav1.NamespaceDefault
		}
		switch w.APIVersion + "/" + w.Kind {
		case "apps/v1/" + kindDeployment:
			out = append(out, DeploymentAvailable(ns, name))
		case "apps/v1/" + kindDaemonSet:
			out = append(out, daemonSetRolledOut(ns, name))
		case "apps/v1/" + kindStatefulSet:
			out = append(out, statefulSetReady(ns, name))
		case "batch/v1/" + kindJob:
			if json.Unmarshal(w.Spec, &spec) != nil || !spec.Suspend {
				out = append(out, jobComplete(ns, name))
			}
		case "v1/" + kindPod:
			out = append(out, podAvailable(ns, name))
		}
	}
	return out
}

// daemonSetRolledOut is met when each node that the DaemonSet wants, which may
// be none, has a ready pod of its current form.
func daemonSetRolledOut(ns, name string) Condition {
	s := source{path: "/apis/apps/v1/namespaces/" + ns + "/daemonsets", kind: kindDaemonSet}
	pods := podsIn(ns)
	return &condition{"daemonset " + ns + "/" + name, []source{s, pods}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		d := o.(*appsv1.DaemonSet)
		switch st := d.Status; {
		case st.ObservedGeneration < d.Generation:
			return errUnseen
		case st.NumberReady < st.DesiredNumberScheduled || st.UpdatedNumberScheduled < st.DesiredNumberScheduled:
			return fmt.Errorf("%d of %d pods are ready%s", st.NumberReady, st.DesiredNumberScheduled, podCause(v, pods, d.Spec.Selector))
		}
		return nil
	}}
}

var errUnseen = errors.New("the controller manager has not seen it yet")

func statefulSetReady(ns, name string) Condition {
	s := source{path: "/apis/apps/v1/namespaces/" + ns + "/statefulsets", kind: kindStatefulSet}
	pods := podsIn(ns)
	return &condition{"statefulset " + ns + "/" + name, []source{s, pods}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		set := o.(*appsv1.StatefulSet)
		want := int32(1)
		if set.Spec.Replicas != nil {
			want = *set.Spec.Replicas
		}
		switch st := set.Status; {
		case st.ObservedGeneration < set.Generation:
			return errUnseen
		case st.ReadyReplicas < want || set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && st.UpdatedReplicas < want && partition(set) == 0:
			return fmt.Errorf("%d of %d replicas are ready%s", st.ReadyReplicas, want, podCause(v, pods, set.Spec.Selector))
		}
		return nil
	}}
}

// partition is how many of the replicas keep their old form in a roll-out.
func partition(set *appsv1.StatefulSet) int32 {
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		return *r.Partition
	}
	return 0
}

func jobComplete(ns, name string) Condition {
	s := source{path: "/apis/batch/v1/namespaces/" + ns + "/jobs", kind: kindJob}
	pods := podsIn(ns)
	return &condition{"job " + ns + "/" + name, []source{s, pods}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		j := o.(*batchv1.Job)
		for _, c := range j.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				continue
			}
			switch c.Type {
			case batchv1.JobComplete:
				return nil
			case batchv1.JobFailed:
				return &permanentError{fmt.Errorf("it failed: %s%s", reason(c.Reason, c.Message), podCause(v, pods, j.Spec.Selector))}
			}
		}
		return fmt.Errorf("%d of its pods run, %d have succeeded, %d have failed%s",
			j.Status.Active, j.Status.Succeeded, j.Status.Failed, podCause(v, pods, j.Spec.Selector))
	}}
}

func podAvailable(ns, name string) Condition {
	s := podsIn(ns)
	return &condition{"pod " + ns + "/" + name, []source{s}, func(v *view) error {
		o, err := v.get(s, name)
		if err != nil {
			return err
		}
		p := o.(*corev1.Pod)
		switch p.Status.Phase {
		case corev1.PodSucceeded:
			return nil
		case corev1.PodFailed:
			return &permanentError{fmt.Errorf("it failed: %w", podReady(p))}
		}
		return podReady(p)
	}}
}
