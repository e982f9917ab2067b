// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const (
	hush    = "hush-hush"
	testKey = "-----BEGIN EC PRIVATE KEY-----\n" + hush + "\n-----END EC PRIVATE KEY-----\n"
)

// nodeWords is what programs in nodes print: each has something to hide.
func nodeWords(_ context.Context, c engine.Container, p engine.Process) (int, error) {
	command := strings.Join(p.Argv, " ")
	var out string
	switch {
	case strings.Contains(command, "--unit=kubelet"):
		out = "kubelet: bootstrap token abcdef.0123456789abcdef, Authorization: Bearer " + hush + "\n"
	case strings.Contains(command, "journalctl"):
		out = c.Name + " systemd[1]: Started.\n" + testKey
	case strings.Contains(command, "ps axfww"):
		out = "1 kubeadm join --token " + hush + " --certificate-key " + hush + "\n"
	case strings.Contains(command, "get pods"):
		out = "env:\n- name: DB_PASSWORD\n  value: " + hush + "\n- name: HTTPS_PROXY\n  value: http://ann:" + hush + "@proxy.test\n"
	case strings.Contains(command, "kubectl"):
		out = "client-key-data: " + base64.StdEncoding.EncodeToString([]byte(testKey)) + "\n"
	default:
		out = "as usual\n"
	}
	_, err := fmt.Fprint(p.Stdout, out)
	return 0, err
}

// exportable is a cluster of two nodes with secrets in every place.
func exportable(t *testing.T) *enginetest.Fake {
	t.Helper()
	f := enginetest.NewFake(testImage)
	f.ExecFunc = nodeWords
	p := testPlan(t, "demo", 1)
	for i := range p.Nodes {
		p.Nodes[i].Container.Env = map[string]string{"DB_PASSWORD": hush, "HTTP_PROXY": "http://ann:" + hush + "@proxy.test:3128"}
	}
	runningCluster(t, f, p)
	for _, n := range p.Nodes {
		kubeconfig := "users:\n- user:\n    client-key-data: " + base64.StdEncoding.EncodeToString([]byte(testKey)) + "\n    token: " + hush + "\n"
		err := node.New(f, n.Name).WriteFiles(t.Context(), []node.File{
			{Path: "/etc/kubernetes/admin.conf", Mode: 0o600, Data: []byte(kubeconfig)},
			{Path: "/etc/kubernetes/pki/ca.key", Mode: 0o600, Data: []byte(testKey)},
			{Path: "/etc/kubernetes/pki/ca.crt", Mode: 0o644, Data: []byte("a certificate\n")},
			{Path: "/etc/rk/node.env", Mode: 0o644, Data: []byte("RK_CGROUP_MODE=none\n")},
		}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// files are all files below a folder with their content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExportHasNoSecrets(t *testing.T) {
	t.Parallel()
	f := exportable(t)
	dir := filepath.Join(t.TempDir(), "logs")
	got, err := ExportLogs(t.Context(), f, "demo", ExportOptions{Dir: dir, Files: map[string][]byte{"rk.json": []byte(`{"token":"` + hush + `"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	all := files(t, dir)
	if len(all) != got.Files {
		t.Errorf("%d files are there, %d were told of", len(all), got.Files)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(testKey))
	redacted := 0
	for name, text := range all {
		for _, secret := range []string{hush, encoded, "abcdef.0123456789abcdef", "PRIVATE KEY"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %q:\n%s", name, secret, text)
			}
		}
		redacted += strings.Count(text, "REDACTED")
	}
	if redacted < 20 {
		t.Errorf("only %d secrets were removed: are the others in files at all?", redacted)
	}
	for name, want := range map[string]string{
		"cluster.json": `"name": "demo"`, "engine.json": `"podman"`, "rk.json": "{", "demo-worker/rk/node.env": "RK_CGROUP_MODE=none",
		"demo-worker/inspect.json": "SEEN", "demo-control-plane/journal.log": "Started.", "demo-control-plane/kubernetes/pki/ca.crt": "a certificate",
		"demo-worker/kubernetes/admin.conf": "users:", "api/pods.yaml": "DB_PASSWORD", "api/nodes.yaml": "client-key-data: REDACTED",
	} {
		if want == "SEEN" {
			want = "HTTP_PROXY"
		}
		if !strings.Contains(all[name], want) {
			t.Errorf("%s: %q", name, all[name])
		}
	}
	if _, ok := all["demo-control-plane/kubernetes/pki/ca.key"]; ok {
		t.Error("the CA's key was copied")
	}
	// The pods' logs are in a volume that is empty here.
	if !slices.ContainsFunc(got.Missing, func(m Missing) bool { return m.What == "demo-worker/pods" }) || !strings.Contains(all["missing.txt"], "demo-worker/pods: ") {
		t.Errorf("missing: %v", got.Missing)
	}
}

// TestExportOfTheHalfDead: what can be had is, and the rest is said.
func TestExportOfTheHalfDead(t *testing.T) {
	t.Parallel()
	f := exportable(t)
	if err := f.StopContainer(t.Context(), "demo-control-plane", 0); err != nil {
		t.Fatal(err)
	}
	f.Fail("Exec", "demo-worker", errors.New("the OCI runtime is unwell, token: "+hush))
	f.Fail("Info", "", errors.New("no info"))
	dir := t.TempDir()
	got, err := ExportLogs(t.Context(), f, "demo", ExportOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	all := files(t, dir)
	for _, name := range []string{"demo-control-plane/inspect.json", "demo-control-plane/kubernetes/admin.conf", "demo-worker/kubernetes/admin.conf", "cluster.json"} {
		if all[name] == "" {
			t.Errorf("%s is not there", name)
		}
	}
	for _, what := range []string{"api: no control plane runs", "engine.json: no info", "demo-control-plane/journal.log", "demo-worker/kubelet.log: "} {
		if !strings.Contains(all["missing.txt"], what) {
			t.Errorf("missing.txt lacks %q:\n%s", what, all["missing.txt"])
		}
	}
	if strings.Contains(all["missing.txt"], hush) || len(got.Missing) == 0 {
		t.Error(all["missing.txt"])
	}
}

func TestExportErrors(t *testing.T) {
	t.Parallel()
	f := exportable(t)
	if _, err := ExportLogs(t.Context(), f, "other", ExportOptions{Dir: t.TempDir()}); !errors.Is(err, problem.ClusterNotFound) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ExportLogs(t.Context(), f, "demo", ExportOptions{Dir: filepath.Join(file, "dir")}); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.Before(func(_ context.Context, c enginetest.Call) error {
		if c.Op == "Exec" {
			cancel()
		}
		return nil
	})
	if _, err := ExportLogs(ctx, f, "demo", ExportOptions{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
