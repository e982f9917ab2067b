// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// FuzzMergeKubeconfig: a file that kubectl reads is either refused, or it is
// read after the merge as it was before it, with the new cluster; and after
// the removal as it was before the merge, but for what the merge replaced.
func FuzzMergeKubeconfig(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "~", "{}", "[]", "a: &a b\nc: *a\n", users, string(entry("demo")), string(entry("fuzz")),
		"clusters: ~\nusers: []\ncontexts:\n", "contexts:\n- {}\n- name: \"\"\n- context: {}\n  name: a\ncurrent-context: a\n",
		"users:\n- &u {name: a, user: {token: x}}\n- *u\n", "users:\n- name: rk-fuzz\n  user: &u {token: x}\n- name: b\n  user: *u\n",
		"contexts: []\ncontexts:\n- {name: a, context: {cluster: b}}\n", "current-context: a\ncurrent-context: b\n",
		"x: &x {token: t}\nusers:\n- name: a\n  user: {<<: *x}\n", "users:\n- {name: a, user: {token: x}}\ncontexts:\n- {context: {}, <<: [{name: rk-fuzz}, {name: b}]}\n", "<<: {current-context: a}\n",
		"%YAML 1.1\n---\na: b\n...\n", "a: b\n---\nc: d\n", "{\"kind\": \"Config\", \"users\": []}",
		"\ufeffkind: Config\n", "kind: Config\r\ncurrent-context: x\r\n", "users:\n\t- name: a\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := newKubeconfigFile("", 0o600, data)
		if err != nil {
			return
		}
		before, err := clientcmd.Load(data)
		if err != nil {
			t.Fatalf("accepted, but kubectl would not read it: %v", err)
		}
		added, err := parseKubeconfig(entry("fuzz"))
		if err != nil {
			t.Fatal(err)
		}
		file.merge(added)
		merged := load(t, file)
		const name = "rk-fuzz"
		if c := merged.Contexts[name]; c == nil || c.Cluster != name || c.AuthInfo != name || merged.CurrentContext != name ||
			merged.Clusters[name] == nil || merged.AuthInfos[name] == nil || merged.AuthInfos[name].Token != "token-of-fuzz" {
			t.Errorf("the cluster is not there")
		}
		compare(t, "merged", before, merged, name)

		if !file.remove(name) {
			t.Fatal("the context is gone")
		}
		removed := load(t, file)
		if removed.Contexts[name] != nil {
			t.Error("the context is still there")
		}
		if c := before.CurrentContext; c != name && before.Contexts[c] != nil && removed.CurrentContext != c {
			t.Errorf("the current context is %q, was %q", removed.CurrentContext, c)
		}
		compare(t, "removed", before, removed, name)
	})
}

// load returns what kubectl reads in the file after it was written, and
// continues with that.
func load(t *testing.T, f *kubeconfigFile) *clientcmdapi.Config {
	t.Helper()
	out, err := f.encode()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.Load(out)
	if err != nil {
		t.Fatalf("kubectl does not read it: %v\n%s", err, out)
	}
	again, err := newKubeconfigFile("", 0o600, out)
	if err != nil {
		t.Fatalf("its own output is refused: %v\n%s", err, out)
	}
	*f = *again
	return c
}

// compare says what differs outside the entries of this name.
func compare(t *testing.T, when string, before, after *clientcmdapi.Config, name string) {
	t.Helper()
	before, after = before.DeepCopy(), after.DeepCopy()
	for _, c := range []*clientcmdapi.Config{before, after} {
		c.CurrentContext = ""
		delete(c.Clusters, name)
		delete(c.AuthInfos, name)
		delete(c.Contexts, name)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s (-before +after):\n%s", when, diff)
	}
}
