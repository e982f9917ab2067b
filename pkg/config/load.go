// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// kindAPI is the API group of kind's configuration files
// (https://kind.sigs.k8s.io/docs/user/configuration/).
const kindAPI = "kind.x-k8s.io/"

// Load decodes a configuration file, YAML or JSON, strictly: an unknown or
// repeated field and a value of the wrong type are errors. It reports all of
// them at once, as [Errors] with line numbers. Nothing is defaulted, and
// beyond apiVersion and kind nothing is validated.
func Load(data []byte) (Cluster, error) {
	root, err := parse(data)
	if err != nil {
		return Cluster{}, err
	}
	if err := checkFormat(root); err != nil {
		return Cluster{}, err
	}
	var c Cluster
	d := decoder{}
	d.value(root, reflect.ValueOf(&c).Elem(), "")
	slices.SortStableFunc(d.errs, func(a, b Error) int { return a.Line - b.Line })
	return c, d.errs.orNil()
}

var yamlErrorRe = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// parse returns the mapping that the one document of data holds.
func parse(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]) {
		return nil, Errors{{Message: fmt.Sprintf("the file is empty; it must start with:\napiVersion: %s\nkind: %s", APIVersion, Kind)}}
	}
	if err != nil {
		return nil, syntaxError(err)
	}
	root := resolve(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, Errors{{Line: root.Line, Message: "must be a mapping of fields, not " + describe(root)}}
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, Errors{{Line: second.Line, Message: "the file has more than one document; one describes one cluster"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err)
	}
	return root, nil
}

func syntaxError(err error) error {
	m := yamlErrorRe.FindStringSubmatch(err.Error())
	if m == nil {
		return Errors{{Message: "is not YAML: " + err.Error()}}
	}
	line, _ := strconv.Atoi(m[1]) // no line: 0, unknown
	return Errors{{Line: line, Message: "is not YAML: " + m[2]}}
}

// checkFormat looks at apiVersion and kind alone, since a file of another
// format would otherwise be answered with a list of unknown fields.
func checkFormat(root *yaml.Node) error {
	var errs Errors
	version, line := scalarField(root, "apiVersion")
	switch {
	case strings.HasPrefix(version, kindAPI):
		errs = Errors{{Path: "apiVersion", Line: line, Message: fmt.Sprintf(
			"%q is kind's format, which this version of rk does not read; write the cluster as apiVersion: %s (see docs/config.md)", version, APIVersion)}}
		return errs
	case version == "":
		errs = append(errs, Error{Path: "apiVersion", Line: line, Message: "is required; write: " + APIVersion})
	case version != APIVersion:
		errs = append(errs, Error{Path: "apiVersion", Line: line, Message: fmt.Sprintf("%q is not known to this version of rk; write: %s", version, APIVersion)})
	}
	kind, line := scalarField(root, "kind")
	switch kind {
	case Kind:
	case "":
		errs = append(errs, Error{Path: "kind", Line: line, Message: "is required; write: " + Kind})
	default:
		errs = append(errs, Error{Path: "kind", Line: line, Message: fmt.Sprintf("%q is not known; write: %s", kind, Kind)})
	}
	return errs.orNil()
}

// scalarField returns the text and line of a scalar field of m, "" and 0 if it is not there.
func scalarField(m *yaml.Node, name string) (text string, line int) {
	n := child(m, name)
	if n == nil || n.Kind != yaml.ScalarNode || isNull(n) {
		return "", 0
	}
	return n.Value, n.Line
}

// child returns the value of a field of m, nil if it is not there.
func child(m *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return resolve(m.Content[i+1])
		}
	}
	return nil
}

// resolve follows an alias (*name) to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names what a node is, for "must be …, not …".
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		switch n.ShortTag() {
		case "!!null":
			return "empty"
		case "!!bool":
			return "the boolean " + n.Value
		case "!!int", "!!float":
			return "the number " + n.Value
		default:
			return strconv.Quote(n.Value)
		}
	}
}

// pathRe splits "nodes[0].labels[example.org/zone]" into "nodes", "[0]", "labels" and "[example.org/zone]".
var pathRe = regexp.MustCompile(`\[[^\]]*\]|[^.\[\]]+`)

// lineOf returns the line of the field at path, or of the nearest thing above
// it that is there; 0 if there is none.
func lineOf(root *yaml.Node, path string) int {
	n, line := root, 0
	for _, name := range pathRe.FindAllString(path, -1) {
		name = strings.Trim(name, "[]")
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			next = child(n, name)
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(name); err == nil && i < len(n.Content) {
				next = resolve(n.Content[i])
			}
		}
		if next == nil {
			break
		}
		n, line = next, next.Line
	}
	return line
}
