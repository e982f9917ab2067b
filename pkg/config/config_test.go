// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// process is what a configuration file goes through before it is planned.
func process(data []byte) (config.Cluster, error) {
	c, err := config.Load(data)
	if err != nil {
		return c, err
	}
	c = config.Default(c)
	return c, config.Validate(c)
}

// Every file of testdata/good is accepted, and defaulted as its golden says.
func TestGood(t *testing.T) {
	t.Parallel()
	for _, file := range inputs(t, "good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			c, err := process(read(t, file))
			if err != nil {
				t.Fatalf("is refused: %v", err)
			}
			out, err := yaml.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, string(out))
			if diff := cmp.Diff(c, config.Default(c)); diff != "" {
				t.Errorf("Default is not idempotent (-once +twice):\n%s", diff)
			}
			again, err := process(out)
			if err != nil {
				t.Fatalf("its own output is refused: %v", err)
			}
			if diff := cmp.Diff(c, again); diff != "" {
				t.Errorf("does not survive a round trip (-first +second):\n%s", diff)
			}
		})
	}
}

// Every file of testdata/bad is refused, with the errors of its golden.
func TestBad(t *testing.T) {
	t.Parallel()
	for _, file := range inputs(t, "bad") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, err := process(read(t, file))
			var errs config.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error is %T (%v), want config.Errors", err, err)
			}
			golden(t, file, errs.Error()+"\n")
		})
	}
}

func inputs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no input in testdata/%s (%v)", dir, err)
	}
	return files
}

func golden(t *testing.T, input, got string) {
	t.Helper()
	file := strings.TrimSuffix(input, ".yaml") + ".golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, file)), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDefaultDoesNotChangeItsArgument(t *testing.T) {
	t.Parallel()
	in := config.Cluster{Nodes: []config.Node{{Role: config.RoleControlPlane}}}
	config.Default(in)
	if in.Nodes[0].Count != 0 || in.Name != "" {
		t.Errorf("the argument was changed: %+v", in)
	}
}

func TestDefaultKubernetesVersionIsThatOfTheNodeImage(t *testing.T) {
	t.Parallel()
	data, err := nodeimagedata.FS.ReadFile("versions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var versions struct {
		Kubernetes struct{ Default string }
	}
	if err := yaml.Unmarshal(data, &versions); err != nil {
		t.Fatal(err)
	}
	if got, want := config.DefaultKubernetesVersion, versions.Kubernetes.Default; got != want {
		t.Errorf("DefaultKubernetesVersion is %q, node-image/versions.yaml says %q", got, want)
	}
}

// A file of the largest size in which everything is wrong is answered like any
// other: no part of that takes time with the square of the errors.
func TestManyErrors(t *testing.T) {
	t.Parallel()
	const nodes = 30_000
	_, err := config.Load([]byte("apiVersion: rk.io/v1alpha1\nkind: Cluster\nnodes:\n" + strings.Repeat("- {role: x, count: y}\n", nodes)))
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) != 2*nodes+1 { // the one is that there are so many
		t.Fatalf("%d errors, want %d", len(errs), 2*nodes+1)
	}
	if text := errs.Error(); strings.Count(text, "\n") != 51 || !strings.HasSuffix(text, "and 59951 more") {
		t.Errorf("told as:\n%s", text)
	}
}
