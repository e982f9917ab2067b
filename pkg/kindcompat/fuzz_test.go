// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"errors"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// FuzzParse: whatever a file of kind holds, it is converted to what rk reads,
// and planned, or it is answered with errors.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds in %s (%v)", pattern, err)
		}
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, releases)
		if err != nil {
			var errs config.Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("error is %T (%v), want config.Errors", err, err)
			}
			return
		}
		c := config.Default(file.Cluster)
		if err := config.Validate(c); err != nil {
			var errs config.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error is %T (%v), want config.Errors", err, err)
			}
			_ = file.Errors(errs).Error()
			return
		}
		out, err := yaml.Marshal(file.Cluster)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(out); err != nil {
			t.Fatalf("what it is converted to is refused: %v\n%s", err, out)
		}
		if _, err := plan.Check(c); err != nil && !errors.Is(err, problem.InvalidConfig) {
			t.Errorf("check: %v", err)
		}
	})
}
