// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsComplete(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in   Options
		want string // part of the error
	}{
		"zero":          {},
		"upper case":    {in: Options{Name: "Host"}, want: "lower-case"},
		"leading dash":  {in: Options{Name: "-host"}, want: "lower-case"},
		"too long":      {in: Options{Name: strings.Repeat("a", 49)}, want: "at most 48"},
		"no release":    {in: Options{Release: "potato"}, want: "use one of [bookworm trixie sid]"},
		"no such net":   {in: Options{Docker: &Docker{Net: "vde"}}, want: "use one of [slirp4netns pasta]"},
		"no such port":  {in: Options{Docker: &Docker{PortDriver: "x"}}, want: "use one of [builtin slirp4netns implicit]"},
		"mismatch":      {in: Options{Docker: &Docker{Net: "pasta", PortDriver: "builtin"}}, want: "does not go with"},
		"mismatch too":  {in: Options{Docker: &Docker{PortDriver: "implicit"}}, want: "does not go with"},
		"old":           {in: Options{Release: Bookworm, Docker: &Docker{Net: "pasta"}}, want: "no network driver pasta"},
		"relative bind": {in: Options{Binds: []Bind{{Src: "/", Dst: "mnt"}}}, want: "must be absolute"},
		"missing bind":  {in: Options{Binds: []Bind{{Src: "/no/such", Dst: "/mnt"}}}, want: "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.in.complete("rk01020304")
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := tt.in; got.Name != "host-01020304" || got.Release != Trixie || got.BootTimeout != defaultBootTimeout || got.Progress == nil {
					t.Errorf("defaults: %+v", got)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestReleaseKey(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Releases {
		if key := r.key(); key != Release(string(r)).key() || !strings.HasPrefix(key, string(r)+"-") {
			t.Errorf("key of %s: %s, then %s", r, key, r.key())
		}
		seen[strings.TrimPrefix(r.key(), string(r))] = true
	}
	if len(seen) != len(Releases) {
		t.Errorf("%d different keys for %d releases", len(seen), len(Releases))
	}
	if slices.Contains(Bookworm.packages(), "docker-cli") || !slices.Contains(Sid.packages(), "docker-cli") {
		t.Error("docker-cli is a package of its own after bookworm")
	}
}

func TestNspawnArgs(t *testing.T) {
	t.Parallel()
	s := state{ID: "rk01020304", Name: "one", Bridge: "rkth0"}
	args := nspawnArgs("/base/hosts/rk01020304", s, Options{Binds: []Bind{{Src: `/a:b\c`, Dst: "/mnt"}}})
	for _, want := range []string{
		"--machine=rk01020304", "--hostname=one", "--network-bridge=rkth0", "--directory=/base/hosts/rk01020304/root",
		"--bind=/base/hosts/rk01020304/home:/home", `--bind-ro=/a\:b\\c:/mnt`,
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
	onOverlay := nspawnArgs("/base/hosts/rk01020304", s, Options{HomeOnOverlay: true})
	if slices.Contains(onOverlay, "--bind=/base/hosts/rk01020304/home:/home") {
		t.Error("/home is bound although it is to lie on overlayfs")
	}
}

func TestRunArgs(t *testing.T) {
	t.Parallel()
	user := Command{User: UserName, Script: `echo $HOME ${X} $$`, Env: []string{"A=b c"}}.runArgs("u.service")
	for _, want := range []string{"--pipe", "--property=PAMName=login", "--property=User=rk", "--setenv=A=b c", "--setenv=XDG_RUNTIME_DIR=/run/user/1000"} {
		if !slices.Contains(user, want) {
			t.Errorf("no %s in %q", want, user)
		}
	}
	if got, want := user[len(user)-1], `echo $$HOME $${X} $$$$`; got != want {
		t.Errorf("script %q, want %q", got, want)
	}
	root := Command{User: "root", Script: "id", TTY: true}.runArgs("u.service")
	if slices.Contains(root, "--property=PAMName=login") || slices.Contains(root, "--pipe") || !slices.Contains(root, "--pty") {
		t.Errorf("root on a terminal: %q", root)
	}
}

func TestParseNotify(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		message string
		leader  int
		ready   bool
	}{
		"leader":     {"STATUS=Container running.\nX_NSPAWN_LEADER_PID=4711", 4711, false},
		"ready":      {"READY=1\n", 0, true},
		"both":       {"X_NSPAWN_LEADER_PID=7\nREADY=1", 7, true},
		"not ready":  {"READY=0", 0, false},
		"other only": {"STOPPING=1\nXREADY=1", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leader, ready := parseNotify(tt.message)
			if leader != tt.leader || ready != tt.ready {
				t.Errorf("leader %d, ready %t; want %d, %t", leader, ready, tt.leader, tt.ready)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21"
	start, dead, err := parseStat("42 (a) b (c)) S" + rest)
	if start != 987654 || dead || err != nil {
		t.Errorf("running: %d %t %v", start, dead, err)
	}
	if _, dead, err = parseStat("42 (x) Z" + rest); !dead || err != nil {
		t.Errorf("zombie: %t %v", dead, err)
	}
	if _, _, err = parseStat("42 (x) S 1"); err == nil {
		t.Error("a short line is no error")
	}
}

func TestProcessAlive(t *testing.T) {
	t.Parallel()
	me, err := findProcess(os.Getpid())
	if err != nil || !me.alive() {
		t.Fatalf("this process: %+v alive %t, %v", me, me.alive(), err)
	}
	me.Start++ // another process with the same id
	if me.alive() || (process{}).alive() {
		t.Error("a process that is gone is alive")
	}
	if err := me.terminate(0); err != nil {
		t.Errorf("terminate a process that is gone: %v", err)
	}
}

func TestFreeSubnet(t *testing.T) {
	t.Parallel()
	routes := parseRoutes("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\n" +
		"tun0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FEFFFF\t0\n")
	want := []netip.Prefix{netip.MustParsePrefix("10.213.0.0/23")}
	if diff := cmp.Diff(want, routes, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatalf("routes (-want +got):\n%s", diff)
	}
	got, err := freeSubnet(append(routes, netip.MustParsePrefix("10.213.2.128/25")))
	if err != nil || got.String() != "10.213.3.0/24" {
		t.Errorf("free subnet %s, %v", got, err)
	}
	if _, err := freeSubnet([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("no error with all subnets in use")
	}
}

func TestFreeAddr(t *testing.T) {
	t.Parallel()
	gateway := netip.MustParseAddr("10.213.0.1")
	used := map[string]bool{}
	for range 253 {
		addr, err := freeAddr(gateway, used)
		if err != nil {
			t.Fatal(err)
		}
		used[addr] = true
	}
	if !used["10.213.0.2"] || !used["10.213.0.254"] {
		t.Error("the first or the last address was not given")
	}
	if addr, err := freeAddr(gateway, used); err == nil {
		t.Errorf("%s given in a full subnet", addr)
	}
}

func TestCheckUserNamespaces(t *testing.T) {
	t.Parallel()
	if err := checkUserNamespaces(fstest.MapFS{"user/max_user_namespaces": {Data: []byte("95000\n")}}); err != nil {
		t.Error(err)
	}
	err := checkUserNamespaces(fstest.MapFS{"kernel/apparmor_restrict_unprivileged_userns": {Data: []byte("1\n")}})
	if err == nil || !strings.Contains(err.Error(), "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0") {
		t.Errorf("error %v has no fix", err)
	}
}

func TestNeedTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := needTools("systemd-nspawn", "ip")
	if want := "not found: systemd-nspawn, ip: apt-get install systemd-container iproute2"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestPruneStrays(t *testing.T) {
	t.Parallel()
	b := &base{path: t.TempDir()}
	if err := os.MkdirAll(b.dir("rkstray"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.dir("rkliving"), 0o755); err != nil {
		t.Fatal(err)
	}
	me, err := findProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.save(state{ID: "rkliving", Name: "living", Owner: me}); err != nil {
		t.Fatal(err)
	}
	names, err := b.prune(t.Context())
	if err != nil || len(names) != 0 {
		t.Fatalf("pruned %q, %v", names, err)
	}
	left, err := filepath.Glob(filepath.Join(b.hosts(), "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "rkliving" {
		t.Errorf("left: %q, %v", left, err)
	}
	states, err := b.list()
	if err != nil || len(states) != 1 || states[0].status() != "starting" {
		t.Errorf("list: %+v, %v", states, err)
	}
}

func TestTestName(t *testing.T) {
	t.Parallel()
	for test, want := range map[string]string{
		"TestCluster":                      "cluster",
		"TestCluster/three nodes (1+2)":    "cluster-three-nodes-1-2",
		"Test_":                            "host",
		"Test" + strings.Repeat("a/", 100): strings.TrimSuffix(strings.Repeat("a-", 20), "-"),
	} {
		got := testName(test)
		if got != want || !validName.MatchString(got+"-ffff") {
			t.Errorf("%s: %q, want %q", test, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var log tail
	for range 1000 {
		if _, err := log.Write([]byte("a line\n")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = log.Write([]byte("the last"))
	got := log.String()
	if !strings.HasPrefix(got, "a line\n") || !strings.HasSuffix(got, "\nthe last") || len(got) > tailBytes {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
