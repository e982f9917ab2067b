// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// limits are what the schema says of a field beside its type.
var limits = map[string]map[string]any{
	"apiVersion":                       {"const": APIVersion},
	"kind":                             {"const": Kind},
	"name":                             {"pattern": nameRe.String(), "maxLength": MaxNameLength},
	"kubernetesVersion":                {"pattern": "^v?" + strings.TrimPrefix(versionRe.String(), "^v")},
	"cgroups":                          {"enum": []any{"auto", "delegated", "none", nil}},
	"nodes[].role":                     {"enum": []any{RoleControlPlane, RoleWorker}},
	"nodes[].count":                    {"minimum": 1, "maximum": maxNodes},
	"nodes[].taints[].effect":          {"enum": []any{"NoSchedule", "PreferNoSchedule", "NoExecute"}},
	"nodes[].mounts[].hostPath":        {"minLength": 1},
	"nodes[].mounts[].containerPath":   {"pattern": "^/"},
	"nodes[].mounts[].propagation":     {"enum": []any{PropagationNone, PropagationHostToContainer, nil}},
	"nodes[].ports[].containerPort":    {"minimum": 1, "maximum": maxPort},
	"nodes[].ports[].hostPort":         {"minimum": HostPortOfEngine, "maximum": maxPort},
	"nodes[].ports[].protocol":         {"enum": []any{TCP, UDP, nil}},
	"networking.ipFamily":              {"enum": []any{IPv4, IPv6, DualStack, nil}},
	"networking.apiServerPort":         {"minimum": 0, "maximum": maxPort},
	"networking.kubeProxyMode":         {"enum": []any{"iptables", "nftables", KubeProxyNone, nil}},
	"featureGates":                     {"propertyNames": map[string]any{"pattern": gateRe.String()}},
	"kubeadmPatches[].kind":            {"enum": anyList(patchKindNames)},
	"kubeadmPatches[].json6902[].op":   {"enum": []any{"add", "remove", "replace", "move", "copy", "test"}},
	"kubeadmPatches[].json6902[].path": {"pattern": "^/"},
	"kubeadmPatches[].json6902[].from": {"pattern": "^/"},
	"files[].path":                     {"pattern": "^/"},
	"files[].mode":                     {"pattern": "^[0-7]*$"},
	"files[].owner":                    {"pattern": "^([0-9]+(:[0-9]+)?)?$"},
	"files[].roles[]":                  {"enum": []any{RoleControlPlane, RoleWorker}},
	"manifests[].url":                  {"pattern": "^(https?://.*)?$"},
	"manifests[].sha256":               {"pattern": "^([0-9a-fA-F]{64})?$"},
	"kustomizations[]":                 {"minLength": 1},
	"hosts[].names":                    {"minItems": 1},
	"nodes[].hosts[].names":            {"minItems": 1},
	"env":                              {"propertyNames": map[string]any{"pattern": envRe.String()}},
	"nodes[].env":                      {"propertyNames": map[string]any{"pattern": envRe.String()}},
}

// required fields, by the place of the mapping.
var required = map[string][]string{
	"": {"apiVersion", "kind"}, "nodes[]": {"role"}, "nodes[].taints[]": {"key", "effect"}, "nodes[].mounts[]": {"hostPath", "containerPath"},
	"registries.hosts[]": {"host"}, "nodes[].ports[]": {"containerPort"}, "files[]": {"path"}, "hosts[]": {"ip", "names"}, "nodes[].hosts[]": {"ip", "names"}, "kubeadmPatches[]": {"kind"}, "kubeadmPatches[].json6902[]": {"op", "path"},
}

// oneOfTwo are mappings that have one of two fields.
var oneOfTwo = map[string][2]string{"kubeadmPatches[]": {"merge", "json6902"}, "containerdPatches[]": {"toml", "json6902"}}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// canonical is the place for which limits are written, where a type has several.
func canonical(path string) string {
	path = strings.TrimPrefix(path, "nodes[].kubeadmPatches[]")
	if path == "" || strings.HasPrefix(path, ".") || strings.HasPrefix(path, "[") {
		path = "kubeadmPatches[]" + path
	}
	return strings.Replace(path, "containerdPatches[].json6902", "kubeadmPatches[].json6902", 1)
}

type schemaMaker struct{ descriptions map[string]string }

func (m schemaMaker) of(t reflect.Type, path string, optional bool) map[string]any {
	null := func(s string) any {
		if optional {
			return []any{s, "null"}
		}
		return s
	}
	out := map[string]any{}
	switch t.Kind() {
	case reflect.Pointer:
		return m.of(t.Elem(), path, optional)
	case reflect.String:
		out["type"] = null("string")
	case reflect.Bool:
		out["type"] = null("boolean")
	case reflect.Int:
		out["type"] = null("integer")
	case reflect.Slice:
		out["type"], out["items"] = null("array"), m.of(t.Elem(), path+"[]", false)
	case reflect.Map:
		out["type"] = null("object")
		if t.Elem().Kind() != reflect.Interface {
			out["additionalProperties"] = m.of(t.Elem(), path+"[*]", t.Elem().Kind() == reflect.String)
		}
	case reflect.Struct:
		at := path
		if path != "" {
			at = canonical(path)
		}
		properties := map[string]any{}
		for i, name := range fieldNames(t) {
			properties[name] = m.of(t.Field(i).Type, join(path, name), !slices.Contains(required[at], name))
		}
		out["type"], out["properties"], out["additionalProperties"] = null("object"), properties, false
		if r := required[at]; r != nil {
			out["required"] = r
		}
		if two, ok := oneOfTwo[at]; ok {
			out["anyOf"] = []any{map[string]any{"required": []any{two[0]}}, map[string]any{"required": []any{two[1]}}}
		}
	}
	if path == "" {
		return out
	}
	for k, v := range limits[canonical(path)] {
		out[k] = v
	}
	if out["enum"] != nil || out["const"] != nil {
		delete(out, "type")
	}
	if d := m.descriptions[path]; d != "" {
		out["description"] = d
	} else if d := m.descriptions[canonical(path)]; d != "" {
		out["description"] = d
	}
	return out
}

// makeSchema is the schema of the types of this package, in the words of the documentation.
func makeSchema(t *testing.T) []byte {
	t.Helper()
	m := schemaMaker{descriptions: map[string]string{}}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|$").FindAllStringSubmatch(referencePage(t), -1) {
		meaning := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.TrimSpace(row[3]), "$1")
		if value := strings.TrimSpace(row[2]); value != "" && value != "required" {
			meaning = strings.TrimSpace(meaning + " Default: " + value + ".")
		}
		m.descriptions[row[1]] = meaning
	}
	s := m.of(reflect.TypeFor[Cluster](), "", false)
	s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", "rk.io/v1alpha1 Cluster"
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The schema is that of the Go types.
func TestSchemaAgreesWithTypes(t *testing.T) {
	t.Parallel()
	want := makeSchema(t)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile("schema.json", want, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(Schema())); diff != "" {
		t.Errorf("schema.json is not up to date (-update rewrites it):\n%s", diff)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("rk.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("rk.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, file string) (known bool, err error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	j, err := yaml.YAMLToJSONStrict(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return false, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		t.Fatal(err)
	}
	return true, s.Validate(doc)
}

// beyondSchema are what errors say that a schema cannot find: what depends on
// several fields, on Kubernetes' own rules, or on the text of the file.
var beyondSchema = regexp.MustCompile(`must have one of path|is only for a url|is a link in the node|begins empty when|rk's own|is a folder of the node|absolute path of a file|` +
	`overlaps|has room for|is not a subnet|must be a /|has bits set|cannot be used|is IPv6|is IPv4|must be one subnet|must be two subnets|` +
	`of one address family|another address family|in the form of IPv6|is not an IP address|is not a plain IPv4|multicast|no node has the role|control planes; etcd|there are two taints|` +
	`is not a valid (label|taint)|is set by the node itself|cannot be given together|is not an image reference|is a URL|is a file;|addresses for \d+ nodes|have an address in|` +
	`is not a domain name|is needed by the node|is mounted twice|is published by|can be published for one node|is there twice|merge keys|more than one document|is not YAML|` +
	`must have one of|is no field that a patch changes|is not a version of|belongs to move and copy|cannot be turned off|more than \d+ values|is not an API|write true or false|` +
	`put it in quotes|are too many|is not a full version|must be a string, not the|remove the type|is not a JSON pointer; move|not a number that JSON|is too large a number|is UTF-16|is how systemd|has a control character|is each node and pod itself|of a proxy|is not a name, domain|is not a path; write a file of PEM|` +
	`is too little|is not a number of CPUs|is not an amount|is a number of bytes|are given beside it|byte order mark|the file is empty`)

// The schema accepts what Load accepts, and refuses what Load refuses for its
// structure: fields, types, values of a list.
func TestSchemaAgreesWithLoad(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	good, _ := filepath.Glob("testdata/good/*.yaml")
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(good) < 10 || len(bad) < 100 {
		t.Fatalf("%d good and %d bad files", len(good), len(bad))
	}
	for _, file := range good {
		if _, err := validate(t, s, file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	refused := 0
	for _, file := range bad {
		known, err := validate(t, s, file)
		if !known {
			continue // no YAML, or not in the eyes of the other parser
		}
		golden, rerr := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".golden")
		if rerr != nil {
			t.Fatal(rerr)
		}
		structural := false
		for line := range strings.Lines(string(golden)) {
			if !strings.HasSuffix(strings.TrimSpace(line), "errors:") && !beyondSchema.MatchString(line) {
				structural = true
			}
		}
		if structural && err == nil {
			t.Errorf("%s is accepted by the schema, but:\n%s", file, golden)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 40 {
		t.Errorf("the schema refuses only %d files", refused)
	}
}
