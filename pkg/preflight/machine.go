// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Machine gathers facts about the host and the engine. It changes nothing
// that stays, and asks for no privileges.
type Machine struct {
	// Root is where the host's file system is; default "/".
	Root string
	// Env looks up environment variables.
	Env func(string) string
	// User is who runs rk.
	User User
	// RootUID is who owns the system's files; it is not 0 only in tests.
	RootUID int
	// Probe tries things in new namespaces, [RunProbe] in a child process;
	// overlay is a directory of the user's for overlayfs, or empty. The error says that the namespaces could not be made. nil: nothing is tried.
	Probe func(ctx context.Context, overlay string) (Probe, error)
	// Enter reads settings (net.ipv4.ip_forward) in the user namespace of
	// process pid and the network namespace at the path netns. nil: none is entered.
	Enter func(ctx context.Context, pid int, netns string, names []string) (map[string]string, error)
}

// Local is the machine that rk runs on, as its user sees it.
func Local(env func(string) string) Machine {
	u := User{Name: env("USER"), UID: os.Getuid(), GID: os.Getgid()}
	if found, err := user.LookupId(strconv.Itoa(u.UID)); err == nil {
		u.Name = found.Username
	}
	return Machine{Root: "/", Env: env, User: u, Probe: probeChild, Enter: enter}
}

// hostSysctls are the settings that checks look at on the host itself.
var hostSysctls = []string{
	"user.max_user_namespaces", "kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns",
	"fs.inotify.max_user_instances", "fs.inotify.max_user_watches", "kernel.keys.maxkeys", "kernel.keys.maxbytes",
	"kernel.dmesg_restrict", "vm.max_map_count", "vm.overcommit_memory", "net.netfilter.nf_conntrack_max",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range",
}

// netnsSysctls are those that count in the engine's network namespace.
var netnsSysctls = []string{"net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"}

// Host gathers what does not depend on the engine. What cannot be read is
// unknown; it takes a few milliseconds, and some more for the probe.
func (m Machine) Host(ctx context.Context, w Wanted) Facts {
	f := Facts{Wanted: w, User: m.User, Sysctls: map[string]Fact[string]{}, Programs: map[string]Fact[string]{}}
	var wg sync.WaitGroup
	wg.Go(func() { f.UserNS, f.Probe = m.probe(ctx) })
	f.OS = m.os()
	m.session(ctx, &f)
	m.cgroups(&f)
	f.SubUIDs, f.SubGIDs = m.subIDs("subuid"), m.subIDs("subgid")
	f.NewUIDMap, f.NewGIDMap = m.privileged("newuidmap"), m.privileged("newgidmap")
	f.Kernel = m.text("/proc/sys/kernel/osrelease")
	for _, name := range hostSysctls {
		if v := m.text(sysctlPath(name)); v.Known || !m.absent(sysctlPath(name)) {
			f.Sysctls[name] = v
		}
	}
	f.Tun, f.Fuse = m.opened("/dev/net/tun"), m.opened("/dev/fuse")
	m.limits(&f)
	m.network(ctx, &f)
	for _, name := range []string{"netavark", "pasta", "slirp4netns", "podman"} {
		f.Programs[name] = m.program(name)
	}
	switch v := m.text("/sys/fs/selinux/enforce"); {
	case v.Known && v.Value == "1":
		f.SELinux = known("enforcing")
	case v.Known:
		f.SELinux = known("permissive")
	case m.absent("/sys/fs/selinux/enforce"):
		f.SELinux = known("disabled")
	default:
		f.SELinux = unknown[string](v.Why)
	}
	wg.Wait()
	return f
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// path is where a path of the host is.
func (m Machine) path(p string) string { return filepath.Join(m.Root, p) }

func (m Machine) absent(p string) bool {
	_, err := os.Lstat(m.path(p))
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// text is a file without white space at its ends.
func (m Machine) text(p string) Fact[string] {
	data, err := os.ReadFile(m.path(p))
	if err != nil {
		return unknown[string](why(p, err))
	}
	return known(strings.TrimSpace(string(data)))
}

// why says why a path cannot be read, by its name on the host.
func why(p string, err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return p + ": " + err.Error()
}

func (m Machine) os() OS {
	var o OS
	for _, p := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		t := m.text(p)
		if !t.Known {
			continue
		}
		for line := range strings.Lines(t.Value) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				o.ID = value
			case "ID_LIKE":
				o.IDLike = strings.Fields(value)
			case "PRETTY_NAME":
				o.Name = value
			}
		}
		return o
	}
	return o
}

// runtimeDir is where the user's session has its sockets.
func (m Machine) runtimeDir() string {
	if dir := m.Env("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return fmt.Sprintf("/run/user/%d", m.User.UID)
}

func (m Machine) session(ctx context.Context, f *Facts) {
	dir := m.runtimeDir()
	info, err := os.Stat(m.path(dir))
	switch {
	case err == nil:
		f.RuntimeDir = known(Dir{Path: dir, Exists: info.IsDir(), UID: owner(info)})
	case errors.Is(err, fs.ErrNotExist):
		f.RuntimeDir = known(Dir{Path: dir})
	default:
		f.RuntimeDir = unknown[Dir](why(dir, err))
	}
	bus := dir + "/bus"
	if path, ok := strings.CutPrefix(m.Env("DBUS_SESSION_BUS_ADDRESS"), "unix:path="); ok {
		bus, _, _ = strings.Cut(path, ",")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", m.path(bus))
	if err == nil {
		_ = conn.Close()
		f.Bus = known("")
	} else {
		f.Bus = known(bus + ": " + reason(err))
	}
	f.BusUnit = known(!m.absent("/usr/lib/systemd/user/dbus.socket"))
	f.Systemd = m.systemd()
	switch _, err := os.Stat(m.path("/var/lib/systemd/linger/" + m.User.Name)); {
	case err == nil:
		f.Linger = known(true)
	case errors.Is(err, fs.ErrNotExist):
		f.Linger = known(false)
	default:
		f.Linger = unknown[bool](why("/var/lib/systemd/linger", err))
	}
}

// reason is the system's word for what went wrong.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

func owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

var systemdLibrary = regexp.MustCompile(`libsystemd-shared-(\d+)[^/]*\.so$`)

// systemd is the version of the init, told by its private library, whose name carries it.
func (m Machine) systemd() Fact[int] {
	if m.absent("/run/systemd/system") {
		return known(0)
	}
	for _, pattern := range []string{
		"/usr/lib/systemd/libsystemd-shared-*.so", "/lib/systemd/libsystemd-shared-*.so",
		"/usr/lib/*/systemd/libsystemd-shared-*.so", "/usr/lib64/systemd/libsystemd-shared-*.so",
	} {
		files, _ := filepath.Glob(m.path(pattern)) // the pattern is well-formed
		for _, file := range files {
			if match := systemdLibrary.FindStringSubmatch(file); match != nil {
				if v, err := strconv.Atoi(match[1]); err == nil {
					return known(v)
				}
			}
		}
	}
	return unknown[int]("systemd's library libsystemd-shared is not where it usually is")
}

const cgroupRoot = "/sys/fs/cgroup"

func (m Machine) userCgroup() string {
	return fmt.Sprintf("%s/user.slice/user-%d.slice/user@%d.service", cgroupRoot, m.User.UID, m.User.UID)
}

func (m Machine) cgroups(f *Facts) {
	switch {
	case !m.absent(cgroupRoot + "/cgroup.controllers"):
		f.Hierarchy = known("unified")
	case !m.absent(cgroupRoot + "/unified/cgroup.controllers"):
		f.Hierarchy = known("hybrid")
	case !m.absent(cgroupRoot + "/memory"):
		f.Hierarchy = known("legacy")
	default:
		f.Hierarchy = unknown[string]("nothing is mounted at " + cgroupRoot)
	}
	if f.Hierarchy.Value != "unified" {
		f.HostControllers, f.Controllers = unknown[[]string]("cgroup v2 is not in use"), unknown[[]string]("cgroup v2 is not in use")
		return
	}
	f.HostControllers = m.words(cgroupRoot + "/cgroup.controllers")
	f.Controllers = m.words(m.userCgroup() + "/cgroup.controllers")
	if f.Controllers.Known {
		return
	}
	for line := range strings.Lines(m.text("/proc/self/cgroup").Value) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			f.Controllers = m.words(cgroupRoot + path + "/cgroup.controllers")
		}
	}
}

func (m Machine) words(p string) Fact[[]string] {
	t := m.text(p)
	if !t.Known {
		return unknown[[]string](t.Why)
	}
	return known(strings.Fields(t.Value))
}

// subIDs reads /etc/subuid or /etc/subgid.
func (m Machine) subIDs(name string) Fact[SubIDs] {
	for line := range strings.Lines(m.text("/etc/nsswitch.conf").Value) {
		if sources, ok := strings.CutPrefix(strings.TrimSpace(line), "subid:"); ok && !slices.Equal(strings.Fields(sources), []string{"files"}) {
			return unknown[SubIDs]("/etc/nsswitch.conf takes subordinate ids from" + strings.TrimRight(sources, " ") + "; 'getsubids " + m.User.Name + "' shows them")
		}
	}
	t := m.text("/etc/" + name)
	if !t.Known {
		if m.absent("/etc/" + name) {
			return known(SubIDs{})
		}
		return unknown[SubIDs](t.Why)
	}
	var s SubIDs
	for line := range strings.Lines(t.Value) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.ParseInt(fields[1], 10, 64)
		count, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		s.Taken = append(s.Taken, Range{First: first, Count: count})
		if fields[0] == m.User.Name || fields[0] == strconv.Itoa(m.User.UID) {
			s.Count += count
		}
	}
	return known(s)
}

// find looks for a program in PATH and in further folders; "" if it is in none.
func (m Machine) find(name string, further ...string) string {
	for _, dir := range slices.Concat(further, filepath.SplitList(m.Env("PATH")), []string{"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"}) {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, name)
		if info, err := os.Stat(m.path(p)); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return p
		}
	}
	return ""
}

func (m Machine) privileged(name string) Fact[Program] {
	p := m.find(name)
	if p == "" {
		return known(Program{})
	}
	info, err := os.Stat(m.path(p))
	if err != nil {
		return unknown[Program](why(p, err))
	}
	n, err := unix.Getxattr(m.path(p), "security.capability", nil)
	return known(Program{Path: p, Rooted: owner(info) == m.RootUID, Setuid: info.Mode()&fs.ModeSetuid != 0, Caps: err == nil && n > 0})
}

// helperDirs are where Podman's helpers are by default (helper_binaries_dir of containers.conf(5)).
var helperDirs = []string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}

func (m Machine) program(name string) Fact[string] {
	p := m.find(name, helperDirs...)
	if p != "" || name == "podman" {
		return known(p)
	}
	for _, pattern := range []string{
		m.Env("HOME") + "/.config/containers/containers.conf", m.Env("HOME") + "/.config/containers/containers.conf.d/*.conf",
		"/etc/containers/containers.conf", "/etc/containers/containers.conf.d/*.conf", "/usr/share/containers/containers.conf",
	} {
		files, _ := filepath.Glob(m.path(pattern)) // a home directory with special characters finds nothing
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err == nil && moved.Match(data) {
				return unknown[string](name + " is not where it usually is, and containers.conf names another place")
			}
		}
	}
	return known("")
}

var moved = regexp.MustCompile(`(?m)^\s*(helper_binaries_dir|network_cmd_path)\s*=`)

// opened opens a device to see whether that is allowed.
func (m Machine) opened(p string) Fact[string] {
	f, err := os.OpenFile(m.path(p), os.O_RDWR, 0)
	if err != nil {
		return known(why(p, err))
	}
	_ = f.Close()
	return known("")
}

func (m Machine) limits(f *Facts) {
	soft, hard := m.rlimits()
	f.Files, f.Tasks = hard("Max open files"), soft("Max processes")
	slice := filepath.Dir(m.userCgroup())
	for _, dir := range []string{filepath.Dir(slice), slice, m.userCgroup()} {
		if v, ok := m.limit(dir + "/pids.max"); ok && f.Tasks.Known {
			f.Tasks.Value = min(f.Tasks.Value, v)
		}
	}
	f.Memory = m.memory()
	if !f.Memory.Known {
		return
	}
	for _, dir := range []string{filepath.Dir(slice), slice, m.userCgroup()} {
		if v, ok := m.limit(dir + "/memory.max"); ok {
			f.Memory.Value = min(f.Memory.Value, v)
		}
	}
}

// rlimits reads /proc/self/limits: columns of fixed width.
func (m Machine) rlimits() (soft, hard func(name string) Fact[uint64]) {
	t := m.text("/proc/self/limits")
	column := func(name string, i int) Fact[uint64] {
		for line := range strings.Lines(t.Value) {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if fields := strings.Fields(rest); len(fields) > i {
					if v, ok := number64(fields[i]); ok {
						return known(v)
					}
				}
			}
		}
		if !t.Known {
			return unknown[uint64](t.Why)
		}
		return unknown[uint64]("/proc/self/limits has no line " + strconv.Quote(name))
	}
	return func(name string) Fact[uint64] { return column(name, 0) }, func(name string) Fact[uint64] { return column(name, 1) }
}

// limit reads a limit of a cgroup; not ok if there is none to read.
func (m Machine) limit(p string) (uint64, bool) {
	t := m.text(p)
	if !t.Known {
		return 0, false
	}
	return number64(t.Value)
}

func number64(s string) (uint64, bool) {
	if s == "max" || s == "unlimited" {
		return math.MaxUint64, true
	}
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}

func (m Machine) memory() Fact[uint64] {
	t := m.text("/proc/meminfo")
	if !t.Known {
		return unknown[uint64](t.Why)
	}
	for line := range strings.Lines(t.Value) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			if kib, ok := number64(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); ok {
				return known(kib * 1024)
			}
		}
	}
	return unknown[uint64]("/proc/meminfo does not say what is available")
}

func (m Machine) network(ctx context.Context, f *Facts) {
	data, err := os.ReadFile(m.path("/proc/net/route"))
	if err != nil {
		f.Address = unknown[netip.Addr](why("/proc/net/route", err))
		return
	}
	routes, _ := parseRoutes(bytes.NewReader(data)) // what can be read counts
	for _, r := range routes {
		if !r.isDefault() {
			f.Routes = append(f.Routes, Route{Prefix: r.dst, By: "a route through " + r.device})
		}
	}
	if !f.Wanted.MultiHost {
		return
	}
	f.Address = known(netip.Addr{})
	if device, ok := defaultDevice(routes); ok {
		f.Address = address(device)
	}
	f.BusyPorts = known(busyPorts(ctx))
	f.Firewall = m.firewall()
}

// address is the first IPv4 address of an interface.
func address(device string) Fact[netip.Addr] {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return unknown[netip.Addr]("interface " + device + ": " + reason(err))
	}
	addrs, err := i.Addrs()
	if err != nil {
		return unknown[netip.Addr]("interface " + device + ": " + reason(err))
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return known(p.Addr())
		}
	}
	return unknown[netip.Addr]("interface " + device + " has no IPv4 address")
}

// busyPorts are those of MultiHostPorts that cannot be listened on.
func busyPorts(ctx context.Context) []string {
	var busy []string
	var lc net.ListenConfig
	for _, p := range MultiHostPorts {
		port, protocol, _ := strings.Cut(p, "/")
		if protocol == "udp" {
			if l, err := lc.ListenPacket(ctx, "udp4", ":"+port); err == nil {
				_ = l.Close()
				continue
			}
		} else if l, err := lc.Listen(ctx, "tcp4", ":"+port); err == nil {
			_ = l.Close()
			continue
		}
		busy = append(busy, p)
	}
	return busy
}

// firewall names a firewall manager that runs; the rules themselves only root can read.
func (m Machine) firewall() Fact[string] {
	for line := range strings.Lines(m.text("/etc/ufw/ufw.conf").Value) {
		if strings.EqualFold(strings.TrimSpace(line), "ENABLED=yes") {
			return known("ufw")
		}
	}
	names, err := filepath.Glob(m.path("/proc/[0-9]*/comm"))
	if err != nil || len(names) == 0 {
		return unknown[string]("/proc does not show which programs run")
	}
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(data)) == "firewalld" {
			return known("firewalld")
		}
	}
	return known("")
}
