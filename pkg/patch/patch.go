// SPDX-License-Identifier: Apache-2.0

// Package patch changes documents of JSON's types (maps, lists, strings,
// booleans, int64, float64, nil): merge patches, JSON patches, and documents
// from and to YAML and TOML. No function changes its arguments.
//
// It must never import anything that does I/O, or any package of this module.
package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	jsonpatch "github.com/evanphx/json-patch/v5"
	"sigs.k8s.io/yaml"
)

// Operation is one operation of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from,omitempty"`
	Value any    `json:"value"` // taken by add, replace and test alone
}

// Merge applies a JSON merge patch (RFC 7386): maps are merged, null removes,
// everything else replaces.
func Merge(doc, patch map[string]any) map[string]any {
	out := maps.Clone(doc)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			old, _ := out[k].(map[string]any)
			out[k] = Merge(old, v)
		default:
			out[k] = Clone(v)
		}
	}
	return out
}

// JSON applies a JSON patch (RFC 6902). The error of an operation names its
// number, from 0, and its path.
func JSON(doc map[string]any, operations []Operation) (map[string]any, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	for i, o := range operations {
		one, err := json.Marshal([]Operation{o})
		if err != nil {
			return nil, err
		}
		p, err := jsonpatch.DecodePatch(one)
		if err != nil {
			return nil, fmt.Errorf("operation %d (%s %s): %w", i, o.Op, o.Path, err)
		}
		if data, err = p.Apply(data); err != nil {
			return nil, fmt.Errorf("operation %d (%s %s): %w", i, o.Op, o.Path, err)
		}
	}
	return parseJSON(data)
}

func parseJSON(data []byte) (map[string]any, error) {
	var out any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	normal, err := normalize(out)
	if err != nil {
		return nil, err
	}
	doc, ok := normal.(map[string]any)
	if !ok {
		return nil, errors.New("it is no mapping of fields")
	}
	return doc, nil
}

// YAML parses one document, a mapping. A key that is there twice is an error.
func YAML(s string) (map[string]any, error) {
	data, err := yaml.YAMLToJSONStrict([]byte(s))
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return parseJSON(data)
}

// FormatYAML writes a document, keys sorted.
func FormatYAML(doc map[string]any) (string, error) {
	out, err := yaml.Marshal(doc)
	return string(out), err
}

// TOML parses a document.
func TOML(s string) (map[string]any, error) {
	out := map[string]any{}
	if err := toml.Unmarshal([]byte(s), &out); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, fmt.Errorf("line %d: %s", parse.Position.Line, parse.Message)
		}
		return nil, err
	}
	normal, err := normalize(out)
	if err != nil {
		return nil, err
	}
	return normal.(map[string]any), nil //nolint:forcetypeassert // a map stays one
}

// FormatTOML writes a document, keys sorted. A null is an error.
func FormatTOML(doc map[string]any) (string, error) {
	var out strings.Builder
	e := toml.NewEncoder(&out)
	e.Indent = ""
	err := e.Encode(doc)
	return out.String(), err
}

// normalize brings what decoders make into the types of this package.
func normalize(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			n, err := normalize(e)
			if err != nil {
				return nil, err
			}
			v[k] = n
		}
	case []map[string]any: // TOML's arrays of tables
		list := make([]any, len(v))
		for i, e := range v {
			n, err := normalize(e)
			if err != nil {
				return nil, err
			}
			list[i] = n
		}
		return list, nil
	case []any:
		for i, e := range v {
			n, err := normalize(e)
			if err != nil {
				return nil, err
			}
			v[i] = n
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, err
		}
		return normalize(f)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 { // JSON does not tell 1.0 from 1
			return int64(v), nil
		}
	case nil, string, bool, int64:
	case fmt.Stringer: // dates of TOML
		return v.String(), nil
	default:
		return nil, fmt.Errorf("a value of type %T cannot be patched", v)
	}
	return v, nil
}

// Clone copies a value deeply.
func Clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = Clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = Clone(e)
		}
		return out
	}
	return v
}

// Change is a difference between two documents.
type Change struct {
	Path   []string // keys from the root
	Before any      // nil: it was not there
	After  any      // nil: it is gone
}

// Changes returns where two documents differ, ordered by path. Maps are looked
// into, also those that are there in one of the documents alone; lists are not.
func Changes(before, after map[string]any) []Change { return changes(nil, before, after) }

func changes(at []string, before, after map[string]any) []Change {
	var out []Change
	keys := maps.Clone(before)
	if keys == nil {
		keys = map[string]any{}
	}
	maps.Copy(keys, after)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		path := append(slices.Clone(at), k)
		old, inOld := before[k]
		now, inNow := after[k]
		oldMap, oldIsMap := old.(map[string]any)
		newMap, newIsMap := now.(map[string]any)
		switch {
		case (oldIsMap || !inOld) && (newIsMap || !inNow) && (len(oldMap) > 0 || len(newMap) > 0):
			out = append(out, changes(path, oldMap, newMap)...)
		case inOld != inNow || !reflect.DeepEqual(old, now):
			out = append(out, Change{Path: path, Before: old, After: now})
		}
	}
	return out
}

// At returns what is at a path of keys, nil if nothing is.
func At(doc map[string]any, path ...string) any {
	var v any = doc
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}
