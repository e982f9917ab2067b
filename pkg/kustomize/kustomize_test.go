// SPDX-License-Identifier: Apache-2.0

package kustomize_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/kustomize"
)

func tree(t *testing.T, files map[string]string) string {
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
	return dir
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - {name: web, image: web, envFrom: [{configMapRef: {name: settings}}]}
`

// An overlay, its base, a component, generators, patches, a transformer.
func TestBuild(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"base/kustomization.yaml": "resources: [web.yaml]\nconfigMapGenerator: [{name: settings, literals: ['page=https://example.org/'], files: [a=settings.txt]}]\n",
		"base/web.yaml":           deployment,
		"base/settings.txt":       "text",
		"overlay/kustomization.yml": "resources: [../base]\ncomponents: [../extra]\nnamePrefix: dev-\ncommonAnnotations: {doc: 'https://example.org/'}\n" +
			"images: [{name: web, newName: example.org/web, newTag: v2}]\n" +
			"patches:\n- {path: replicas.yaml}\n- target: {kind: Deployment}\n  patch: '[{\"op\": \"add\", \"path\": \"/metadata/labels\", \"value\": {\"page\": \"x\"}}]'\n" +
			"transformers:\n- |\n  apiVersion: builtin\n  kind: LabelTransformer\n  metadata: {name: l}\n  labels: {a: b}\n  fieldSpecs: [{path: metadata/labels, create: true}]\n",
		"overlay/replicas.yaml":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}\n",
		"extra/Kustomization":      "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [account.yaml]\n",
		"extra/account.yaml":       "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n",
		"overlay/ignored/file.txt": "",
	})
	got, err := kustomize.Build(filepath.Join(dir, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: dev-web", "replicas: 3", "image: example.org/web:v2", "name: dev-settings-", "kind: ServiceAccount", "a: text", "page: https://example.org/", "a: b"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	if strings.Count(string(got), "dev-settings-") != 2 {
		t.Errorf("the reference has not the name of what it refers to:\n%s", got)
	}
}

// Nothing is fetched, wherever a kustomization names what is not local.
func TestRemoteIsRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(deployment))
	}))
	defer s.Close()
	far := s.URL + "/x.yaml"
	plugin := "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npath: " + far + "\n"
	for name, files := range map[string]map[string]string{
		"resource":         {"kustomization.yaml": "resources: ['" + far + "']"},
		"base":             {"kustomization.yaml": "bases: ['" + far + "']"},
		"component":        {"kustomization.yaml": "components: ['" + far + "']"},
		"git host":         {"kustomization.yaml": "resources: [github.com/org/repo]"},
		"git ssh":          {"kustomization.yaml": "resources: ['git@example.org:org/repo.git']"},
		"git forced":       {"kustomization.yaml": "resources: ['git::example.org/org/repo']"},
		"git file":         {"kustomization.yaml": "resources: ['file:///srv/repo.git']"},
		"git that is here": {"kustomization.yaml": "resources: [github.com/org/repo]", "github.com/org/repo/kustomization.yaml": "resources: []"},
		"nested":           {"kustomization.yaml": "resources: [a]", "a/kustomization.yaml": "resources: ['" + far + "']"},
		"patch":            {"kustomization.yaml": "resources: [d.yaml]\npatches: [{path: '" + far + "'}]", "d.yaml": deployment},
		"old patch":        {"kustomization.yaml": "resources: [d.yaml]\npatchesStrategicMerge: ['" + far + "']", "d.yaml": deployment},
		"generator file":   {"kustomization.yaml": "configMapGenerator: [{name: a, files: ['k=" + far + "']}]"},
		"generator env":    {"kustomization.yaml": "secretGenerator: [{name: a, envs: ['" + far + "']}]"},
		"crds":             {"kustomization.yaml": "crds: ['" + far + "']"},
		"configuration":    {"kustomization.yaml": "configurations: ['" + far + "']"},
		"openapi":          {"kustomization.yaml": "openapi: {path: '" + far + "'}"},
		"replacement":      {"kustomization.yaml": "replacements: [{path: '" + far + "'}]"},
		"transformer":      {"kustomization.yaml": "transformers: [t.yaml]", "t.yaml": "# first\n---\n" + plugin},
		"transformer here": {"kustomization.yaml": "transformers:\n- |\n  " + strings.ReplaceAll(plugin, "\n", "\n  ")},
		"generator":        {"kustomization.yaml": "generators: [g.yaml]", "g.yaml": "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\nfiles: ['" + far + "']\n"},
		"json kustomize":   {"kustomization.yaml": `{"resources": ["` + far + `"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kustomize.Build(tree(t, files))
			if err == nil || !strings.Contains(err.Error(), "is not a local file: kustomizations are built from local files alone") {
				t.Errorf("error is %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if n := asked.Load(); n != 0 {
			t.Errorf("the server was asked %d times", n)
		}
	})
}

func TestOtherMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no kustomization": {map[string]string{"x.yaml": ""}, "there is no kustomization.yaml"},
		"not there":        {map[string]string{"kustomization.yaml": "resources: [gone.yaml]"}, "kustomization.yaml: resources: gone.yaml is not there"},
		"helm":             {map[string]string{"kustomization.yaml": "helmCharts: [{name: x, repo: 'https://example.org'}]"}, "charts of Helm are not rendered"},
		"not YAML":         {map[string]string{"kustomization.yaml": "a: b: c"}, "kustomization.yaml: "},
		"unknown field":    {map[string]string{"kustomization.yaml": "ressources: [a.yaml]"}, "ressources"},
		"transformers in a folder": {
			map[string]string{"kustomization.yaml": "transformers: [t]", "t/kustomization.yaml": "resources: [x.yaml]"}, "t is a folder",
		},
		"outside": {map[string]string{"a/kustomization.yaml": "resources: [../x.yaml]", "x.yaml": deployment}, "security"},
		"cycle":   {map[string]string{"a/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resources: [../a]"}, "cycle"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
				dir = filepath.Join(dir, "a")
			}
			if _, err := kustomize.Build(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v", err)
			}
		})
	}
}
