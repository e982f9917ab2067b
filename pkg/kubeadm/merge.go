// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

// combined are arguments that are lists of their own: a patch adds to them.
var combined = []string{"feature-gates", "runtime-config", "node-labels"}

// mergeLists takes lists out of a merge patch that are merged otherwise than
// RFC 7386 has it, as in kind: arguments by name, certificate names as a set.
func mergeLists(at string, doc, p document) *config.Error {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		at := at + "." + key
		switch value := p[key].(type) {
		case nil: // removes all
		case document:
			if isArgs(key) {
				break
			}
			below, ok := doc[key].(document)
			if !ok {
				below = document{}
			}
			if err := mergeLists(at, below, value); err != nil {
				return err
			}
			if len(below) > 0 {
				doc[key] = below
			}
			continue
		case []any:
			if strings.HasSuffix(key, "ertSANs") {
				old, _ := doc[key].([]any)
				doc[key] = union(old, value)
				delete(p, key)
			}
		}
		if isArgs(key) && p[key] != nil {
			list, err := argsAsList(p[key])
			if err != nil {
				return &config.Error{Path: at, Message: err.Error()}
			}
			doc[key] = mergeArgs(doc[key], list.([]any)) //nolint:forcetypeassert // argsAsList of what is not nil is a list
			delete(p, key)
		}
	}
	return nil
}

func union(a, b []any) []any {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.ContainsFunc(out, func(o any) bool { return fmt.Sprint(o) == fmt.Sprint(v) }) {
			out = append(out, v)
		}
	}
	return out
}

// mergeArgs puts arguments over those that there are: all of one name take the
// place of all of that name, null removes them.
func mergeArgs(old any, list []any) []any {
	base := arguments(old)
	replaced := map[string]bool{}
	for _, item := range list {
		a := item.(document) //nolint:forcetypeassert // argsAsList made it
		name := a["name"].(string)
		if !replaced[name] {
			replaced[name] = true
			before := slices.DeleteFunc(slices.Clone(base), func(b Arg) bool { return b.Name != name })
			base = slices.DeleteFunc(base, func(b Arg) bool { return b.Name == name })
			if value, ok := a["value"].(string); ok && slices.Contains(combined, name) && len(before) == 1 {
				a["value"] = combine(before[0].Value, value)
			}
		}
		if value, ok := a["value"].(string); ok {
			base = append(base, Arg{name, value})
		}
	}
	out := make([]any, len(base))
	for i, a := range base {
		out[i] = document{"name": a.Name, "value": a.Value}
	}
	return out
}

// combine merges two lists of NAME=VALUE with commas between; the second wins.
func combine(a, b string) string {
	values := map[string]string{}
	var order []string
	for part := range strings.SplitSeq(a+","+b, ",") {
		k, v, hasValue := strings.Cut(strings.TrimSpace(part), "=")
		if k == "" {
			continue
		}
		if _, known := values[k]; !known {
			order = append(order, k)
		}
		if values[k] = ""; hasValue {
			values[k] = "=" + v
		}
	}
	for i, k := range order {
		order[i] = k + values[k]
	}
	return strings.Join(order, ",")
}

// lists are lists that a JSON patch may add to ("/-") though they are empty.
var lists = map[string][][]string{
	config.ClusterConfiguration: {
		{"apiServer", "certSANs"}, {"apiServer", "extraArgs"}, {"apiServer", "extraVolumes"}, {"apiServer", "extraEnvs"},
		{"controllerManager", "extraArgs"}, {"controllerManager", "extraVolumes"}, {"controllerManager", "extraEnvs"},
		{"scheduler", "extraArgs"}, {"scheduler", "extraVolumes"}, {"scheduler", "extraEnvs"},
		{"etcd", "local", "extraArgs"}, {"etcd", "local", "extraEnvs"}, {"etcd", "local", "serverCertSANs"}, {"etcd", "local", "peerCertSANs"},
	},
	config.InitConfiguration: {{"nodeRegistration", "kubeletExtraArgs"}, {"nodeRegistration", "taints"}, {"skipPhases"}},
	config.JoinConfiguration: {{"nodeRegistration", "kubeletExtraArgs"}, {"nodeRegistration", "taints"}, {"skipPhases"}},
}

func addLists(kind string, doc document) {
	for _, path := range lists[kind] {
		m := doc
		for _, k := range path[:len(path)-1] {
			below, ok := m[k].(document)
			if !ok {
				below = document{}
				m[k] = below
			}
			m = below
		}
		if last := path[len(path)-1]; m[last] == nil {
			m[last] = []any{}
		}
	}
}

// dropEmpty removes the lists of addLists that stayed empty. An empty list of
// taints means something.
func dropEmpty(doc document) {
	kind, _ := doc["kind"].(string)
	for _, path := range lists[kind] {
		last := path[len(path)-1]
		m, _ := patch.At(doc, path[:len(path)-1]...).(document)
		if list, ok := m[last].([]any); ok && len(list) == 0 && last != "taints" {
			delete(m, last)
		}
	}
}
