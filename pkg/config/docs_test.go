// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func referencePage(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// docs/config.md describes every field, and no other.
func TestDocsDescribeEveryField(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(referencePage(t), -1) {
		documented = append(documented, m[1])
	}
	fields := allPaths(reflect.TypeFor[Cluster](), "")
	for _, f := range fields {
		if !slices.Contains(documented, f) {
			t.Errorf("docs/config.md does not describe %s", f)
		}
	}
	for _, d := range documented {
		if !slices.Contains(fields, d) {
			t.Errorf("docs/config.md describes %s, which is no field", d)
		}
	}
}

// docs/config.md names the defaults that Default fills in.
func TestDocsNameDefaults(t *testing.T) {
	t.Parallel()
	docs := referencePage(t)
	for field, want := range map[string]string{
		"name": DefaultName, "kubernetesVersion": DefaultKubernetesVersion, "cgroups": DefaultCgroups,
		"networking.podSubnet": DefaultPodSubnet, "networking.serviceSubnet": DefaultServiceSubnet,
		"networking.apiServerAddress": DefaultAPIServerAddress, "networking.kubeProxyMode": DefaultKubeProxyMode,
	} {
		if row := "| `" + field + "` | `" + want + "` |"; !strings.Contains(docs, row) {
			t.Errorf("docs/config.md does not say that %s defaults to %s", field, want)
		}
	}
}

// Every example of the documentation is a valid configuration.
func TestDocsExamples(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(referencePage(t), -1)
	if len(blocks) < 2 {
		t.Fatalf("only %d examples found in docs/config.md", len(blocks))
	}
	for _, b := range blocks {
		c, err := Load([]byte(b[1]))
		if err == nil {
			err = Validate(Default(c))
		}
		if err != nil {
			t.Errorf("an example is refused: %v\n%s", err, b[1])
		}
	}
}
