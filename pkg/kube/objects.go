// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rootless-kubernetes/rk/pkg/group"
)

// Object is an object to apply.
type Object struct {
	Source string // where it is from, for messages; "" is not mentioned
	JSON   []byte // the object
}

// atOnce is how many objects are applied at the same time.
const atOnce = 10

// ApplyObjects creates or updates objects by server-side apply, taking over
// fields that others own; fields that a kind does not have are refused. In
// this order: namespaces and custom resource definitions, which must be
// established before anything else; what others refer to, like roles,
// configuration and Services; workloads; admission webhooks; objects of
// other kinds. Within each step, the order is not defined.
//
// What may work soon is repeated until ctx ends, and report, which may be nil
// and is called by several goroutines, says why: an admission webhook that does not answer yet, a service account that is being
// created, a kind that the objects define. A kind that nothing among them
// defines is waited for only if there is a workload that may define it.
//
// An error names each object that was not applied, where it is from, and the
// API server's last reason. What is refused for good ends the step.
func (c *Client) ApplyObjects(ctx context.Context, objects []Object, report func(string)) error {
	a := applier{client: c, defined: map[schema.GroupKind]bool{}, namespaces: map[string]bool{}, report: report}
	steps := make([][]item, stepCount)
	for _, o := range objects {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(o.JSON); err != nil { // whole numbers stay whole
			return fmt.Errorf("%s: %w", o.Source, err)
		}
		s := stepOf(u.GroupVersionKind().GroupKind())
		steps[s] = append(steps[s], item{u, o.Source})
		a.note(u)
	}
	for i, items := range steps {
		if err := a.all(ctx, items, a.apply); err != nil {
			return err
		}
		if i == stepDefinitions {
			if err := a.all(ctx, slices.DeleteFunc(items, func(i item) bool { return i.object.GetKind() != "CustomResourceDefinition" }), a.established); err != nil {
				return err
			}
		}
	}
	return nil
}

// Steps of ApplyObjects.
const (
	stepDefinitions = iota
	stepBasics
	stepWorkloads
	stepWebhooks
	stepOthers
	stepCount
)

func stepOf(gk schema.GroupKind) int {
	switch gk.Group {
	case "apiextensions.k8s.io":
		return stepDefinitions
	case "apps", "batch":
		return stepWorkloads
	case "admissionregistration.k8s.io", "apiregistration.k8s.io":
		return stepWebhooks
	case "":
		switch gk.Kind {
		case "Namespace":
			return stepDefinitions
		case kindPod, "ReplicationController":
			return stepWorkloads
		}
	}
	if _, ok := builtin[gk.Group]; ok {
		return stepBasics
	}
	return stepOthers
}

type item struct {
	object *unstructured.Unstructured
	source string
}

func (i item) String() string {
	s := describe(i.object)
	if i.source != "" {
		s = i.source + ": " + s
	}
	return s
}

type applier struct {
	client     *Client
	report     func(string)
	defined    map[schema.GroupKind]bool // by the objects themselves
	namespaces map[string]bool           // among the objects
	workloads  bool                      // there are some
}

func (a *applier) note(u *unstructured.Unstructured) {
	switch gk := u.GroupVersionKind().GroupKind(); {
	case gk.Kind == "CustomResourceDefinition":
		group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(u.Object, "spec", "names", "kind")
		a.defined[schema.GroupKind{Group: group, Kind: kind}] = true
	case gk == schema.GroupKind{Kind: "Namespace"}:
		a.namespaces[u.GetName()] = true
	case stepOf(gk) == stepWorkloads:
		a.workloads = true
	}
}

// all does f with each item, until one fails for good: then those that are
// still repeated end, and are no news.
func (a *applier) all(ctx context.Context, items []item, f func(context.Context, item, func() bool) error) error {
	var failed atomic.Bool
	errs := make([]error, len(items))
	var g group.Group
	g.SetLimit(atOnce)
	for i, it := range items {
		g.Go(func() error {
			err := group.Recovered(func() error { return f(ctx, it, failed.Load) })
			var gaveUp *gaveUpError
			switch {
			case err == nil, errors.As(err, &gaveUp):
				return nil
			case ctx.Err() == nil:
				failed.Store(true)
			}
			errs[i] = fmt.Errorf("%s: %w", it, err)
			return nil
		})
	}
	_ = g.Wait() // errs has them all
	return errors.Join(errs...)
}

// gaveUpError is the end of repetitions because something else failed.
type gaveUpError struct{ error }

func (a *applier) apply(ctx context.Context, i item, failed func() bool) error {
	gvk := i.object.GroupVersionKind()
	return a.retry(ctx, i, failed, func(ctx context.Context) error {
		r, err := a.client.resourceOf(ctx, gvk)
		if err != nil {
			return err
		}
		return a.client.send(ctx, http.MethodPatch, r.path(i.object), string(types.ApplyYAMLPatchType), i.object.Object,
			map[string]string{"fieldManager": fieldManager, "force": "true", "fieldValidation": "Strict"})
	})
}

// retry repeats f while its error may go away, and reports it.
func (a *applier) retry(ctx context.Context, i item, failed func() bool, f func(context.Context) error) error {
	reported := ""
	gaveUp := false
	err := retry(ctx, func(err error) bool {
		if !a.transient(i, err) {
			return false
		}
		if gaveUp = failed(); gaveUp {
			return false
		}
		if line := i.String() + ": " + firstLine(err.Error()); a.report != nil && line != reported {
			a.report(line)
			reported = line
		}
		return true
	}, f)
	if gaveUp {
		return &gaveUpError{err}
	}
	return err
}

// transient says whether an error may go away in a cluster that is up. That is
// less than while it comes up (isTransient).
func (a *applier) transient(i item, err error) bool {
	gvk := i.object.GroupVersionKind()
	if errors.As(err, new(*unknownKindError)) {
		_, known := builtin[gvk.Group]
		return a.defined[gvk.GroupKind()] || a.workloads && !known
	}
	if !isTransient(err) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	switch s := status.Status(); s.Code {
	case http.StatusNotFound:
		if s.Details != nil && s.Details.Kind == "namespaces" || strings.HasPrefix(s.Message, "namespaces ") {
			ns := namespaceOf(i.object)
			return a.namespaces[ns] || slices.Contains(systemNamespaces, ns)
		}
		return true // the path of a kind that is served a moment later
	case http.StatusForbidden:
		// plugin/pkg/admission/serviceaccount/admission.go and resourcequota/controller.go of Kubernetes 1.36
		return strings.Contains(s.Message, "error looking up service account") || strings.Contains(s.Message, "status unknown for quota")
	}
	return true
}

// systemNamespaces are made by the API server itself, a moment after it serves.
var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease"}

// established waits until a custom resource definition is served.
func (a *applier) established(ctx context.Context, i item, failed func() bool) error {
	return a.retry(ctx, i, failed, func(ctx context.Context) error {
		r, err := a.client.resourceOf(ctx, i.object.GroupVersionKind())
		if err != nil {
			return err
		}
		rctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		data, err := a.client.request(http.MethodGet, r.path(i.object)).Do(rctx).Raw()
		if err != nil {
			return err
		}
		var definition struct {
			Status struct {
				Conditions []struct{ Type, Status, Reason, Message string }
			}
		}
		if err := json.Unmarshal(data, &definition); err != nil {
			return err
		}
		for _, c := range definition.Status.Conditions {
			switch {
			case c.Type == "Established" && c.Status == "True":
				return nil
			case c.Type == "NamesAccepted" && c.Status == "False":
				return &permanentError{fmt.Errorf("its names are not accepted: %s", reason(c.Reason, c.Message))}
			}
		}
		return errors.New("is not established yet")
	})
}
