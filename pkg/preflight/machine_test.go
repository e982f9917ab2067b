// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// unpack makes the tree of a host in a folder.
func unpack(t testing.TB, name string) string {
	t.Helper()
	root := t.TempDir()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "hosts", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		put(t, root, f.Name, string(f.Data))
	}
	modes, err := os.ReadFile(filepath.Join(root, "modes"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(modes)) {
		mode, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Chmod(filepath.Join(root, path), uint32(bits)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func put(t testing.TB, root, path, data string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// trixie is the host of testdata/hosts/trixie.txtar with a session bus that answers.
func trixie(t testing.TB) (Machine, string) {
	t.Helper()
	root := unpack(t, "trixie")
	bus, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(root, "run/user/1000/bus"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "PATH": "/usr/bin", "HOME": "/home/rk"}
	return Machine{
		Root: root, Env: func(k string) string { return env[k] }, User: User{Name: "ann", UID: 1000, GID: 1000}, RootUID: os.Getuid(),
		Probe: func(_ context.Context, overlay string) (Probe, error) {
			p := Probe{BridgeNetfilter: true, Sysctls: map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.rp_filter": "1"}}
			if overlay != "" {
				p.Overlay = "invalid argument"
			}
			return p, nil
		},
	}, root
}

func TestHostFacts(t *testing.T) {
	t.Parallel()
	m, _ := trixie(t)
	w := Wanted{Cgroups: "auto"}
	got := m.Host(t.Context(), w)
	all := []string{"cpuset", "cpu", "io", "memory", "pids"}
	sysctls := map[string]Fact[string]{}
	for name, v := range map[string]string{
		"user.max_user_namespaces": "63000", "fs.inotify.max_user_instances": "1024", "fs.inotify.max_user_watches": "524288",
		"kernel.keys.maxkeys": "20000", "kernel.keys.maxbytes": "500000", "kernel.dmesg_restrict": "0", "vm.max_map_count": "1048576",
		"vm.overcommit_memory": "0", "net.netfilter.nf_conntrack_max": "262144", "net.ipv4.ip_unprivileged_port_start": "1024",
		"net.ipv4.ping_group_range": "0\t2147483647",
	} {
		sysctls[name] = known(v)
	}
	probe, err := m.Probe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := Facts{
		Wanted: w, OS: OS{ID: "debian", Name: "Debian GNU/Linux 13 (trixie)"}, User: m.User,
		RuntimeDir: known(Dir{Path: "/run/user/1000", Exists: true, UID: os.Getuid()}), Bus: known(""), BusUnit: known(true), Systemd: known(257), Linger: known(true),
		Hierarchy: known("unified"), HostControllers: known([]string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}), Controllers: known(all),
		SubUIDs:   known(SubIDs{Count: 65536, Taken: []Range{{100000, 65536}, {165536, 65536}}}),
		SubGIDs:   known(SubIDs{Count: 66536, Taken: []Range{{100000, 65536}, {231072, 1000}}}),
		NewUIDMap: known(Program{Path: "/usr/bin/newuidmap", Rooted: true, Setuid: true}), NewGIDMap: known(Program{Path: "/usr/bin/newgidmap", Rooted: true, Setuid: true}),
		UserNS: known(""), Kernel: known("6.12.43+deb13-amd64"), Sysctls: sysctls, Tun: known(""), Fuse: known(""), Probe: known(probe),
		Files: known(uint64(524288)), Tasks: known(uint64(31000)), Memory: known(uint64(6442450944)),
		Routes: []Route{{netip.MustParsePrefix("192.0.2.0/24"), "a route through lo"}},
		Programs: map[string]Fact[string]{
			"netavark": known("/usr/lib/podman/netavark"), "pasta": known("/usr/bin/pasta"), "slirp4netns": known("/usr/bin/slirp4netns"), "podman": known("/usr/bin/podman"),
		},
		SELinux: known("disabled"),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a check says after a change of the tree.
func TestHostChanges(t *testing.T) {
	t.Parallel()
	remove := func(path string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			t.Helper()
			if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(path, data string) func(*testing.T, string) {
		return func(t *testing.T, root string) { t.Helper(); put(t, root, path, data) }
	}
	chmod := func(path string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			t.Helper()
			if err := os.Chmod(filepath.Join(root, path), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	cgroup := "sys/fs/cgroup/"
	for name, c := range map[string]struct {
		change func(*testing.T, string)
		code   *problem.Problem
		status Status
		found  string // a part of it
	}{
		"no runtime directory": {remove("run/user/1000"), problem.NoUserSession, Failed, "/run/user/1000 does not exist"},
		"no bus":               {remove("run/user/1000/bus"), problem.NoUserBus, Failed, "no such file or directory"},
		"another init":         {remove("run/systemd/system"), problem.SystemdTooOld, Failed, "not booted with systemd"},
		"systemd of Fedora": {func(t *testing.T, root string) {
			remove("usr/lib/x86_64-linux-gnu")(t, root)
			put(t, root, "usr/lib/systemd/libsystemd-shared-243-2.fc31.so", "")
		}, problem.SystemdTooOld, Failed, "systemd 243"},
		"systemd's version hidden": {remove("usr/lib/x86_64-linux-gnu"), problem.SystemdTooOld, Unknown, "libsystemd-shared"},
		"no lingering":             {remove("var/lib/systemd/linger/ann"), problem.NoLinger, Failed, "off for ann"},
		"hybrid": {func(t *testing.T, root string) {
			remove("sys/fs/cgroup")(t, root)
			put(t, root, cgroup+"unified/cgroup.controllers", "")
		}, problem.CgroupV1, Failed, "hybrid"},
		"legacy": {func(t *testing.T, root string) {
			remove("sys/fs/cgroup")(t, root)
			put(t, root, cgroup+"memory/tasks", "")
		}, problem.CgroupV1, Failed, "legacy"},
		"no cgroups":       {remove("sys/fs/cgroup"), problem.CgroupV1, Unknown, "nothing is mounted"},
		"little delegated": {replace(cgroup+"user.slice/user-1000.slice/user@1000.service/cgroup.controllers", "memory pids\n"), problem.CgroupsPartial, Failed, "cpuset, io not delegated"},
		"no user service": {func(t *testing.T, root string) {
			remove(cgroup+"user.slice")(t, root)
			replace("proc/self/cgroup", "1:name=systemd:/\n0::/ci\n")(t, root)
			put(t, root, cgroup+"ci/cgroup.controllers", "memory pids")
		}, problem.CgroupsPartial, Failed, "cpuset, io not delegated"},
		"no sub-ids":             {remove("etc/subuid"), problem.NoSubIDs, Failed, "0 subordinate user ids"},
		"sub-ids from a service": {replace("etc/nsswitch.conf", "subid: sss\n"), problem.NoSubIDs, Unknown, "subordinate ids from sss"},
		"sub-ids from files":     {replace("etc/nsswitch.conf", "subid: files\n"), problem.NoSubIDs, OK, "65536 user ids"},
		"no setuid":              {chmod("usr/bin/newuidmap", 0o755), problem.NoIDMapTools, Failed, "/usr/bin/newuidmap: neither setuid"},
		"no newgidmap":           {remove("usr/bin/newgidmap"), problem.NoIDMapTools, Failed, "newgidmap is not installed"},
		"no user namespaces":     {replace("proc/sys/user/max_user_namespaces", "0\n"), problem.UserNSDisabled, Failed, "is 0"},
		"no tun":                 {remove("dev/net"), problem.NoTun, Failed, "/dev/net/tun: no such file or directory"},
		"no conntrack":           {remove("proc/sys/net/netfilter"), problem.FewConnections, Unknown, "was not read"},
		"little memory":          {replace(cgroup+"user.slice/memory.max", "1073741824\n"), problem.LittleMemory, Failed, "1.0 GiB"},
		"memory not said":        {replace("proc/meminfo", "MemTotal: 1 kB\n"), problem.LittleMemory, Unknown, "does not say"},
		"no meminfo":             {remove("proc/meminfo"), problem.LittleMemory, Unknown, "/proc/meminfo: no such file or directory"},
		"few tasks":              {replace(cgroup+"user.slice/user-1000.slice/pids.max", "512\n"), problem.FewTasks, Failed, "at most 512"},
		"no limits":              {replace("proc/self/limits", "Limit\n"), problem.FewFiles, Unknown, `no line "Max open files"`},
		"no limits file":         {remove("proc/self/limits"), problem.FewTasks, Unknown, "/proc/self/limits: no such"},
		"a VPN": {replace("proc/net/route", "header\ntun0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"),
			problem.SubnetRouted, Failed, "podSubnet 10.244.0.0/16 overlaps 10.244.0.0/16 of a route through tun0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, root := trixie(t)
			c.change(t, root)
			x, ok := of(Evaluate(m.Host(t.Context(), healthy().Wanted)), c.code.Code)
			if !ok || x.Status != c.status || !strings.Contains(x.Found, c.found) {
				t.Errorf("%s is %q: %q, want %q: %q", c.code.Code, x.Status, x.Found, c.status, c.found)
			}
			if strings.Contains(x.Found, root) {
				t.Errorf("%s names a file of the test: %q", c.code.Code, x.Found)
			}
		})
	}
}

func TestFirewall(t *testing.T) {
	t.Parallel()
	m, root := trixie(t)
	steps := []struct{ file, text, want string }{
		{"proc/42/comm", "systemd\n", ""}, {"proc/43/comm", "firewalld\n", "firewalld"}, {"etc/ufw/ufw.conf", "ENABLED=yes\n", "ufw"},
	}
	for _, s := range steps {
		put(t, root, s.file, s.text)
		if got := m.firewall(); !got.Known || got.Value != s.want {
			t.Errorf("%s: got %+v, want %q", s.file, got, s.want)
		}
	}
	if got := (Machine{Root: t.TempDir()}).firewall(); got.Known {
		t.Errorf("without /proc: %+v", got)
	}
}

func TestEngineFacts(t *testing.T) {
	t.Parallel()
	m, root := trixie(t)
	entered := ""
	m.Enter = func(_ context.Context, pid int, netns string, names []string) (map[string]string, error) {
		entered = fmt.Sprintf("%d %s %d", pid, strings.TrimPrefix(netns, root), len(names))
		return map[string]string{"net.ipv4.ip_forward": "1"}, nil
	}
	eng := enginetest.NewFake()
	f := m.Engine(t.Context(), m.Host(t.Context(), Wanted{}), eng, nil)
	if f.EngineNetns != freshNetns || f.EngineSysctls["net.ipv4.conf.all.rp_filter"].Value != "1" || entered != "" {
		t.Errorf("no network namespace of the engine: %s %v", f.EngineNetns, f.EngineSysctls)
	}
	if diff := cmp.Diff(known(eng.Engine), f.Engine); diff != "" {
		t.Errorf("engine (-want +got):\n%s", diff)
	}
	if want := []Route{{netip.MustParsePrefix("10.88.0.0/16"), "the engine's network podman"}}; !slices.Equal(want, f.Networks) {
		t.Errorf("networks are %v", f.Networks)
	}
	if s := f.Storage; !s.Known || s.Value.FS != "xfs" || s.Value.Free == 0 || s.Value.Path != eng.Engine.GraphRoot {
		t.Errorf("storage is %+v", s)
	}
	if f.Overlay != known("invalid argument") {
		t.Errorf("overlay is %+v", f.Overlay)
	}
	if left, err := filepath.Glob(filepath.Join(root, "home/rk/.rk-probe-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}

	put(t, root, "run/user/1000/libpod/tmp/pause.pid", "77")
	put(t, root, "proc/77/root/run/user/1000/containers/networks/rootless-netns/rootless-netns", "")
	put(t, root, "proc/77/root/home/rk/.local/share/x", "")
	put(t, root, "proc/77/mountinfo", "29 1 254:1 / / rw - btrfs /dev/vda1 rw\n")
	f = m.Engine(t.Context(), f, eng, nil)
	if f.Storage.Value.FS != "btrfs" {
		t.Errorf("storage in the engine's view: %+v", f.Storage)
	}
	if want := "77 /proc/77/root/run/user/1000/containers/networks/rootless-netns/rootless-netns 3"; entered != want {
		t.Errorf("entered %q, want %q", entered, want)
	}
	if f.EngineNetns != engineNetns || f.EngineSysctls["net.ipv4.ip_forward"] != known("1") || f.EngineSysctls["net.ipv4.conf.all.rp_filter"].Known {
		t.Errorf("network namespace of the engine: %s %v", f.EngineNetns, f.EngineSysctls)
	}
	m.Enter = func(context.Context, int, string, []string) (map[string]string, error) {
		return nil, errors.New("no nsenter")
	}
	if f = m.Engine(t.Context(), f, eng, nil); !strings.Contains(f.EngineSysctls["net.ipv4.ip_forward"].Why, "no nsenter") {
		t.Errorf("cannot enter: %v", f.EngineSysctls)
	}
	f.Wanted.Quick, f.EngineNetns, entered = true, "", ""
	if f = m.Engine(t.Context(), f, eng, nil); f.EngineNetns != "" || f.Overlay.Known {
		t.Errorf("quick: %+v", f)
	}
}

func TestNetnsOfDocker(t *testing.T) {
	t.Parallel()
	m, root := trixie(t)
	if pid, path := m.engineNetns("docker"); pid != 0 || path != "" {
		t.Errorf("not running: %d %s", pid, path)
	}
	put(t, root, "run/user/1000/dockerd-rootless/child_pid", "78\n")
	if pid := m.enginePID("docker"); pid != 0 {
		t.Errorf("left by one that has ended: %d", pid)
	}
	put(t, root, "proc/78/comm", "exe")
	if pid, path := m.engineNetns("docker"); pid != 78 || path != filepath.Join(root, "proc/78/ns/net") {
		t.Errorf("its child's: %d %s", pid, path)
	}
	put(t, root, "proc/78/root/run/user/1000/dockerd-rootless/netns", "")
	if _, path := m.engineNetns("docker"); !strings.HasSuffix(path, "/dockerd-rootless/netns") {
		t.Errorf("detached: %s", path)
	}
	if pid := m.enginePID("other"); pid != 0 {
		t.Errorf("other: %d", pid)
	}
}

func TestNoEngineFacts(t *testing.T) {
	t.Parallel()
	m, _ := trixie(t)
	host := m.Host(t.Context(), healthy().Wanted)
	gone := problem.NoEngine.Wrap(errors.New("nothing listens"))
	unwell := enginetest.NewFake()
	unwell.Fail("Info", "", fmt.Errorf("%w: reset", engine.ErrUnreachable))
	for name, f := range map[string]Facts{"RK201": m.Engine(t.Context(), host, nil, gone), "RK202": m.Engine(t.Context(), host, unwell, nil)} {
		x, ok := of(Evaluate(f), name)
		if !ok || x.Status != Failed {
			t.Errorf("%s: %+v", name, x)
		}
		if f.Engine.Known || f.Storage.Known || f.Overlay.Known || f.EngineSysctls["net.ipv4.ip_forward"] != known("0") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestDockerFacts(t *testing.T) {
	t.Parallel()
	m, root := trixie(t)
	for _, c := range []struct {
		text string
		want Fact[bool]
	}{{`{"init": true}`, known(true)}, {`{}`, known(false)}, {`{`, unknown[bool]("/home/rk/.config/docker/daemon.json: unexpected end of JSON input")}} {
		put(t, root, "home/rk/.config/docker/daemon.json", c.text)
		if got := m.dockerInit(); got != c.want {
			t.Errorf("%s: got %+v", c.text, got)
		}
	}
	put(t, root, "run/user/1000/containerd-rootless/child_pid", "1")
	if f := m.Engine(t.Context(), m.Host(t.Context(), Wanted{}), enginetest.NewFake(), nil); f.ContainerdRun != known(true) {
		t.Errorf("containerd: %+v", f.ContainerdRun)
	}
}

func TestProgramElsewhere(t *testing.T) {
	t.Parallel()
	m, root := trixie(t)
	if err := os.Remove(filepath.Join(root, "usr/bin/pasta")); err != nil {
		t.Fatal(err)
	}
	if got := m.program("pasta"); got != known("") {
		t.Errorf("got %+v", got)
	}
	put(t, root, "home/rk/.config/containers/containers.conf", "[engine]\nhelper_binaries_dir = [\"/opt/x\"]\n")
	if got := m.program("pasta"); got.Known {
		t.Errorf("containers.conf names another place: %+v", got)
	}
}

func TestFilesystem(t *testing.T) {
	t.Parallel()
	m, _ := trixie(t)
	for path, want := range map[string]string{"/": "ext4", "/homework": "ext4", "/home": "xfs", "/home/rk/x": "xfs", "/home/rk/with space/x": "nfs4", "/run/x": "tmpfs"} {
		if got := m.filesystem("/proc/self/mountinfo", path); got != want {
			t.Errorf("%s is on %s, want %s", path, got, want)
		}
	}
	if got := m.storage("podman", "relative"); got.Known {
		t.Errorf("storage: %+v", got)
	}
}

// The probe's failure is a fact about user namespaces, unless the probe itself is at fault.
func TestProbeFails(t *testing.T) {
	t.Parallel()
	m, _ := trixie(t)
	m.Probe = func(context.Context, string) (Probe, error) {
		return Probe{}, os.NewSyscallError("fork/exec", syscall.EPERM)
	}
	if ns, p := m.probe(t.Context()); ns != known("operation not permitted") || p.Known {
		t.Errorf("refused: %+v %+v", ns, p)
	}
	m.Probe = func(context.Context, string) (Probe, error) { return Probe{}, fmt.Errorf("%w: x", errProbe) }
	if ns, p := m.probe(t.Context()); ns.Known || p.Known {
		t.Errorf("at fault: %+v %+v", ns, p)
	}
	if o := m.overlay(t.Context(), known(Storage{Path: "/home/rk"})); o.Known {
		t.Errorf("overlay: %+v", o)
	}
}

// The probe refuses to try anything in the caller's own namespaces.
func TestRunProbeOnlyInNamespaces(t *testing.T) {
	t.Parallel()
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {here}, {here, ""}, {"", ""}} {
		var out bytes.Buffer
		if err := RunProbe(&out, args); !errors.Is(err, errProbe) || out.Len() > 0 {
			t.Errorf("%q: %v %s", args, err, &out)
		}
	}
}

// TestMain lets the test binary be the probe's child process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ProbeCommand {
		if err := RunProbe(os.Stdout, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestProbe makes real namespaces, where the machine allows that.
func TestProbe(t *testing.T) {
	t.Parallel()
	p, err := probeChild(t.Context(), t.TempDir())
	if err != nil && !errors.Is(err, errProbe) {
		t.Skipf("no user namespaces here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.Sysctls["net.ipv4.ip_forward"] == "" {
		t.Errorf("no settings were read: %+v", p)
	}
	data, err := json.Marshal(p)
	t.Logf("%s %v", data, err)
}

func TestAddressAndPorts(t *testing.T) {
	t.Parallel()
	m, _ := trixie(t)
	f := m.Host(t.Context(), Wanted{MultiHost: true})
	if !f.Address.Known || !f.Address.Value.IsLoopback() {
		t.Errorf("address is %+v, want that of lo, which has the default route there", f.Address)
	}
	if !f.BusyPorts.Known || !f.Firewall.Known {
		t.Errorf("ports %+v, firewall %+v", f.BusyPorts, f.Firewall)
	}
	if got := address("no-such-device"); got.Known {
		t.Errorf("got %+v", got)
	}
}

func TestWantedBy(t *testing.T) {
	t.Parallel()
	c := config.Default(config.Cluster{Networking: config.Networking{APIServerPort: 443}})
	want := Wanted{Cgroups: "auto", KubeProxyMode: "iptables", IPFamily: "ipv4", PodSubnet: "10.244.0.0/16", ServiceSubnet: "10.96.0.0/16", Ports: []int{443}}
	if diff := cmp.Diff(want, WantedBy(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What has been asked is not asked again.
func TestAsked(t *testing.T) {
	t.Parallel()
	eng := enginetest.NewFake()
	f := Facts{}
	if got := Asked(eng, f); got != Engine(eng) {
		t.Error("nothing was asked yet")
	}
	f.Engine = known(engine.Info{Name: "x"})
	info, err := Asked(eng, f).Info(t.Context())
	if err != nil || info.Name != "x" || len(eng.Calls()) > 0 {
		t.Errorf("%+v %v %v", info, err, eng.Calls())
	}
}

// BenchmarkCreate is what create adds before it begins: the facts of the host
// with a real probe, and what is asked of an engine that answers at once.
func BenchmarkCreate(b *testing.B) {
	m := Local(os.Getenv)
	eng := enginetest.NewFake()
	for b.Loop() {
		f := m.Host(b.Context(), Wanted{Cgroups: "auto", Quick: true})
		Evaluate(m.Engine(b.Context(), f, eng, nil))
	}
}

// TestPastaVersion: pasta's own way to say its version, and Debian's.
func TestPastaVersion(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]Fact[string]{
		"echo pasta 2025_01_21.4f2c8e7":             known("20250121"),
		"echo pasta '0.0~git20250503.587980c-2'":    known("20250503"),
		"echo pasta unknown version":                unknown[string]("/usr/bin/pasta --version does not say it"),
		"exit 0\n0.0~git20250503.587980c-2+deb13u1": known("20250503"), // says nothing to a pipe
		"exit 0\n2025_01_21.4f2c8e7":                known("20250121"),
		"exit 0\n0^20250217.ga1e48a0-1.fc41":        known("20250217"),
		"exit 0":                                    unknown[string]("/usr/bin/pasta --version does not say it"),
	} {
		root := t.TempDir()
		put(t, root, "usr/bin/pasta", "#!/bin/sh\n"+program+"\n")
		if err := os.Chmod(filepath.Join(root, "usr/bin/pasta"), 0o755); err != nil {
			t.Fatal(err)
		}
		m := Machine{Root: root, Env: func(string) string { return "/usr/bin" }}
		if got := m.pasta(t.Context()); got != want {
			t.Errorf("%s: %+v, want %+v", program, got, want)
		}
	}
}
