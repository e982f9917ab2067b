// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/group"
)

// fieldManager is the owner of what Apply sets.
const fieldManager = "rk"

// Apply creates or updates the objects of a multi-document YAML manifest by
// server-side apply, taking over fields that others own. Namespaces and
// custom resource definitions go first, then everything else at once. It may
// be called before the API serves: what can be expected to work soon is
// repeated until ctx ends (see isTransient). An error names each object that
// was not applied and the last cause; an object that the server refuses for
// good ends the others.
func (c *Client) Apply(ctx context.Context, manifest string) error {
	objects, err := parseManifest(manifest)
	if err != nil {
		return err
	}
	var first, rest []*unstructured.Unstructured
	defined := map[schema.GroupKind]bool{} // kinds that the manifest itself defines
	for _, o := range objects {
		switch o.GroupVersionKind().GroupKind() {
		case schema.GroupKind{Kind: "Namespace"}:
			first = append(first, o)
		case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
			first = append(first, o)
			group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
			defined[schema.GroupKind{Group: group, Kind: kind}] = true
		default:
			rest = append(rest, o)
		}
	}
	if err := c.applyAll(ctx, first, defined); err != nil {
		return err
	}
	return c.applyAll(ctx, rest, defined)
}

func (c *Client) applyAll(ctx context.Context, objects []*unstructured.Unstructured, defined map[schema.GroupKind]bool) error {
	actx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(objects))
	var g group.Group
	for i, o := range objects {
		g.Go(func() error {
			if err := group.Recovered(func() error { return c.applyOne(actx, o, defined) }); err != nil {
				errs[i] = fmt.Errorf("apply %s: %w", describe(o), err)
				cancel()
			}
			return nil
		})
	}
	_ = g.Wait() // errs has them all
	if ctx.Err() == nil {
		// What was only ended by another object's failure is no news.
		for i, err := range errs {
			if errors.Is(err, context.Canceled) {
				errs[i] = nil
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Client) applyOne(ctx context.Context, o *unstructured.Unstructured, defined map[schema.GroupKind]bool) error {
	gvk := o.GroupVersionKind()
	transient := func(err error) bool {
		if errors.As(err, new(*unknownKindError)) {
			return defined[gvk.GroupKind()] // served a moment after its definition was created
		}
		return isTransient(err)
	}
	return retry(ctx, transient, func(ctx context.Context) error {
		r, err := c.resourceOf(ctx, gvk)
		if err != nil {
			return err
		}
		return c.send(ctx, http.MethodPatch, r.path(o), string(types.ApplyYAMLPatchType), o.Object,
			map[string]string{"fieldManager": fieldManager, "force": "true"})
	})
}

// describe names an object for messages, e.g. "Deployment kube-system/coredns".
func describe(o *unstructured.Unstructured) string {
	if r, ok := builtin[o.GroupVersionKind().Group][o.GetKind()]; ok && !r.namespaced || !ok && o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + namespaceOf(o) + "/" + o.GetName()
}

// parseManifest reads the objects of a multi-document manifest; the items of
// a List count as objects. Every mistake is reported, with the number of its
// document.
func parseManifest(manifest string) ([]*unstructured.Unstructured, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	var objects []*unstructured.Unstructured
	var errs []error
	for n := 1; ; n++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, errors.Join(errs...)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		found, err := parseDocument(doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("manifest, document %d: %w", n, err))
		}
		objects = append(objects, found...)
	}
}

func parseDocument(doc []byte) ([]*unstructured.Unstructured, error) {
	content := map[string]any{}
	if err := yaml.UnmarshalStrict(doc, &content); err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, nil // only comments
	}
	o := &unstructured.Unstructured{Object: content}
	if !o.IsList() {
		return []*unstructured.Unstructured{o}, validObject(o)
	}
	list, err := o.ToList()
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for i := range list.Items {
		if err := validObject(&list.Items[i]); err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
		objects = append(objects, &list.Items[i])
	}
	return objects, nil
}

func validObject(o *unstructured.Unstructured) error {
	switch {
	case o.GetAPIVersion() == "":
		return errors.New("apiVersion is missing")
	case o.GetKind() == "":
		return errors.New("kind is missing")
	case o.GetName() == "":
		return fmt.Errorf("metadata.name of the %s is missing", o.GetKind())
	}
	_, err := schema.ParseGroupVersion(o.GetAPIVersion())
	return err
}
