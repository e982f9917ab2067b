// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// record is everything of a create that others than the nodes and the owner
// of the kubeconfig may see, by where it was seen.
type record struct {
	mu   sync.Mutex
	seen map[string]string
}

func (r *record) add(where, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]string{}
	}
	r.seen[where] += fmt.Sprintf(format, args...) + "\n"
}

// Report implements step.Reporter.
func (r *record) Report(e step.Event) { r.add("progress", "%+v %v", e, e) }

// TestSecretsStayWhereTheyBelong: private keys are in files of mode 0600 of
// the nodes that need them and in the user's kubeconfig, and nowhere else:
// not in the plan that --dry-run prints, in containers' descriptions, in
// arguments of processes, in progress, in errors with the nodes' logs, nor in
// objects of the API.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"success": false, "failure": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &record{}
			f, kubeconfig := recordedCreate(t, r, fails)
			secrets := secretsOf(t, f, "demo-control-plane", "demo-worker")
			if !fails {
				checkKubeconfig(t, kubeconfig, secrets)
			}
			for _, where := range []string{"plan", "container demo-control-plane", "container demo-worker", "networks", "calls", "progress", "API"} {
				if r.seen[where] == "" {
					t.Errorf("nothing was seen in: %s", where)
				}
			}
			if log := r.seen["error"]; strings.Contains(log, "kubelet says no") != fails {
				t.Errorf("the error with its logs: %q", log)
			}
			for where, text := range r.seen {
				if s := found(text, secrets); s != "" {
					t.Errorf("%s: holds the secret %q", where, s)
				}
			}
		})
	}
}

// recordedCreate creates demo, with one worker; if it shall fail, its nodes are kept.
func recordedCreate(t *testing.T, r *record, fails bool) (f *enginetest.Fake, kubeconfig string) {
	t.Helper()
	f = enginetest.NewFake(testImage)
	f.ExecFunc = func(_ context.Context, _ engine.Container, p engine.Process) (int, error) {
		r.add("calls", "%q %v", p.Argv, p.Env)
		_, err := io.WriteString(p.Stdout, "kubelet says no\n")
		return 0, err
	}
	k := newKubeAPI(t, f, "demo", 1, "10.111.0.0/24")
	dryRun, err := yaml.Marshal(k.plan)
	if err != nil {
		t.Fatal(err)
	}
	r.add("plan", "%s", dryRun)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.add("API", "%s %s %v\n%s", req.Method, req.URL, req.Header, body)
		return false
	})
	var reporter step.Reporter = r
	if fails {
		reporter = reporters{r, cancelAt{"ready", cancel}}
	}
	kubeconfig = filepath.Join(t.TempDir(), "config")
	_, err = Create(ctx, f, k.plan, CreateOptions{Reporter: reporter, Wait: time.Minute, Kubeconfig: kubeconfig, Retain: true})
	if (err != nil) != fails {
		t.Fatalf("create: %v", err)
	}
	if err != nil {
		r.add("error", "%v\n%+v\n%v", err, err, problem.Logs(err))
		for e := err; e != nil; e = errors.Unwrap(e) {
			r.add("error", "%v", e)
		}
	}
	for _, c := range f.Calls() {
		r.add("calls", "%+v", c)
	}
	for _, n := range k.plan.Nodes {
		spec, ok := f.Spec(n.Name)
		if !ok {
			t.Fatalf("%s is not there", n.Name)
		}
		r.add("container "+n.Name, "%+v", spec)
	}
	networks, err := f.ListNetworks(t.Context(), map[string]string{plan.LabelCluster: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	r.add("networks", "%+v", networks)
	return f, kubeconfig
}

type reporters []step.Reporter

func (rs reporters) Report(e step.Event) {
	for _, r := range rs {
		r.Report(e)
	}
}

var keyDataRe = regexp.MustCompile(`(?m)^\s*client-key-data:\s*(\S+)`)

// secretsOf returns what would betray the keys in files of nodes, and checks
// these files' modes and that a worker has no keys but its own.
func secretsOf(t *testing.T, f *enginetest.Fake, nodes ...string) []string {
	t.Helper()
	var secrets []string
	for _, node := range nodes {
		files, err := f.Files(node)
		if err != nil {
			t.Fatal(err)
		}
		var holders []string
		for name, content := range files {
			s := secretsIn(t, content)
			if len(s) == 0 {
				if strings.HasSuffix(name, ".key") {
					t.Errorf("%s:%s holds no key", node, name)
				}
				continue
			}
			secrets = append(secrets, s...)
			holders = append(holders, name)
			header, _, err := f.File(node, name)
			if err != nil {
				t.Fatal(err)
			}
			if header.Mode != 0o600 || header.Uid != 0 || header.Gid != 0 {
				t.Errorf("%s:%s has mode %04o and owner %d:%d, want 0600 and root", node, name, header.Mode, header.Uid, header.Gid)
			}
		}
		slices.Sort(holders)
		if want := []string{"/etc/kubernetes/kubelet.conf", "/etc/rk/var/lib/kubelet/pki/kubelet.key"}; node == "demo-worker" && !slices.Equal(holders, want) {
			t.Errorf("%s has keys in %v, want %v", node, holders, want)
		}
		if node == "demo-control-plane" && len(holders) < 15 {
			t.Errorf("%s has keys only in %v", node, holders)
		}
	}
	return secrets
}

// secretsIn returns each whole line of each private key in a file, and what
// kubeconfigs hold of them.
func secretsIn(t *testing.T, content string) []string {
	t.Helper()
	var secrets []string
	for _, m := range keyDataRe.FindAllStringSubmatch(content, -1) {
		data, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, m[1])
		secrets = append(secrets, secretsIn(t, string(data))...)
	}
	for block, rest := pem.Decode([]byte(content)); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		const lineLength = 64 // RFC 7468
		for text := base64.StdEncoding.EncodeToString(block.Bytes); len(text) >= lineLength; text = text[lineLength:] {
			secrets = append(secrets, text[:lineLength])
		}
	}
	return secrets
}

// tokenRe is what a bootstrap token and a JSON web token look like.
var tokenRe = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b|\beyJ[A-Za-z0-9_-]{8,}\.`)

// found returns the first secret in text.
func found(text string, secrets []string) string {
	for _, s := range append(secrets, "PRIVATE KEY", "client-key-data") {
		if strings.Contains(text, s) {
			return s
		}
	}
	return tokenRe.FindString(text)
}

// checkKubeconfig also shows that what is searched for elsewhere would be found.
func checkKubeconfig(t *testing.T, path string, nodeSecrets []string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the kubeconfig has mode %v, want 0600", info.Mode())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := secretsIn(t, string(data))
	if len(own) < 3 || found(string(data), own) != own[0] {
		t.Errorf("%d secrets in the kubeconfig", len(own))
	}
	for _, s := range nodeSecrets {
		if strings.Contains(string(data), s) {
			t.Errorf("the kubeconfig holds a key of a node")
		}
	}
}
