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
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"
)

// kindAPI is the API group of kind's configuration files
// (https://kind.sigs.k8s.io/docs/user/configuration/).
const kindAPI = "kind.x-k8s.io/"

// maxSize of a file in bytes: a thousand times what a large cluster needs.
const maxSize = 1 << 20

// Load decodes a configuration file, YAML or JSON, strictly, and validates it:
// an unknown or repeated field, a value of the wrong type and whatever
// [Validate] finds are errors. It reports all of them at once, as [Errors]
// with their positions. Nothing is defaulted in the result; it was validated
// with the defaults.
func Load(data []byte) (Cluster, error) {
	root, err := parse(data)
	if err != nil {
		return Cluster{}, err
	}
	errs, final := checkFormat(root)
	if final {
		return Cluster{}, errs
	}
	var c Cluster
	d := decoder{at: map[string]*yaml.Node{}}
	d.value(root, reflect.ValueOf(&c).Elem(), "")
	if d.values > maxValues {
		return Cluster{}, Errors{{Message: fmt.Sprintf("the file describes more than %d values, those of aliases counted each time; write fewer", maxValues)}}
	}
	errs = slices.Concat(d.errs, d.locate(without(errs, d.errs)))
	var invalid Errors
	if errors.As(Validate(Default(c)), &invalid) {
		errs = append(errs, d.locate(without(invalid, errs))...)
	}
	if len(errs) > 0 {
		errs.byPosition()
		return Cluster{}, errs
	}
	return c, nil
}

// Locate fills in where in a file the errors of a later check are, as far as
// their paths are in it. data must be a file that Load accepts.
func Locate(data []byte, errs Errors) Errors {
	root, err := parse(data)
	if err != nil {
		return errs
	}
	var c Cluster
	d := decoder{at: map[string]*yaml.Node{}}
	d.value(root, reflect.ValueOf(&c).Elem(), "")
	errs = d.locate(slices.Clone(errs))
	errs.byPosition()
	return errs
}

// without returns those of errs that are not about, above or below the path of
// an error that is known: they may be its consequence.
func without(errs, known Errors) Errors {
	at, above := map[string]bool{}, map[string]bool{}
	for _, k := range known {
		at[k.Path] = true
		for p := k.Path; p != ""; p = parent(p) {
			above[p] = true
		}
	}
	return slices.DeleteFunc(errs, func(e Error) bool {
		for p := parent(e.Path); p != ""; p = parent(p) {
			if at[p] {
				return true
			}
		}
		return at[e.Path] || above[e.Path]
	})
}

// locate fills in where the paths of errs are, or the nearest thing above them
// that is in the file.
func (d *decoder) locate(errs Errors) Errors {
	for i, e := range errs {
		for p := e.Path; p != ""; p = parent(p) {
			if n := d.at[p]; n != nil {
				errs[i].Line, errs[i].Column = n.Line, n.Column
				break
			}
		}
	}
	return errs
}

func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

var yamlErrorRe = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// parse returns the mapping that the one document of data holds.
func parse(data []byte) (*yaml.Node, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]) {
		return nil, Errors{{Message: fmt.Sprintf("the file is empty; it must start with:\napiVersion: %s\nkind: %s", APIVersion, Kind)}}
	}
	if err != nil {
		return nil, syntaxError(data, err)
	}
	root := resolve(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, Errors{{Line: root.Line, Column: root.Column, Message: message("the file must be a mapping of fields, apiVersion and kind first, not %s", describe(root))}}
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, Errors{{Line: second.Line, Column: second.Column, Message: "the file has more than one document, but describes one cluster; put each in a file of its own"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(data, err)
	}
	return root, nil
}

// bom is the byte order mark that some editors write at the start of a file.
const bom = '\ufeff'

// checkText refuses what YAML is not made of, with its exact position.
func checkText(data []byte) error {
	if len(data) > maxSize {
		return Errors{{Message: fmt.Sprintf("the file has %d bytes, but at most %d are read; is it a configuration file of rk?", len(data), maxSize)}}
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return Errors{{Line: 1, Column: 1, Message: "the file is UTF-16; save it as UTF-8"}}
	}
	line, column := 1, 0
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		column++
		switch {
		case r == utf8.RuneError && size == 1:
			return Errors{{Line: line, Column: column, Message: fmt.Sprintf("the file is not UTF-8: there is a byte 0x%02x; save it as UTF-8", data[i])}}
		case r == '\n':
			line, column = line+1, 0
		case r == '\t' || r == '\r':
		case r == bom && i > 0:
			return Errors{{Line: line, Column: column, Message: "there is a byte order mark (U+FEFF), which is allowed only at the start of the file; remove it"}}
		case r < ' ', r >= 0x7f && r < 0xa0 && r != '\u0085', r == 0xfffe, r == 0xffff:
			return Errors{{Line: line, Column: column, Message: fmt.Sprintf("the file holds the control character %U, which YAML does not allow; remove it", r)}}
		}
		i += size
	}
	return nil
}

// unknownAnchorRe is the one error of the parser that says what, but not where.
var unknownAnchorRe = regexp.MustCompile(`^unknown anchor '([^']*)'`)

// syntaxError words what the YAML parser says of data.
func syntaxError(data []byte, err error) error {
	m := yamlErrorRe.FindStringSubmatch(err.Error())
	if m == nil {
		return Errors{{Message: "is not YAML: " + err.Error()}}
	}
	lines := bytes.Split(data, []byte("\n"))
	line, what := 1, m[2] // the parser leaves the first line out
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	fail := func(column int, message string) error {
		return Errors{{Line: line, Column: column, Message: "is not YAML: " + message}}
	}
	if line <= len(lines) {
		indentation := lines[line-1][:len(lines[line-1])-len(bytes.TrimLeft(lines[line-1], " \t"))]
		if i := bytes.IndexByte(indentation, '\t'); i >= 0 {
			return fail(i+1, "a tab cannot indent; use spaces")
		}
	}
	if a := unknownAnchorRe.FindStringSubmatch(what); a != nil {
		for i, l := range lines {
			if j := bytes.Index(l, []byte("*"+a[1])); j >= 0 {
				line = i + 1
				return fail(utf8.RuneCount(l[:j])+1, fmt.Sprintf("the alias *%s has no anchor &%s before it; write it out, or name one that there is", a[1], a[1]))
			}
		}
	}
	switch {
	case strings.Contains(what, "incompatible YAML document"):
		return fail(0, "this version of YAML is not known; remove the line %YAML")
	case strings.Contains(what, "exceeded max depth"):
		return fail(0, "it is nested too deeply; a cluster needs no more than 6 levels")
	}
	return fail(0, what+"; look at the indentation, colons and quotes there and in the next line")
}

// checkFormat looks at apiVersion and kind alone. A file of another format is
// not looked at further (final): it would be answered with a list of unknown fields.
func checkFormat(root *yaml.Node) (errs Errors, final bool) {
	fail := func(path, format string, args ...any) {
		e := Error{Path: path, Message: message(format, args...)}
		if n := child(root, path); n != nil {
			e.Line, e.Column = n.Line, n.Column
		}
		errs = append(errs, e)
	}
	version, kind := child(root, "apiVersion"), child(root, "kind")
	switch v := scalarText(version); {
	case strings.HasPrefix(v, kindAPI):
		fail("apiVersion", "%q is kind's format; this is read as one of rk: apiVersion: %s (see docs/config.md)", v, text(APIVersion))
		return errs, true
	case version != nil && version.Kind != yaml.ScalarNode:
		fail("apiVersion", "must be a string, not %s; write: %s", describe(version), text(APIVersion))
	case v == "":
		fail("apiVersion", "is required; write: %s", text(APIVersion))
	case v != APIVersion:
		fail("apiVersion", "%q is not known to this version of rk; write: %s", v, text(APIVersion))
		final = true
	}
	switch v := scalarText(kind); {
	case kind != nil && kind.Kind != yaml.ScalarNode:
		fail("kind", "must be a string, not %s; write: %s", describe(kind), text(Kind))
	case v == "":
		fail("kind", "is required; write: %s", text(Kind))
	case v != Kind:
		fail("kind", "%q is not known; write: %s", v, text(Kind))
	}
	return errs, final
}

// scalarText returns the text of a scalar, "" if there is none.
func scalarText(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || isNull(n) {
		return ""
	}
	return n.Value
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
func describe(n *yaml.Node) text {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	value := segment(n.Value)
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return "empty"
	case "!!bool":
		return text("the boolean " + value)
	case "!!int", "!!float":
		return text("the number " + value)
	case "!!timestamp":
		return text("the date " + value)
	case "!!str":
		return text(strconv.Quote(shorten(n.Value)))
	default:
		return text(fmt.Sprintf("%q of the type %s", shorten(n.Value), segment(tag)))
	}
}
