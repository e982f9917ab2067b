// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/redact"
)

// parse returns the objects of all texts, or everything that is wrong with them.
func parse(texts []text) ([]plan.Object, error) {
	p := parser{seen: map[string]string{}}
	for _, t := range texts {
		before := p.documents
		p.text(t)
		if p.documents == before {
			p.fail(t.name, 1, "there is no object in it")
		}
	}
	return p.objects, errors.Join(p.errs...)
}

type parser struct {
	objects   []plan.Object
	errs      []error
	seen      map[string]string // where each object is
	documents int
}

func (p *parser) fail(name string, line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: "+format, append([]any{name, line}, args...)...))
}

// document is one YAML document of a text.
type document struct {
	line int // of its first line in the text, from 1
	data []byte
}

// split cuts a text at its lines "---". What follows on such a line belongs to
// the document that it begins.
func split(data []byte) []document {
	var out []document
	current := document{line: 1}
	line := 0
	for l := range bytes.Lines(data) {
		line++
		rest, ok := bytes.CutPrefix(l, []byte("---"))
		if !ok || len(rest) > 0 && !bytes.ContainsAny(rest[:1], " \t\r\n") {
			current.data = append(current.data, l...)
			continue
		}
		out = append(out, current)
		current = document{line: line, data: append([]byte("   "), rest...)}
		if len(bytes.TrimSpace(rest)) == 0 {
			current.data = []byte("\n")
		}
	}
	return append(out, current)
}

func (p *parser) text(t text) {
	if !utf8.Valid(t.data) {
		p.fail(t.name, 1, "it is not text in UTF-8")
		p.documents++
		return
	}
	number := 0
	for _, d := range split(bytes.TrimPrefix(t.data, []byte("\ufeff"))) {
		if empty(d.data) {
			continue
		}
		number++
		p.documents++
		p.document(t.name, number, d)
	}
}

// empty says that a document has nothing but comments and directives.
func empty(data []byte) bool {
	for l := range bytes.Lines(data) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '#' && l[0] != '%' && !bytes.Equal(l, []byte("...")) {
			return false
		}
	}
	return true
}

// lineRe is where YAML parsers say that a mistake is.
var lineRe = regexp.MustCompile(`(?:error converting YAML to JSON: )?yaml: (?:unmarshal errors:\n\s*)?(?:line (\d+): )?`)

func (p *parser) document(name string, number int, d document) {
	data, err := yaml.YAMLToJSONStrict(d.data)
	if err != nil {
		line, message := d.line, err.Error()
		if m := lineRe.FindStringSubmatch(message); m != nil {
			if n, aerr := strconv.Atoi(m[1]); aerr == nil {
				line += n - 1
			}
			message = strings.Replace(message, m[0], "", 1)
		}
		p.fail(name, line, "document %d: is not YAML: %s", number, message)
		return
	}
	p.object(fmt.Sprintf("%s, document %d", name, number), name, number, p.firstLine(d), data)
}

// firstLine is the line of a document's first field.
func (p *parser) firstLine(d document) int {
	line := d.line
	for l := range bytes.Lines(d.data) {
		if !empty(l) {
			break
		}
		line++
	}
	return line
}

// header is what every object has.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
	Items *[]json.RawMessage `json:"items"`
}

func (p *parser) object(source, name string, number, line int, data []byte) {
	fail := func(format string, args ...any) {
		p.fail(name, line, "document %d: "+format, append([]any{number}, args...)...)
	}
	var h header
	if err := json.Unmarshal(data, &h); err != nil {
		var typed *json.UnmarshalTypeError
		switch {
		case errors.As(err, &typed) && typed.Field == "":
			fail("an object of Kubernetes is a mapping of fields, not %s", kindOf(typed.Value))
		case errors.As(err, &typed):
			fail("%s must not be %s", typed.Field, kindOf(typed.Value))
		default:
			fail("%w", err)
		}
		return
	}
	if strings.HasSuffix(h.Kind, "List") && h.Items != nil {
		for i, item := range *h.Items {
			p.object(fmt.Sprintf("%s, item %d", source, i+1), name, number, line, item)
		}
		return
	}
	what := strings.TrimSpace(h.Kind + " " + h.Metadata.Name)
	group, version, grouped := strings.Cut(h.APIVersion, "/")
	if !grouped {
		group, version = "", h.APIVersion
	}
	switch {
	case h.APIVersion == "" && h.Kind == "":
		fail("apiVersion and kind are missing: it is no object of Kubernetes")
	case h.APIVersion == "":
		fail("%s has no apiVersion", what)
	case h.Kind == "":
		fail("kind is missing")
	case version == "" || strings.Contains(version, "/") || grouped && group == "":
		fail("%s: apiVersion %q is not a version of an API; write it like v1 or apps/v1", what, h.APIVersion)
	case group == "rk.io" || group == "kind.x-k8s.io":
		fail("%s is the configuration of a cluster, no object in one; name it with --config", what)
	case group == "kustomize.config.k8s.io":
		fail("%s is a kustomization; name its folder with --kustomize, or under kustomizations", what)
	case h.Metadata.Name == "" && h.Metadata.GenerateName != "":
		fail("%s has generateName, but what is applied needs a name: metadata.name", what)
	case h.Metadata.Name == "":
		fail("the %s has no metadata.name", what)
	default:
		namespace := h.Metadata.Namespace
		if namespace == "" {
			namespace = "default"
		}
		key := strings.Join([]string{group, h.Kind, namespace, h.Metadata.Name}, "\x00")
		if first, dup := p.seen[key]; dup {
			fail("%s is there twice, first in %s", what, first)
			return
		}
		p.seen[key] = fmt.Sprintf("%s:%d", name, line)
		p.objects = append(p.objects, plan.Object{
			APIVersion: h.APIVersion, Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name,
			Source: source, JSON: data, Shown: withoutSecrets(h, data),
		})
	}
}

// kindOf names a JSON value's type in the words of YAML.
func kindOf(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "a mapping"
	case "bool":
		return "a boolean"
	}
	return "a " + value
}

// withoutSecrets is an object as YAML that can be shown. Of a Secret only the
// names of its values are left.
func withoutSecrets(h header, data []byte) string {
	var content map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // they are shown as they were written
	if err := d.Decode(&content); err != nil {
		return ""
	}
	if h.Kind == "Secret" && h.APIVersion == "v1" {
		for _, field := range []string{"data", "stringData"} {
			values, ok := content[field].(map[string]any)
			if !ok {
				delete(content, field)
				continue
			}
			for k := range values {
				values[k] = redact.Mark
			}
		}
		if meta, ok := content["metadata"].(map[string]any); ok {
			delete(meta, "annotations") // kubectl's last-applied-configuration has the values again
		}
	}
	out, err := json.Marshal(content)
	if err == nil {
		out, err = yaml.JSONToYAML(out)
	}
	if err != nil {
		return ""
	}
	return string(redact.Bytes(out))
}
