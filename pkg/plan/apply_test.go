// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Files go to the nodes that they are for, those of /var to where the node takes them from.
func TestFilesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	c := testConfig(config.Node{Role: RoleControlPlane}, config.Node{Role: RoleWorker, Count: 2})
	c.Files = []config.File{
		{Path: "/etc/app//every", Content: "a"},
		{Path: "/var/lib/app/key", Content: "b", Mode: "0400", Owner: "1000:2000", Roles: []string{RoleWorker}},
		{Path: "/etc/app/second", Nodes: []string{"demo-worker2"}, Owner: "7"},
		{Path: "/etc/app/none", Roles: []string{RoleControlPlane}, Nodes: []string{"demo-worker"}},
		{Path: "/etc/kubernetes/pki/oidc.crt", Content: "c", Roles: []string{RoleControlPlane}},
	}
	p, err := Make(c, testFacts())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]File{}
	for _, n := range p.Nodes {
		for _, f := range n.Files {
			if f.Given {
				got[n.Name] = append(got[n.Name], f)
			}
		}
	}
	every := File{Path: "/etc/app/every", Mode: 0o644, Content: "a", Given: true}
	key := File{Path: "/etc/rk/var/lib/app/key", Mode: 0o400, Content: "b", UID: 1000, GID: 2000, Given: true}
	want := map[string][]File{
		"demo-control-plane": {every, {Path: "/etc/kubernetes/pki/oidc.crt", Mode: 0o644, Content: "c", Given: true}},
		"demo-worker":        {every, key},
		"demo-worker2":       {every, key, {Path: "/etc/app/second", Mode: 0o644, UID: 7, GID: 7, Given: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFilesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]config.File{
		`files[0].path: /var/lib/kubelet/config.yaml is written by rk itself`:     {{Path: "/var/lib/kubelet/config.yaml"}},
		`files[0].path: /etc/kubernetes/pki/ca.key is written by rk itself`:       {{Path: "/etc/kubernetes/pki/ca.key"}},
		`files[0].path: /etc/kubernetes/pki/apiserver.crt is written by`:          {{Path: "/etc/kubernetes/pki/apiserver.crt"}},
		`files[0].path: /etc/kubernetes/admin.conf is written by rk itself`:       {{Path: "/etc/kubernetes/admin.conf"}},
		`files[0].path: /etc/kubernetes/manifests/etcd.yaml is written by`:        {{Path: "/etc/kubernetes/manifests/etcd.yaml"}},
		`files[1].path: /etc/a is given twice for node demo-control-plane`:        {{Path: "/etc/a"}, {Path: "/etc/a", Roles: []string{RoleControlPlane}}},
		`files[0].nodes[1]: there is no node "x"; the nodes are demo-control-pla`: {{Path: "/etc/a", Nodes: []string{"demo-control-plane", "x"}}},
	} {
		c := testConfig(config.Node{Role: RoleControlPlane})
		c.Files = files
		_, err := Make(c, testFacts())
		if !errors.Is(err, problem.InvalidConfig) || !errors.As(err, new(config.Errors)) || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want %q", err, name)
		}
		if _, err := Check(c); err == nil {
			t.Errorf("%s: Check does not find it", name)
		}
	}
}

// A plan shows objects without what may be secret in them.
func TestObjects(t *testing.T) {
	t.Parallel()
	f := testFacts()
	f.Objects = []Object{{APIVersion: "v1", Kind: "Secret", Name: "s", Source: "a.yaml, document 1", JSON: []byte(`{"data": "hunter2"}`), Shown: "data: REDACTED\n"}}
	p, err := Make(testConfig(config.Node{Role: RoleControlPlane}), f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.Objects, p.Objects); diff != "" {
		t.Error(diff)
	}
	for _, v := range []any{p, f} {
		data, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "hunter2") || strings.Contains(string(data), "aGh1bnRlcjI") {
			t.Errorf("a secret is shown:\n%s", data)
		}
	}
}
