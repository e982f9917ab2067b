// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// tree writes files below a new folder, which becomes the current one.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// found lists what Read returns, in short.
func found(t *testing.T, c config.Cluster) []string {
	t.Helper()
	objects, err := Read(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		out = append(out, strings.Join([]string{o.Source, o.APIVersion, o.Kind, o.Namespace, o.Name}, " | "))
	}
	return out
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func TestRead(t *testing.T) {
	tree(t, map[string]string{
		"app/b.yaml":    "# only a comment\n---\n" + configMap("b1") + "--- # and another\n" + configMap("b2") + "---\n---\n",
		"app/a.yml":     "\ufeff" + configMap("a"),
		"app/c.json":    `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}]}`,
		"app/README.md": "not: read",
		"app/sub/x.yml": "not: read",
		"one.txt":       "%YAML 1.1\n--- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n...\n",

		"k/kustomization.yaml": "namePrefix: dev-\nresources: [cm.yaml, ../base]\n",
		"k/cm.yaml":            configMap("cm"),
		"base/kustomization.yaml": "configMapGenerator:\n- name: gen\n  literals: [url=https://example.org/]\n" +
			"generatorOptions: {disableNameSuffixHash: true}\n",
	})
	got := found(t, config.Cluster{
		Manifests:      []config.Manifest{{Path: "app"}, {Path: "one.txt"}, {Inline: configMap("in")}},
		Kustomizations: []string{"k"},
	})
	want := []string{
		"app/a.yml, document 1 | v1 | ConfigMap |  | a",
		"app/b.yaml, document 1 | v1 | ConfigMap |  | b1",
		"app/b.yaml, document 2 | v1 | ConfigMap |  | b2",
		"app/c.json, document 1, item 1 | v1 | Pod | n | p",
		"one.txt, document 1 | apps/v1 | Deployment |  | d",
		"manifests[2].inline, document 1 | v1 | ConfigMap |  | in",
		"kustomization k, document 1 | v1 | ConfigMap |  | dev-cm",
		"kustomization k, document 2 | v1 | ConfigMap |  | dev-gen",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryMistakeAtOnce(t *testing.T) {
	tree(t, map[string]string{
		"syntax.yaml":    configMap("ok") + "---\nkind: ConfigMap\n\tapiVersion: v1\n---\na: b: c\n",
		"twice.yaml":     "kind: A\nkind: B\n",
		"scalar.yaml":    "hello\n",
		"list.yaml":      "- apiVersion: v1\n",
		"missing.yaml":   "\n# comment\nmetadata: {name: x}\n---\nkind: Pod\n---\napiVersion: v1\n---\napiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n",
		"wrong.yaml":     "apiVersion: v1\nkind: Pod\nmetadata: {name: 1}\n---\napiVersion: a/b/c\nkind: X\nmetadata: {name: x1}\n",
		"duplicate.yaml": "# again\n---\n" + configMap("ok") + "  \n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ok, namespace: default}\n",
		"empty.yaml":     "# nothing\n---\n",
		"binary.yaml":    "\xff\xfe\x00",
		"rk.yaml":        "apiVersion: rk.io/v1alpha1\nkind: Cluster\n",
		"kust.yaml":      "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n",
		"items.yaml":     "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n",
	})
	var c config.Cluster
	for _, f := range []string{"syntax", "twice", "scalar", "list", "missing", "wrong", "duplicate", "empty", "binary", "rk", "kust", "items"} {
		c.Manifests = append(c.Manifests, config.Manifest{Path: f + ".yaml"})
	}
	_, err := Read(t.Context(), c)
	if !errors.Is(err, problem.ManifestInvalid) {
		t.Fatalf("error is %v", err)
	}
	want := strings.Join([]string{
		`syntax.yaml:6: document 2: is not YAML: found a tab character that violates indentation`,
		`syntax.yaml:8: document 3: is not YAML: mapping values are not allowed in this context`,
		`twice.yaml:2: document 1: is not YAML: key "kind" already set in map`,
		`scalar.yaml:1: document 1: an object of Kubernetes is a mapping of fields, not a string`,
		`list.yaml:1: document 1: an object of Kubernetes is a mapping of fields, not a list`,
		`missing.yaml:3: document 1: apiVersion and kind are missing: it is no object of Kubernetes`,
		`missing.yaml:5: document 2: Pod has no apiVersion`,
		`missing.yaml:7: document 3: kind is missing`,
		`missing.yaml:9: document 4: the Pod has no metadata.name`,
		`missing.yaml:12: document 5: Pod has generateName, but what is applied needs a name: metadata.name`,
		`wrong.yaml:1: document 1: metadata.name must not be a number`,
		`wrong.yaml:5: document 2: X x1: apiVersion "a/b/c" is not a version of an API; write it like v1 or apps/v1`,
		`duplicate.yaml:3: document 1: ConfigMap ok is there twice, first in syntax.yaml:1`,
		`duplicate.yaml:8: document 2: ConfigMap ok is there twice, first in syntax.yaml:1`,
		`empty.yaml:1: there is no object in it`,
		`binary.yaml:1: it is not text in UTF-8`,
		`rk.yaml:1: document 1: Cluster is the configuration of a cluster, no object in one; name it with --config`,
		`kust.yaml:1: document 1: Kustomization is a kustomization; name its folder with --kustomize, or under kustomizations`,
		`items.yaml:1: document 1: the Pod has no metadata.name`,
	}, "\n")
	if diff := cmp.Diff(want, errors.Unwrap(err).Error()); diff != "" {
		t.Error(diff)
	}
}

func TestUnreadable(t *testing.T) {
	tree(t, map[string]string{"empty/note.txt": "", "x.yaml": configMap("x")})
	_, err := Read(t.Context(), config.Cluster{Manifests: []config.Manifest{{Path: "gone.yaml"}, {Path: "empty"}, {Path: "x.yaml"}}})
	if !errors.Is(err, problem.ManifestUnreadable) {
		t.Fatalf("error is %v", err)
	}
	for _, want := range []string{"gone.yaml: no such file", "empty: the folder has no file that ends in .yaml"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := Read(t.Context(), config.Cluster{Kustomizations: []string{"gone"}}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error is %v", err)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	body := configMap("far")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/install.yaml":
			_, _ = w.Write([]byte(body))
		case "/large":
			_, _ = w.Write(make([]byte, maxSize+1))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	sum := sha256.Sum256([]byte(body))
	right := hex.EncodeToString(sum[:])
	for name, c := range map[string]struct{ url, sha256, want string }{
		"good":       {s.URL + "/install.yaml?token=abc", strings.ToUpper(right), ""},
		"no sum":     {s.URL + "/install.yaml", "", ""},
		"wrong sum":  {s.URL + "/install.yaml?token=abc", strings.Repeat("0", 64), "/install.yaml: its SHA-256 is " + right + ", but the configuration says 000"},
		"not there":  {s.URL + "/gone?token=abc", "", "/gone: the server answers 404 Not Found"},
		"too large":  {s.URL + "/large", "", "/large: it is larger than 32 MiB"},
		"no server":  {"http://127.0.0.1:1/x?token=abc", "", "connection refused"},
		"no such fd": {"http://user:abc@127.0.0.1:1/x", "", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects, err := Read(t.Context(), config.Cluster{Manifests: []config.Manifest{{URL: c.url, SHA256: c.sha256}}})
			switch {
			case c.want == "" && (err != nil || len(objects) != 1 || objects[0].Source != s.URL+"/install.yaml, document 1"):
				t.Errorf("objects are %v, error is %v", objects, err)
			case c.want != "" && (!errors.Is(err, problem.ManifestUnreadable) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error is %v", err)
			case err != nil && strings.Contains(err.Error(), "abc"):
				t.Errorf("a secret of the URL is told: %v", err)
			}
		})
	}
}

// What a plan shows of an object has no secrets; what is applied has them, and numbers as they were written.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	objects, err := Read(t.Context(), config.Cluster{Manifests: []config.Manifest{{Inline: `
apiVersion: v1
kind: Secret
metadata:
  name: s
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"stringData":{"a":"hunter2"}}'}
data: {b: aHVudGVyMg==}
stringData:
  a: hunter2
  c: |
    hunter2
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {password: hunter2, other: "9007199254740993"}
---
apiVersion: example.org/v1
kind: Number
metadata: {name: n1}
spec: 9007199254740993
`}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if strings.Contains(o.Shown, "hunter2") || strings.Contains(o.Shown, "aHVudGVyMg") {
			t.Errorf("%s %s is shown as:\n%s", o.Kind, o.Name, o.Shown)
		}
	}
	if s := objects[0]; !strings.Contains(s.Shown, "a: REDACTED") || !strings.Contains(string(s.JSON), "hunter2") {
		t.Errorf("shown:\n%s\napplied:\n%s", s.Shown, s.JSON)
	}
	if s := objects[1].Shown; !strings.Contains(s, "other:") {
		t.Errorf("shown:\n%s", s)
	}
	if o := objects[2]; !strings.Contains(string(o.JSON), "9007199254740993") || !strings.Contains(o.Shown, "9007199254740993") {
		t.Errorf("shown:\n%s\napplied: %s", o.Shown, o.JSON)
	}
}
