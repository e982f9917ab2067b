// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Release is a Debian release by its code name.
type Release string

// The releases that hosts can have, with the engines that the archive has for them.
const (
	Bookworm Release = "bookworm" // Podman 4.3.1, Docker 20.10
	Trixie   Release = "trixie"   // Podman 5.4.2, Docker 26.1
	Sid      Release = "sid"      // Podman 5.8, Docker 28.5
)

// Releases are all releases, oldest first.
var Releases = []Release{Bookworm, Trixie, Sid}

func (r Release) check() error {
	if !slices.Contains(Releases, r) {
		return fmt.Errorf("unknown Debian release %q: use one of %v", r, Releases)
	}
	return nil
}

// packages are the Debian packages of the root file system.
func (r Release) packages() []string {
	list := []string{
		"systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd",
		"podman", "docker.io", "rootlesskit", "uidmap", "slirp4netns", "passt", "fuse-overlayfs",
		"crun", "runc", "iptables", "nftables", "netavark", "aardvark-dns",
		"iproute2", "iputils-ping", "tcpdump", "curl", "ca-certificates", "jq", "less", "kmod", "procps",
	}
	if r != Bookworm { // part of docker.io there
		list = append(list, "docker-cli")
	}
	return list
}

func (r Release) mmdebstrapArgs() []string { return r.bootstrapArgs(r.packages()) }

func (r Release) bootstrapArgs(packages []string) []string {
	args := []string{"--variant=minbase", "--include=" + strings.Join(packages, ",")}
	if r == Sid {
		// sid's index is valid for a week only, which a mirror may exceed; it is signed all the same.
		args = append(args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	}
	return args
}

//go:embed customize.sh
var customizeScript string

// key names the root file system in the cache: it changes with anything that makes it
// another one, except the packages' versions, which are those of the day it was built.
func (r Release) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%q\n%s", runtime.GOARCH, r, r.mmdebstrapArgs(), customizeScript))
	return string(r) + "-" + hex.EncodeToString(sum[:8])
}

// Build makes the root file system of a release, unless it is in the cache, and returns
// its path. It needs Debian's archive then, takes a few minutes and 600 MB; progress gets
// mmdebstrap's messages.
func Build(ctx context.Context, r Release, progress io.Writer) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	b, err := defaultBase()
	if err != nil {
		return "", err
	}
	if err := b.check(); err != nil {
		return "", err
	}
	return b.build(ctx, r, progress)
}

func (b *base) build(ctx context.Context, r Release, progress io.Writer) (string, error) {
	dir, err := b.cached(ctx, r.key(), "rootfs", progress, func(tmp string) error {
		report(progress, "building the root file system of Debian %s", r)
		return bootstrap(ctx, tmp, r, r.mmdebstrapArgs(), []string{customizeScript}, progress)
	})
	return filepath.Join(dir, "rootfs"), err
}

// cached returns the directory of that key in the cache. Where it lacks the file result,
// which marks it as complete, build fills a new one, which then takes its place.
func (b *base) cached(ctx context.Context, key, result string, progress io.Writer, build func(tmp string) error) (_ string, err error) {
	dir := filepath.Join(b.path, key)
	done := func() bool { _, err := os.Stat(filepath.Join(dir, result)); return err == nil }
	if done() {
		return dir, nil
	}
	if err := needTools("mmdebstrap"); err != nil {
		return "", err
	}
	if err := os.MkdirAll(b.path, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if done() {
		return dir, nil // another process built it meanwhile
	}
	report(progress, "new in the cache: %s", dir)
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := build(tmp); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// bootstrap makes the root file system dir/rootfs; hooks are scripts that get its path
// once the packages are in it.
func bootstrap(ctx context.Context, dir string, r Release, options, hooks []string, progress io.Writer) error {
	scripts, err := os.MkdirTemp(dir, "hooks-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scripts) }()
	// In a process namespace of its own, so that nothing of it survives this process.
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "mmdebstrap"}
	args = append(append(args, options...), "--dpkgopt=force-unsafe-io")
	for i, script := range hooks {
		hook := filepath.Join(scripts, fmt.Sprintf("customize-%d.sh", i))
		if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
			return err
		}
		args = append(args, "--customize-hook="+hook)
	}
	args = append(args, string(r), filepath.Join(dir, "rootfs"))
	cmd := exec.CommandContext(ctx, "unshare", args...)
	var log tail
	cmd.Stdout = io.MultiWriter(progress, &log)
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal is that of the thread
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build the root file system of %s: %w", r, context.Cause(ctx))
		}
		return fmt.Errorf("mmdebstrap %s: %w (is Debian's archive reachable?); its last lines:\n%s", r, err, &log)
	}
	return nil
}
