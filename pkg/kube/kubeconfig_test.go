// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// entry is the kubeconfig of a cluster as rk makes it.
func entry(name string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: rk-%[1]s
  cluster:
    server: https://127.0.0.1:6443
users:
- name: rk-%[1]s
  user:
    token: token-of-%[1]s
contexts:
- name: rk-%[1]s
  context:
    cluster: rk-%[1]s
    user: rk-%[1]s
current-context: rk-%[1]s
`, name)
}

const users = `# my clusters
apiVersion: v1
kind: Config
preferences:
  colors: true
x-unknown: {keep: "me"}
current-context: work # the one I use
clusters:
- name: work
  cluster:
    server: https://work.example.com # behind the VPN
    x-unknown: 0777
users:
- name: me
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: login, interactiveMode: Never}}
contexts:
- context: {cluster: work, user: me, namespace: team}
  name: work
`

func newFile(t *testing.T, content string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func merge(t *testing.T, path, name string) {
	t.Helper()
	if err := MergeKubeconfig(t.Context(), path, entry(name)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path, name string) {
	t.Helper()
	if ok, err := RemoveKubeconfig(t.Context(), path, "rk-"+name); err != nil || !ok {
		t.Fatalf("got %v, %v", ok, err)
	}
}

func TestMergeIntoNothingAndRemove(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "home", ".kube")
	path := filepath.Join(dir, "config")
	merge(t, path, "demo")
	for p, mode := range map[string]fs.FileMode{path: 0o600, dir: 0o700 | fs.ModeDir} {
		if info, err := os.Stat(p); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v (%v)", p, info.Mode(), mode, err)
		}
	}
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := clientcmd.Load(entry("demo"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*clientcmdapi.Config{c, want} { // where it was read from is no part of it
		c.Clusters["rk-demo"].LocationOfOrigin, c.AuthInfos["rk-demo"].LocationOfOrigin, c.Contexts["rk-demo"].LocationOfOrigin = "", "", ""
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	remove(t, path, "demo")
	names, err := os.ReadDir(dir)
	if err != nil || len(names) > 0 {
		t.Errorf("left in the folder: %v, %v", names, err)
	}
}

func TestMergeAndRemoveKeepEverythingElse(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o640)
	merge(t, path, "demo")
	merged := read(t, path)
	for _, want := range []string{
		"# my clusters", "# behind the VPN", "x-unknown: 0777", `x-unknown: {keep: "me"}`, "colors: true", "current-context: rk-demo",
		"- context: {cluster: work, user: me, namespace: team}",
	} {
		if !strings.Contains(merged, want) {
			t.Errorf("%q is lost:\n%s", want, merged)
		}
	}
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.CurrentContext != "rk-demo" || c.Contexts["work"].Namespace != "team" || c.AuthInfos["me"].Exec.Command != "login" || c.AuthInfos["rk-demo"].Token != "token-of-demo" {
		t.Errorf("got %+v", c)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode is %v (%v)", info.Mode(), err)
	}

	merge(t, path, "demo") // again: nothing changes, and the context to go back to is still known
	if diff := cmp.Diff(merged, read(t, path)); diff != "" {
		t.Errorf("second merge (-want +got):\n%s", diff)
	}
	remove(t, path, "demo")
	if diff := cmp.Diff(strings.Replace(users, " # the one I use", "", 1), read(t, path)); diff != "" {
		t.Errorf("after merge and remove (-want +got):\n%s", diff)
	}
}

func TestRemoveRestoresCurrentContext(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		remove []string
		want   string
	}{
		{"last first", []string{"b", "a"}, "work"},
		{"first first", []string{"a", "b"}, "work"}, // b comes after what was before a
		{"not the current one", []string{"a"}, "rk-b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t, users, 0o600)
			merge(t, path, "a")
			merge(t, path, "b")
			for _, name := range tc.remove {
				remove(t, path, name)
			}
			c, err := clientcmd.LoadFromFile(path)
			if err != nil || c.CurrentContext != tc.want {
				t.Errorf("current context is %q, want %q (%v)", c.CurrentContext, tc.want, err)
			}
		})
	}
}

// TestRemoveInACircle: each of two contexts was current before the other, so
// that nothing says any more what was before both.
func TestRemoveInACircle(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	for _, name := range []string{"a", "b", "a"} {
		merge(t, path, name)
	}
	remove(t, path, "b")
	remove(t, path, "a")
	c, err := clientcmd.LoadFromFile(path)
	if err != nil || c.CurrentContext != "" || c.Contexts["work"] == nil {
		t.Errorf("current context is %q (%v)", c.CurrentContext, err)
	}
}

func TestRemoveKeepsSharedClusterAndUser(t *testing.T) {
	t.Parallel()
	path := newFile(t, string(entry("demo")), 0o600)
	text := strings.Replace(read(t, path), "contexts:\n", "contexts:\n- name: mine\n  context: {cluster: rk-demo, user: other}\n", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	remove(t, path, "demo")
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Clusters["rk-demo"] == nil || c.AuthInfos["rk-demo"] != nil || c.Contexts["mine"] == nil || c.CurrentContext != "" {
		t.Errorf("got %+v", c)
	}
}

func TestRemoveOfNothing(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none", "config")
	for _, path := range []string{missing, newFile(t, users, 0o600)} {
		if ok, err := RemoveKubeconfig(t.Context(), path, "rk-demo"); ok || err != nil {
			t.Errorf("%s: got %v, %v", path, ok, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(missing)); err == nil {
		t.Error("a folder was made")
	}
}

func TestRemoveKeepsAFileWithComments(t *testing.T) {
	t.Parallel()
	path := newFile(t, "# keep me\napiVersion: v1\nkind: Config\n", 0o600)
	merge(t, path, "demo")
	remove(t, path, "demo")
	if got := read(t, path); !strings.HasPrefix(got, "# keep me\n") {
		t.Errorf("got %q", got)
	}
}

func TestMergeFormsOfEmpty(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "\n", "null\n", "{}\n", "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: null\nusers:\n", `{"kind":"Config","apiVersion":"v1","clusters":[]}`} {
		path := newFile(t, in, 0o600)
		merge(t, path, "demo")
		c, err := clientcmd.LoadFromFile(path)
		if err != nil || c.CurrentContext != "rk-demo" || c.Contexts["rk-demo"] == nil || c.Clusters["rk-demo"] == nil || c.AuthInfos["rk-demo"] == nil {
			t.Errorf("%q became %q (%v)", in, read(t, path), err)
		}
	}
}

func TestMergeThroughSymbolicLinks(t *testing.T) {
	t.Parallel()
	for _, content := range []string{users, ""} {
		dir := t.TempDir()
		link, target := filepath.Join(dir, "config"), filepath.Join(dir, "elsewhere", "real")
		if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("elsewhere/real", link); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		merge(t, link, "demo")
		if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link was replaced: %v", err)
		}
		if !strings.Contains(read(t, target), "rk-demo") {
			t.Error("the target was not written")
		}
		remove(t, link, "demo")
		if strings.Contains(read(t, target), "rk-demo") {
			t.Error("the target was not written")
		}
		for _, lock := range []string{link + ".lock", target + ".lock"} {
			if _, err := os.Lstat(lock); err == nil {
				t.Errorf("%s is left", lock)
			}
		}
	}
}

func TestBrokenKubeconfigIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"a: [\n", "- list\n", "clusters: text\n", "kind: Pod\napiVersion: v1\n", users + "---\n" + users} {
		path := newFile(t, in, 0o600)
		err := MergeKubeconfig(t.Context(), path, entry("demo"))
		if !errors.Is(err, problem.KubeconfigUnreadable) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v", in, err)
		}
		if _, err := RemoveKubeconfig(t.Context(), path, "rk-demo"); !errors.Is(err, problem.KubeconfigUnreadable) {
			t.Errorf("%q: got %v", in, err)
		}
		if read(t, path) != in {
			t.Errorf("%q was changed to %q", in, read(t, path))
		}
	}
}

func TestUnwritableFolder(t *testing.T) {
	t.Parallel()
	path := newFile(t, "not a folder", 0o600)
	err := MergeKubeconfig(t.Context(), filepath.Join(path, "config"), entry("demo"))
	if !errors.Is(err, problem.KubeconfigUnwritable) {
		t.Errorf("got %v", err)
	}
}

// kubectl's own writer and rk's see each other's lock.
func TestLockIsKubectls(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	release, err := lockFile(t.Context(), path, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	set := func() error {
		c, err := rules.Load()
		if err != nil {
			return err
		}
		c.CurrentContext = ""
		return clientcmd.ModifyConfig(rules, *c, false)
	}
	if err := set(); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("kubectl's writer does not see the lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := set(); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

func TestForeignLockIsRespectedThenReported(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	lock := path + ".lock"
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // no real time passes
		start := time.Now()
		_, err := lockFile(t.Context(), path, lockPatience)
		p, ok := problem.Of(err)
		if !ok || p.Code != problem.KubeconfigLocked.Code || !strings.Contains(p.Advice, "rm "+lock) || !strings.Contains(err.Error(), lock+" exists since ") {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited < lockPatience {
			t.Errorf("gave up after %v", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = lockFile(ctx, path, lockPatience)
		if !errors.Is(err, problem.KubeconfigLocked) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = os.Remove(lock) })
		release, err := lockFile(t.Context(), path, lockPatience)
		if err != nil {
			t.Fatalf("the lock is gone, but: %v", err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	})
}

func TestLockOfACrashedRkIsTakenOver(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	lock := path + ".lock"
	if err := os.WriteFile(lock, []byte(lockMarker+"1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	release, err := lockFile(t.Context(), path, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, lock); got != fmt.Sprintf("%s%d\n", lockMarker, os.Getpid()) {
		t.Errorf("lock holds %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*retryInterval)
	defer cancel()
	if _, err := lockFile(ctx, path, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two owners: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

const helperEnv = "RK_TEST_KUBECONFIG_WRITER"

// TestMain lets the test binary be a second process: one that merges and removes, or one that is killed with the lock.
func TestMain(m *testing.M) {
	mode, path, ok := strings.Cut(os.Getenv(helperEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	if mode == "crash" {
		if _, err := lockFile(context.Background(), path, time.Hour); err != nil {
			os.Exit(1)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	for i := range 20 {
		name := fmt.Sprintf("%s-%d", mode, i)
		if err := MergeKubeconfig(context.Background(), path, entry(name)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if i%2 == 1 {
			if _, err := RemoveKubeconfig(context.Background(), path, "rk-"+name); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

func helper(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), helperEnv+"="+mode+":"+path)
	return cmd
}

func TestKilledOwner(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	if err := helper(t, "crash", path).Run(); err == nil {
		t.Fatal("the owner was not killed")
	}
	if !strings.HasPrefix(read(t, path+".lock"), lockMarker) {
		t.Fatal("the killed owner left no lock")
	}
	merge(t, path, "demo")
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	path := newFile(t, users, 0o600)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := MergeKubeconfig(t.Context(), path, entry(fmt.Sprintf("go-%d", i))); err != nil {
				t.Error(err)
			}
			if i%2 == 1 {
				if ok, err := RemoveKubeconfig(t.Context(), path, fmt.Sprintf("rk-go-%d", i)); err != nil || !ok {
					t.Error(ok, err)
				}
			}
		})
	}
	for _, mode := range []string{"p", "q"} {
		wg.Go(func() {
			if out, err := helper(t, mode, path).CombinedOutput(); err != nil {
				t.Errorf("process %s: %v\n%s", mode, err, out)
			}
		})
	}
	wg.Wait()
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Contexts) != 31 || len(c.Clusters) != 31 || len(c.AuthInfos) != 31 || c.Contexts["work"] == nil {
		t.Errorf("%d contexts, %d clusters, %d users, want 31 of each", len(c.Contexts), len(c.Clusters), len(c.AuthInfos))
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("left in the folder: %v, %v", names, err)
	}
}

func TestResolvePath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	there, a, b := newFile(t, "", 0o600), filepath.Join(dir, "a"), filepath.Join(dir, "b")
	home := filepath.Join(dir, ".kube", "config")
	for _, tc := range []struct {
		name, explicit, env, want string
		all                       []string
	}{
		{"explicit", a, there, a, []string{a}},
		{"nothing set", "", "", home, []string{home}},
		{"only separators", "", "::", home, []string{home}},
		{"one", "", a, a, []string{a}},
		{"first that exists", "", a + ":" + there + ":" + b, there, []string{a, there, b}},
		{"last if none exists", "", a + "::" + b + ":" + b, b, []string{a, b}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := ResolvePath(tc.explicit, tc.env, dir); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if diff := cmp.Diff(tc.all, KubeconfigPaths(tc.explicit, tc.env, dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRewriteKubeconfig(t *testing.T) {
	t.Parallel()
	out, err := RewriteKubeconfig([]byte(users), "rk-demo", "https://127.0.0.1:1234")
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Contexts) != 1 || c.CurrentContext != "rk-demo" || c.Clusters["rk-demo"].Server != "https://127.0.0.1:1234" || c.AuthInfos["rk-demo"].Exec == nil {
		t.Errorf("got %s", out)
	}
	for _, in := range []string{"a: [", "", "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]"} {
		if out, err := RewriteKubeconfig([]byte(in), "n", "s"); err == nil {
			t.Errorf("%q: got %s", in, out)
		}
	}
}
