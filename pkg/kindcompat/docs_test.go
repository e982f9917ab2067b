// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

func page(t *testing.T) string {
	t.Helper()
	return string(read(t, "../../docs/kind.md"))
}

// paths are the fields of kind's types, as docs/kind.md writes them.
func paths(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case name == "": // inline: kind and apiVersion
		case ft.Kind() == reflect.Struct:
			out = append(out, prefix+name)
			out = append(out, paths(ft, prefix+name+".")...)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			out = append(out, prefix+name)
			if !strings.HasSuffix(prefix, "nodes[].") || name != "kubeadmConfigPatchesJSON6902" { // told once
				out = append(out, paths(ft.Elem(), prefix+name+"[].")...)
			}
		default:
			out = append(out, prefix+name)
		}
	}
	return out
}

var rowRe = regexp.MustCompile("(?m)^\\| `([^`]+)`(?:, `[^`]+`)? \\|[^|]*\\| `([^`]+)` \\|$")

// docs/kind.md has a row for every field of kind, and for no other, and each names a test that there is.
func TestDocsHaveEveryField(t *testing.T) {
	t.Parallel()
	var rows []string
	for _, m := range rowRe.FindAllStringSubmatch(page(t), -1) {
		rows = append(rows, m[1])
		if _, err := os.Stat(filepath.Join("../..", m[2])); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	want := append(paths(reflect.TypeFor[v1alpha4.Cluster](), ""), "kind")
	for _, f := range want {
		if !slices.Contains(rows, f) {
			t.Errorf("docs/kind.md has no row for %s", f)
		}
	}
	for _, r := range rows {
		if !slices.Contains(want, r) {
			t.Errorf("docs/kind.md has a row for %s, which is no field of kind", r)
		}
	}
}

// Every example can be planned.
func TestDocsExamples(t *testing.T) {
	t.Parallel()
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	for _, b := range examples.FindAllStringSubmatch(page(t), -1) {
		f, err := Parse([]byte(b[1]), releases)
		if err != nil {
			t.Fatalf("%v\n%s", err, b[1])
		}
		makePlan(t, f.Cluster)
	}
	for _, b := range examples.FindAllStringSubmatch(string(read(t, "../../docs/config.md")), -1) {
		c, err := config.Load([]byte(b[1]))
		if err == nil {
			_, err = plan.Check(config.Default(c))
		}
		if err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
}
