// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Names of network namespaces in findings.
const (
	engineNetns = "the engine's network namespace"
	freshNetns  = "a new network namespace of the user"
)

// Engine adds what depends on the engine: what it says of itself, its
// networks, its storage and its network namespace. dialErr says why there is no engine.
func (m Machine) Engine(ctx context.Context, f Facts, eng Engine, dialErr error) Facts {
	f.EngineFailure = failure(dialErr)
	if dialErr == nil {
		info, networks, err := ask(ctx, eng)
		if f.EngineFailure = failure(err); err == nil {
			f.Engine, f.Networks = known(info), networks
		}
	}
	if !f.Engine.Known {
		const silent = "the engine does not answer"
		f.Engine = unknown[engine.Info](silent)
		f.Storage, f.Overlay = unknown[Storage](silent), unknown[string](silent)
		m.fresh(&f)
		return f
	}
	f.Storage = m.storage(f.Engine.Value.Name, f.Engine.Value.GraphRoot)
	f.ContainerdRun = known(!m.absent(m.runtimeDir() + "/containerd-rootless"))
	f.DockerInit = m.dockerInit()
	if f.docker() && f.Engine.Value.NetworkDriver == "pasta" {
		f.Pasta = m.pasta(ctx)
	}
	f.Overlay = unknown[string]("it was not tried")
	if !f.Wanted.Quick || f.Fuse.Value != "" { // with fuse-overlayfs at hand, nodes do without
		f.Overlay = m.overlay(ctx, f.Storage)
	}
	if !f.Wanted.Quick {
		m.netns(ctx, &f)
	}
	return f
}

// ask asks the engine two things at once.
func ask(ctx context.Context, eng Engine) (info engine.Info, networks []Route, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		info, err = eng.Info(ctx)
		return engineError(err)
	})
	g.Go(func() error {
		list, err := eng.ListNetworks(ctx, nil)
		for _, n := range list {
			for _, p := range n.Subnets {
				networks = append(networks, Route{Prefix: p.Masked(), By: "the engine's network " + n.Name})
			}
		}
		return engineError(err)
	})
	err = g.Wait()
	return info, networks, err
}

// pastaDate is in what pasta says of its version: "pasta 2025_01_21.4f2c8e7",
// or "pasta 0.0~git20250503.587980c-2" where Debian built it.
// In the program's file a commit follows, in whatever form.
var (
	pastaDate   = regexp.MustCompile(`(20\d\d)_?(\d\d)_?(\d\d)`)
	pastaInFile = regexp.MustCompile(`(20\d\d)_?(\d\d)_?(\d\d)\.g?[0-9a-f]{7}`)
)

// pasta is the date of the version of pasta that is installed. Many of them say
// it to a terminal alone: they end without writing out what was printed to a
// pipe. Then it is looked for in the program itself.
func (m Machine) pasta(ctx context.Context) Fact[string] {
	path := m.find("pasta")
	if path == "" {
		return unknown[string]("pasta was not found")
	}
	out, err := exec.CommandContext(ctx, m.path(path), "--version").Output()
	if err != nil {
		return unknown[string](path + " --version: " + err.Error())
	}
	d := pastaDate.FindSubmatch(out)
	if len(bytes.TrimSpace(out)) == 0 {
		program, err := os.ReadFile(m.path(path))
		if err != nil {
			return unknown[string](err.Error())
		}
		d = pastaInFile.FindSubmatch(program)
	}
	if d == nil {
		return unknown[string](path + " --version does not say it")
	}
	return known(string(bytes.Join(d[1:], nil)))
}

// failure is why there is no engine; nil if there is one.
func failure(err error) *problem.Problem {
	if err == nil {
		return nil
	}
	if p, ok := problem.Of(err); ok {
		return p
	}
	p, _ := problem.Of(problem.EngineUnreachable.Wrap(err))
	return p
}

// storage is the file system that holds path, or will hold it, as the engine
// sees it: its mounts are those of when its user namespace was made.
func (m Machine) storage(engine, path string) Fact[Storage] {
	if !filepath.IsAbs(path) {
		return unknown[Storage]("the engine does not say where its storage is")
	}
	view, mounts := "", "/proc/self/mountinfo"
	if pid := m.enginePID(engine); pid != 0 && !m.absent(fmt.Sprintf("/proc/%d/root/", pid)) {
		view, mounts = fmt.Sprintf("/proc/%d/root", pid), fmt.Sprintf("/proc/%d/mountinfo", pid)
	}
	at := m.existing(view, path)
	var s unix.Statfs_t
	if err := unix.Statfs(m.path(view+at), &s); err != nil {
		return unknown[Storage](at + ": " + err.Error())
	}
	same := view == "" || m.device(view+at) == m.device(at)
	return known(Storage{Path: path, FS: m.filesystem(mounts, at), Free: s.Bavail * uint64(s.Bsize), Foreign: !same}) //nolint:gosec // a block size is positive
}

// existing is path, or the nearest folder above it that is there.
func (m Machine) existing(view, path string) string {
	for m.absent(view+path) && path != "/" {
		path = filepath.Dir(path)
	}
	return path
}

// device is the number of the file system that holds path; 0 if it is not known.
func (m Machine) device(path string) uint64 {
	var s unix.Stat_t
	if err := unix.Stat(m.path(path), &s); err != nil {
		return 0
	}
	return s.Dev
}

// filesystem is the type of the mount that holds path (proc_pid_mountinfo(5)).
func (m Machine) filesystem(mounts, path string) string {
	best, fstype := "", "unknown"
	for line := range strings.Lines(m.text(mounts).Value) {
		left, right, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(rest) < 1 {
			continue
		}
		point := unescape.Replace(fields[4])
		if inside := point == "/" || path == point || strings.HasPrefix(path, point+"/"); inside && len(point) >= len(best) {
			best, fstype = point, rest[0]
		}
	}
	return fstype
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// overlay tries overlayfs in a folder of the engine's file system.
func (m Machine) overlay(ctx context.Context, s Fact[Storage]) Fact[string] {
	if !s.Known {
		return unknown[string](s.Why)
	}
	if m.Probe == nil {
		return unknown[string]("it was not tried")
	}
	if s.Value.Foreign {
		return unknown[string]("the engine has another file system mounted there than this process")
	}
	at := m.existing("", s.Value.Path)
	dir, err := os.MkdirTemp(m.path(at), ".rk-probe-")
	if err != nil {
		return unknown[string](why(at, err))
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what overlayfs left in an empty folder of ours
	p, err := m.Probe(ctx, dir)
	if err != nil {
		return unknown[string]("no user namespace to try it in: " + reason(err))
	}
	return known(p.Overlay)
}

// dockerInit reads the daemon's configuration file.
func (m Machine) dockerInit() Fact[bool] {
	path := m.Env("HOME") + "/.config/docker/daemon.json"
	data, err := os.ReadFile(m.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return known(false)
	}
	var c struct{ Init bool }
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return unknown[bool](why(path, err))
	}
	return known(c.Init)
}

// probe tries what the kernel can in namespaces as an engine makes them.
func (m Machine) probe(ctx context.Context) (Fact[string], Fact[Probe]) {
	if m.Probe == nil {
		return unknown[string]("it was not tried"), unknown[Probe]("it was not tried")
	}
	p, err := m.Probe(ctx, "")
	switch {
	case err == nil:
		return known(""), known(p)
	case errors.Is(err, errProbe):
		return unknown[string](err.Error()), unknown[Probe](err.Error())
	}
	return known(reason(err)), unknown[Probe]("no user namespace to try it in: " + reason(err))
}

// netns reads the settings of the engine's network namespace. An engine that
// has none yet, as Podman before the first container, will make one: a new one
// has the same settings.
func (m Machine) netns(ctx context.Context, f *Facts) {
	pid, path := m.engineNetns(f.Engine.Value.Name)
	if path == "" || m.Enter == nil {
		m.fresh(f)
		return
	}
	f.EngineNetns, f.EngineSysctls = engineNetns, map[string]Fact[string]{}
	values, err := m.Enter(ctx, pid, path, netnsSysctls)
	for _, name := range netnsSysctls {
		switch v, ok := values[name]; {
		case ok:
			f.EngineSysctls[name] = known(v)
		case err != nil:
			f.EngineSysctls[name] = unknown[string](engineNetns + " cannot be entered: " + err.Error())
		default:
			f.EngineSysctls[name] = unknown[string](name + " cannot be read in " + engineNetns)
		}
	}
}

func (m Machine) fresh(f *Facts) {
	f.EngineNetns, f.EngineSysctls = freshNetns, map[string]Fact[string]{}
	for _, name := range netnsSysctls {
		f.EngineSysctls[name] = unknown[string](f.Probe.Why)
		if v, ok := f.Probe.Value.Sysctls[name]; ok {
			f.EngineSysctls[name] = known(v)
		}
	}
}

// enginePID is a process in the engine's user and mount namespace; 0 if there
// is none. Podman keeps them with a process that waits (pause.pid), RootlessKit
// notes its child's process id.
func (m Machine) enginePID(engine string) int {
	file, ok := map[string]string{"podman": "/libpod/tmp/pause.pid", "docker": "/dockerd-rootless/child_pid"}[engine]
	if !ok {
		return 0
	}
	pid, err := strconv.Atoi(m.text(m.runtimeDir() + file).Value)
	if err != nil || m.absent(fmt.Sprintf("/proc/%d", pid)) {
		return 0
	}
	return pid
}

// engineNetns finds the engine's network namespace and a process in the user
// namespace that owns it; "" if there is none. Podman mounts it (rootless-netns)
// below the runtime directory, in its own mount namespace, for as long as a
// container is in a bridge network; RootlessKit with --detach-netns does so too.
func (m Machine) engineNetns(engine string) (pid int, path string) {
	if pid = m.enginePID(engine); pid == 0 {
		return 0, ""
	}
	dir := m.runtimeDir()
	patterns := []string{dir + "/containers/networks/rootless-netns/rootless-netns", dir + "/netns/rootless-netns-*"}
	if engine == "docker" {
		patterns = []string{dir + "/dockerd-rootless/netns"}
	}
	for _, p := range patterns {
		found, _ := filepath.Glob(m.path(fmt.Sprintf("/proc/%d/root%s", pid, p))) // a folder of another user's finds nothing
		if len(found) > 0 {
			return pid, found[0]
		}
	}
	if engine == "docker" {
		return pid, m.path(fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	return pid, ""
}

// enter runs nsenter (util-linux): Go cannot enter a user namespace by
// itself, as the kernel allows that only to processes with one thread.
func enter(ctx context.Context, pid int, netns string, names []string) (map[string]string, error) {
	// (A shell's own read would not do: it reads byte by byte, and a setting ends after the first read.)
	const script = `for f; do v=$(cat "$f") && echo "$f $v"; done`
	args := []string{"--preserve-credentials", fmt.Sprintf("--user=/proc/%d/ns/user", pid), "--net=" + netns, "--", "sh", "-c", script, "sh"}
	byPath := map[string]string{}
	for _, n := range names {
		byPath[sysctlPath(n)] = n
		args = append(args, sysctlPath(n))
	}
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return nil, errors.New(text) //nolint:err113 // nsenter's own words
		}
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && byPath[path] != "" {
			values[byPath[path]] = v
		}
	}
	return values, nil
}

// asked is an engine whose answer to Info is known.
type asked struct {
	Engine
	info engine.Info
}

// Info implements Engine.
func (a asked) Info(context.Context) (engine.Info, error) { return a.info, nil }

// Asked returns an engine for [Gather] that need not be asked again for what
// f has of it.
func Asked(eng Engine, f Facts) Engine {
	if !f.Engine.Known {
		return eng
	}
	return asked{eng, f.Engine.Value}
}
