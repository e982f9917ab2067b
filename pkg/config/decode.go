// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// decoder turns YAML nodes into the types of this package and collects every
// error on the way. The usual decoders either stop at the first error or
// forget where in the file a value came from.
type decoder struct {
	errs   Errors
	at     map[string]*yaml.Node // what is at a path, for the errors of Validate
	values int                   // how many were decoded, those of aliases each time
}

// maxValues is far more than a cluster can use, and little enough that a file
// of nested aliases does not take all memory.
const maxValues = 100_000

// undecoded stands for a string that could not be decoded: no validation
// accepts it, so nothing is derived from a default that the file overrides.
const undecoded = "\x00"

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, Error{Path: path, Line: n.Line, Column: n.Column, Message: message(format, args...)})
}

// note keeps where the value n of a path is. A collection is where its key is.
func (d *decoder) note(path string, key, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.AliasNode || key == nil {
		key = n
	}
	d.at[path] = key
}

// value decodes n into v. A null leaves v as it is: "nodes:" without a value
// is the same as no such line.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.values++; d.values > maxValues {
		return // load tells
	}
	n = resolve(n)
	if isNull(n) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer: // to a section that is there, or is not
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.slice(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Interface:
		if a, ok := d.any(n, path); ok {
			v.Set(reflect.ValueOf(&a).Elem())
		}
	case reflect.Bool:
		v.SetBool(d.boolean(n, path))
	case reflect.Int:
		d.integer(n, v, path)
	case reflect.String:
		s, ok := d.text(n, path)
		if !ok {
			s = undecoded
		}
		v.SetString(s)
	default:
		panic(fmt.Sprintf("config: no decoder for %s at %s", v.Type(), path)) // a field of a new kind was added without one
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be a mapping of fields (%s), not %s", text(strings.Join(fieldNames(v.Type()), ", ")), describe(n))
		return
	}
	fields := fieldNames(v.Type())
	d.eachKey(n, path, func(key, value *yaml.Node) {
		p := join(path, segment(key.Value))
		i := slices.Index(fields, key.Value)
		if i < 0 {
			d.fail(key, p, "unknown field%s", text(suggestion(key.Value, path, fields)))
			return
		}
		d.note(p, key, value)
		d.value(value, v.Field(i), p)
	})
}

func (d *decoder) slice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "must be a list, not %s; start each item with \"- \"", describe(n))
		return
	}
	if len(n.Content) > maxValues-d.values {
		d.values = maxValues + 1
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.note(p, nil, item)
		if isNull(resolve(item)) {
			d.fail(item, p, "is empty; write its fields, or remove the line")
			continue
		}
		d.value(item, v.Index(i), p)
	}
}

// mapping decodes into a map from strings to strings, booleans or anything.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	elem := v.Type().Elem()
	if n.Kind != yaml.MappingNode {
		what := "a mapping of strings"
		switch elem.Kind() {
		case reflect.Bool:
			what = "a mapping of booleans"
		case reflect.Interface:
			what = "a mapping"
		}
		d.fail(n, path, "must be %s, not %s; write each as KEY: VALUE", text(what), describe(n))
		return
	}
	if len(n.Content) == 0 {
		return
	}
	if elem.Kind() == reflect.Interface {
		if m, ok := d.any(n, path); ok {
			v.Set(reflect.ValueOf(m))
		}
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Content)/2))
	d.eachKey(n, path, func(key, value *yaml.Node) {
		d.values++
		p := element(path, key.Value)
		d.note(p, nil, value)
		value = resolve(value)
		e := reflect.New(elem).Elem()
		switch {
		case elem.Kind() == reflect.Bool:
			e.SetBool(d.boolean(value, p))
		case !isNull(value):
			s, ok := d.text(value, p)
			if !ok {
				return
			}
			e.SetString(s)
		}
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
	})
}

func (d *decoder) boolean(n *yaml.Node, path string) bool {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	}
	d.fail(n, path, "must be true or false, not %s", describe(n))
	return false
}

// any decodes what a patch holds, in the types of JSON, and whole numbers as
// int64. A value that JSON cannot hold is an error.
func (d *decoder) any(n *yaml.Node, path string) (any, bool) {
	if d.values++; d.values > maxValues {
		return nil, false // load tells
	}
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.eachKey(n, path, func(key, value *yaml.Node) {
			p := join(path, segment(key.Value))
			d.note(p, key, value)
			if a, ok := d.any(value, p); ok {
				m[key.Value] = a
			}
		})
		return m, true
	case yaml.SequenceNode:
		list := make([]any, 0, min(len(n.Content), maxValues))
		for i, item := range n.Content {
			p := fmt.Sprintf("%s[%d]", path, i)
			d.note(p, nil, item)
			if a, ok := d.any(item, p); ok {
				list = append(list, a)
			}
		}
		return list, true
	}
	return d.scalar(n, path)
}

func (d *decoder) scalar(n *yaml.Node, path string) (any, bool) {
	switch n.ShortTag() {
	case "!!null":
		return nil, true
	case "!!str", "!!timestamp":
		return n.Value, true
	case "!!bool":
		return d.boolean(n, path), true
	case "!!int":
		var i int64
		if n.Decode(&i) != nil {
			d.fail(n, path, "%s is too large a number; write a smaller one", n.Value)
			return nil, false
		}
		return i, true
	case "!!float":
		var f float64
		if n.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.fail(n, path, "%s is not a number that JSON can hold", n.Value)
			return nil, false
		}
		switch whole := f == math.Trunc(f); {
		case whole && math.Abs(f) < 1<<63: // as it is when it was written and read again
			return int64(f), true
		case whole && math.Abs(f) < 1e21: // which is written as a whole number (encoding/json)
			d.fail(n, path, "%s is too large a number; write a smaller one", n.Value)
			return nil, false
		}
		return f, true
	}
	d.fail(n, path, "must be a plain value, not %s; remove the type", describe(n))
	return nil, false
}

// eachKey calls f for each pair of a mapping, once for each key.
func (d *decoder) eachKey(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fail(n.Content[i], path, "a field name must be a plain string, not %s", describe(key))
		case key.ShortTag() == "!!merge":
			d.fail(key, path, "merge keys (<<) are not supported; write the fields out")
		case lines[key.Value] != 0:
			d.fail(key, join(path, segment(key.Value)), "is there twice, first in line %d; remove one of them", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			f(key, n.Content[i+1])
		}
	}
}

func (d *decoder) integer(n *yaml.Node, v reflect.Value, path string) {
	var i int
	v.SetInt(1)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&i) != nil {
		_, err := strconv.ParseInt(n.Value, 0, strconv.IntSize)
		if errors.Is(err, strconv.ErrRange) {
			d.fail(n, path, "%s is too large a number; write a smaller one", n.Value)
			return
		}
		var hint text
		if err == nil && n.Kind == yaml.ScalarNode {
			hint = "; write the number alone, without quotes or a type"
		}
		d.fail(n, path, "must be a whole number, not %s%s", describe(n), hint)
		return
	}
	if i == 0 && !strings.HasSuffix(path, ".apiServerPort") && !strings.HasSuffix(path, ".hostPort") { // there, 0 means a free port, as if it were left out
		d.fail(n, path, "must be at least 1; leave the field out for its default")
		return
	}
	v.SetInt(int64(i))
}

func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "must be a string, not %s", describe(n))
	case n.ShortTag() == "!!str":
		return n.Value, true
	case !slices.Contains([]string{"!!bool", "!!int", "!!float", "!!timestamp"}, n.ShortTag()):
		d.fail(n, path, "must be a string, not %s; remove the type", describe(n))
	case path == "kubernetesVersion":
		d.fail(n, path, "must be a string, not %s; write a full version like %s", describe(n), DefaultKubernetesVersion)
	default:
		d.fail(n, path, "must be a string, not %s; put it in quotes: %q", describe(n), n.Value)
	}
	return "", false
}

// fieldNames returns the names of a struct's fields in the file, by field index.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// element is the path of an entry of a map.
func element(path, key string) string { return path + "[" + segment(key) + "]" }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// suggestion names what may have been meant by an unknown field: one of the
// same place that is spelt alike, else one of the same name elsewhere, else
// lists the fields of the place.
func suggestion(name, path string, fields []string) string {
	if own := kindNames[name]; slices.Contains(fields, own) {
		return fmt.Sprintf("; it is called %q here", own)
	}
	if best := closest(name, fields); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	for _, p := range allPaths(reflect.TypeFor[Cluster](), "") {
		if at, last := p[:strings.LastIndex(p, ".")+1], p[strings.LastIndex(p, ".")+1:]; strings.EqualFold(last, name) && at != path+"." {
			return fmt.Sprintf("; did you mean %q?", p)
		}
	}
	return "; known here: " + strings.Join(fields, ", ")
}

// kindNames are names of kind's configuration for fields of this one.
var kindNames = map[string]string{
	"extraMounts": "mounts", "extraPortMappings": "ports", "kubeadmConfigPatches": "kubeadmPatches", "kubeadmConfigPatchesJSON6902": "kubeadmPatches",
	"containerdConfigPatches": "containerdPatches", "containerdConfigPatchesJSON6902": "containerdPatches",
}

// closest returns which of words is spelt most like name, empty if none is alike.
func closest(name string, words []string) string {
	if len(name) > maxValue {
		return ""
	}
	best, least := "", 3
	for _, w := range words {
		if dist := distance(strings.ToLower(name), strings.ToLower(w)); dist < least && dist < len(w)/2+1 {
			best, least = w, dist
		}
	}
	return best
}

// Closest returns which of words is spelt most like name, empty if none is alike.
func Closest(name string, words []string) string { return closest(name, words) }

// allPaths returns the path of every field below t, as docs/config.md writes
// them: "networking.podSubnet", "nodes[].role".
func allPaths(t reflect.Type, prefix string) []string {
	var paths []string
	for i, name := range fieldNames(t) {
		p := join(prefix, name)
		paths = append(paths, p)
		switch ft := t.Field(i).Type; {
		case ft.Kind() == reflect.Struct:
			paths = append(paths, allPaths(ft, p)...)
		case ft.Kind() == reflect.Pointer && ft.Elem().Kind() == reflect.Struct:
			paths = append(paths, allPaths(ft.Elem(), p)...)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			paths = append(paths, allPaths(ft.Elem(), p+"[]")...)
		}
	}
	return paths
}

// distance is the number of single-character insertions, deletions and
// replacements between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
