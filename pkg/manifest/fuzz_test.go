// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// Whatever a file holds, parse returns objects that can be applied and shown, or says where the mistake is.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "---", "--- {}\n", configMap("a") + "---\n" + configMap("b"), "a: b: c", "\ufeff# x\n...\n", "%YAML 1.2\n---\nkind: X\n",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: s}, data: [1]}]\n", "a: &a [*a]\n", "? {a: b}\n: c\n",
		"apiVersion: v1\nkind: SecretList\nitems: [{}, 1]\n", "apiVersion: v1\nkind: Secret\nmetadata: []\nstringData: {a: 1e999}\n",
	} {
		f.Add([]byte(s))
	}
	where := regexp.MustCompile(`^f:[1-9][0-9]*: `)
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := parse([]text{{"f", data}})
		if err == nil && len(objects) == 0 {
			t.Error("no object and no error")
		}
		if err != nil && !where.MatchString(err.Error()) {
			t.Errorf("it is not said where: %v", err)
		}
		for _, o := range objects {
			var h header
			if err := json.Unmarshal(o.JSON, &h); err != nil || h.Kind != o.Kind || h.Metadata.Name != o.Name || o.Name == "" {
				t.Errorf("%v: %+v is not %s", err, o, o.JSON)
			}
			if o.Shown == "" || !strings.HasPrefix(o.Source, "f, document ") {
				t.Errorf("shown: %q, source %q", o.Shown, o.Source)
			}
		}
	})
}
