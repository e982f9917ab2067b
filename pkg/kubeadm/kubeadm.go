// SPDX-License-Identifier: Apache-2.0

// Package kubeadm is the kubeadm configuration of one node: the documents that
// rk's own decisions come to, the patches of a user over them, and what the
// result means for static pods, certificates, kubelet and kube-proxy. rk does
// not run "kubeadm init"; this is where a patched configuration gets its effect,
// and where what has none, or cannot have it, is told.
//
// It must never import anything that does I/O, a plan, an engine or client-go.
package kubeadm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

type document = map[string]any

// Config is the kubeadm configuration of one node.
type Config struct {
	docs   map[string]document          // by kind
	before map[string]document          // as they were without patches
	flags  map[string]map[string]string // of the static pods without patches, by pod
	notes  config.Errors
}

// New reads the documents of a node, one of each kind, and its static pods.
func New(documents, pods []string) (*Config, error) {
	c := &Config{docs: map[string]document{}, before: map[string]document{}, flags: map[string]map[string]string{}}
	for _, text := range documents {
		doc, err := patch.YAML(text)
		if err != nil {
			return nil, err
		}
		kind, _ := doc["kind"].(string)
		if _, known := rules[kind]; !known || c.docs[kind] != nil {
			return nil, fmt.Errorf("kubeadm: unexpected document of kind %q", kind)
		}
		c.docs[kind], c.before[kind] = doc, doc
	}
	for _, text := range pods {
		p, err := parsePod(text)
		if err != nil {
			return nil, err
		}
		c.flags[p.name()] = p.flags()
	}
	return c, nil
}

// Has says whether a document of the kind is there.
func (c *Config) Has(kind string) bool { return c.docs[kind] != nil }

// Patched says whether patches changed the document of a kind.
func (c *Config) Patched(kind string) bool {
	return len(patch.Changes(c.before[kind], c.docs[kind])) > 0
}

// Document returns the document of a kind as YAML.
func (c *Config) Document(kind string) (string, error) { return patch.FormatYAML(c.docs[kind]) }

// Notes are what patches ask for that has no effect here, and why.
func (c *Config) Notes() config.Errors { return c.notes }

// Patch applies patches in their order, merge patches before JSON patches as
// kind does. at is where the list is in the configuration, for errors. Patches
// of kinds that this node has no document of are left out. What cannot be had
// is an error with its reason, and then nothing may be made of the result.
func (c *Config) Patch(at string, patches []config.KubeadmPatch) config.Errors {
	var errs config.Errors
	for _, merges := range []bool{true, false} {
		for i, p := range patches {
			if (len(p.Merge) > 0) != merges || !c.Has(p.Kind) {
				continue
			}
			path := fmt.Sprintf("%s[%d]", at, i)
			if merges {
				errs = append(errs, c.merge(path+".merge", p)...)
			} else {
				errs = append(errs, c.json(path+".json6902", p)...)
			}
		}
	}
	return errs
}

func (c *Config) merge(at string, p config.KubeadmPatch) config.Errors {
	rest := patch.Clone(p.Merge).(document) //nolint:forcetypeassert // a map stays one
	doc := patch.Clone(c.docs[p.Kind]).(document)
	if err := mergeLists(at, doc, rest); err != nil {
		return config.Errors{*err}
	}
	return c.set(p.Kind, patch.Merge(doc, rest), func(path []string) string { return at + "." + strings.Join(path, ".") })
}

func (c *Config) json(at string, p config.KubeadmPatch) config.Errors {
	doc := patch.Clone(c.docs[p.Kind]).(document) //nolint:forcetypeassert // a map stays one
	addLists(p.Kind, doc)
	older := p.APIVersion == config.KubeadmV1Beta3 || p.APIVersion == config.KubeadmV1Beta2
	if older {
		doc = byName(doc)
	}
	operations := make([]patch.Operation, len(p.JSON6902))
	for i, o := range p.JSON6902 {
		operations[i] = patch.Operation(o)
	}
	out, err := patch.JSON(doc, operations)
	if err == nil {
		err = eachArgs(out, func(m document, key string) (err error) {
			m[key], err = argsAsList(m[key])
			return err
		})
	}
	if err != nil {
		return config.Errors{{Path: at, Message: "does not apply: " + err.Error()}}
	}
	return c.set(p.Kind, out, func([]string) string { return at })
}

// set makes doc the document of a kind, if nothing of what has changed is
// refused. path says where in the configuration a change comes from.
func (c *Config) set(kind string, doc document, path func([]string) string) config.Errors {
	var errs config.Errors
	dropEmpty(doc)
	delete(doc, "metadata") // kind's configurations have one, and nothing reads it
	for _, change := range patch.Changes(byName(c.docs[kind]), byName(doc)) {
		v, why := c.judge(kind, change)
		switch v {
		case refused:
			errs = append(errs, config.Error{Path: path(change.Path), Message: fmt.Sprintf("%s.%s %s", kind, name(change.Path), why)})
		case noEffect:
			c.notes = append(c.notes, config.Error{Path: path(change.Path), Message: fmt.Sprintf("%s.%s has no effect: %s", kind, name(change.Path), why)})
			remove(doc, change.Path)
		case doubtful:
			c.notes = append(c.notes, config.Error{Path: path(change.Path), Message: fmt.Sprintf("%s.%s %s", kind, name(change.Path), why)})
		case honoured:
			if why == obsolete {
				remove(doc, change.Path)
			}
		}
	}
	c.docs[kind] = doc
	return errs
}

// remove takes out what a document of the present version does not have.
func remove(doc document, path []string) {
	above, _ := patch.At(doc, path[:len(path)-1]...).(document)
	delete(above, path[len(path)-1])
}

// byName is a document in which lists of arguments are maps.
func byName(doc document) document {
	out := patch.Clone(doc).(document) //nolint:forcetypeassert // a map stays one
	_ = eachArgs(out, func(m document, key string) error {
		m[key] = argsAsMap(m[key])
		return nil
	})
	return out
}

// name is a path as messages have it.
func name(path []string) string {
	for i, s := range path {
		if isArgs(s) && i == len(path)-2 {
			return strings.Join(path[:i+1], ".") + "[" + path[i+1] + "]"
		}
	}
	return strings.Join(path, ".")
}

func isArgs(key string) bool { return key == "extraArgs" || key == "kubeletExtraArgs" }

// eachArgs calls f for each list of arguments in a document.
func eachArgs(v any, f func(m document, key string) error) error {
	m, ok := v.(document)
	if !ok {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !isArgs(key) {
			if err := eachArgs(m[key], f); err != nil {
				return err
			}
		} else if err := f(m, key); err != nil {
			return err
		}
	}
	return nil
}

var errArgs = errors.New("must be a list of name and value, or a mapping from names to values")

// argsAsList reads arguments in the form of any version: a list of name and
// value (v1beta4), or a mapping. The result is a list. A value of null stays one.
func argsAsList(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case document:
		list := []any{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			list = append(list, document{"name": k, "value": v[k]})
		}
		return argsAsList(list)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			m, _ := item.(document)
			name, ok := m["name"].(string)
			if !ok || name == "" {
				return nil, errArgs
			}
			a := document{"name": name, "value": nil}
			switch value := m["value"].(type) {
			case nil:
			case string, bool, int64, float64:
				a["value"] = fmt.Sprint(value)
			default:
				return nil, errArgs
			}
			out[i] = a
		}
		return out, nil
	}
	return nil, errArgs
}

// argsAsMap makes a mapping of a list of arguments. One that is there several
// times has its values with newlines between, which no argument can hold.
func argsAsMap(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	out := document{}
	for _, a := range arguments(list) {
		if old, twice := out[a.Name].(string); twice {
			a.Value = old + "\n" + a.Value
		}
		out[a.Name] = a.Value
	}
	return out
}

// Arg is a command line argument, without the dashes.
type Arg struct{ Name, Value string }

func arguments(v any) []Arg {
	var out []Arg
	list, _ := v.([]any)
	for _, item := range list {
		m, _ := item.(document)
		name, _ := m["name"].(string)
		value, _ := m["value"].(string)
		for part := range strings.SplitSeq(value, "\n") {
			out = append(out, Arg{name, part})
		}
	}
	return out
}
