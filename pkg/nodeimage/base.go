// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// baseFile is the Debian base in its cache entry, an uncompressed layer.
const baseFile = "layer.tar"

// bootstrap makes the Debian base with mmdebstrap, which needs no root: as an
// ordinary user it works in a user namespace of its own. The mirror is the
// one that the machine's apt, or mmdebstrap itself, is set up with.
func bootstrap(ctx context.Context, r *recipe, suite, arch, dir string, progress func(string)) error {
	if err := checkHost(); err != nil {
		return err
	}
	if err := checkForeign(arch, runtime.GOARCH, binfmtDir); err != nil {
		return err
	}
	raw := filepath.Join(dir, "raw.tar")
	defer func() { _ = os.Remove(raw) }()
	if err := mmdebstrap(ctx, r, suite, arch, raw, progress); err != nil {
		return err
	}
	in, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return create(filepath.Join(dir, baseFile), func(w io.Writer) error { return strip(w, in, r) })
}

// create makes a file of what fill writes.
func create(path string, fill func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	buf := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(fill(buf), buf.Flush(), f.Close())
}

// copyTo returns a function that writes the content of a file.
func copyTo(path string) func(io.Writer) error {
	return func(w io.Writer) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.Copy(w, f)
		return err
	}
}

func mmdebstrap(ctx context.Context, r *recipe, suite, arch, output string, progress func(string)) error {
	args := []string{
		"--variant=minbase",
		"--format=tar",
		"--architectures=" + debianArch(arch),
		"--include=" + strings.Join(r.Packages, ","),
		"--dpkgopt=force-unsafe-io", // nobody needs half a root file system after a crash
	}
	if os.Geteuid() != 0 {
		args = append(args, "--mode=unshare")
	}
	args = append(args, suite, output)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.Epoch.Unix(), 10), "LC_ALL=C")
	// Told to end with all its processes, it removes its mounts and folders.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	log := &lineWriter{line: func(s string) {
		if info, ok := strings.CutPrefix(s, "I: "); ok {
			progress(info)
		}
	}}
	cmd.Stderr, cmd.Stdout = log, log
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return explain(err, log.tail())
	}
	return nil
}

// explain turns what mmdebstrap says last into a problem with a fix.
func explain(err error, tail string) error {
	const (
		network = "Check this machine's network and the mirror that its apt uses ('sudo apt-get update' tells), then try again."
		keys    = "Install the keys of the Debian archive: sudo apt-get install debian-archive-keyring"
		space   = "Free about 1 GB in $TMPDIR (/tmp if it is not set), where mmdebstrap works."
	)
	p := problem.BuildFailed.With("Remove the cause that mmdebstrap names and try again.")
	for _, sign := range []struct {
		says string
		is   *problem.Problem
	}{
		{"resolving", problem.SourceUnreachable.With(network)},
		{"onnect to", problem.SourceUnreachable.With(network)},
		{"Failed to fetch", problem.SourceUnreachable.With(network)},
		{"NO_PUBKEY", problem.BuildToolMissing.With(keys)},
		{"is not signed", problem.BuildToolMissing.With(keys)},
		{"No space left", problem.DiskFull.With(space)},
	} {
		if strings.Contains(tail, sign.says) {
			p = sign.is
			break
		}
	}
	return p.Wrapf("mmdebstrap could not make the Debian base: %w:\n%s", err, tail)
}

// debianArch returns Debian's name of a GOARCH.
func debianArch(arch string) string {
	switch arch {
	case "arm":
		return "armhf"
	case "386":
		return "i386"
	case "ppc64le":
		return "ppc64el"
	}
	return arch
}

// strip copies a root file system without what the recipe excludes and without
// what differs between two builds of the same packages.
func strip(w io.Writer, in io.Reader, r *recipe) error {
	tr, tw := tar.NewReader(in), tar.NewWriter(w)
	dropped := map[string]bool{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return tw.Close()
		}
		if err != nil {
			return fmt.Errorf("reading what mmdebstrap made: %w", err)
		}
		name := path.Join("/", h.Name)
		if name == "/" || r.excluded(name) || h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			dropped[name] = true
			continue
		}
		if h.Typeflag == tar.TypeLink && dropped[path.Join("/", h.Linkname)] {
			return fmt.Errorf("rootfs.yaml excludes %s, but %s is a hard link to it: exclude both", h.Linkname, name)
		}
		out := normal(*h, r.Epoch)
		if err := tw.WriteHeader(&out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// checkHost finds what is missing on this machine.
func checkHost() error {
	tools := []tool{{"mmdebstrap", "mmdebstrap"}, {"apt-get", "apt"}}
	if os.Geteuid() == 0 {
		return missing(tools, exec.LookPath)
	}
	tools = append(tools, tool{"newuidmap", "uidmap"}, tool{"newgidmap", "uidmap"})
	if err := missing(tools, exec.LookPath); err != nil {
		return err
	}
	u, err := user.Current()
	if err != nil {
		return err
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !hasRange(string(data), u.Username, u.Uid) {
			return problem.NoSubIDs.
				Withf("Give the user a range: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", u.Username).
				Wrapf("user %s has none in %s", u.Username, file)
		}
	}
	return nil
}

// binfmtDir is where the kernel lists the interpreters of foreign programs
// (binfmt_misc, Documentation/admin-guide/binfmt-misc.rst).
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// emulators are those interpreters as QEMU registers them, by GOARCH.
var emulators = map[string]string{"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}

// checkForeign finds out whether programs of an architecture run on this
// machine: Debian's packages run some when they are installed.
func checkForeign(arch, machine, binfmt string) error {
	if arch == machine {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(binfmt, emulators[arch]))
	if err == nil && strings.HasPrefix(string(data), "enabled") {
		return nil
	}
	return problem.BuildToolMissing.
		Withf("Install it: sudo apt-get install qemu-user-static. Or build on a machine of that kind.").
		Wrapf("the Debian base for %s needs an emulator on this %s machine, and %s is not registered in %s", arch, machine, emulators[arch], binfmt)
}

// hasRange tells whether a file in the format of subuid(5) gives a range to
// the user.
func hasRange(file, name, uid string) bool {
	for line := range strings.Lines(file) {
		owner, _, ok := strings.Cut(line, ":")
		if ok && (owner == name || owner == uid) {
			return true
		}
	}
	return false
}

// tool is a program of the building machine and the Debian package it is in.
type tool struct{ name, pkg string }

func missing(tools []tool, find func(string) (string, error)) error {
	var names, packages []string
	seen := map[string]bool{}
	for _, t := range tools {
		if _, err := find(t.name); err == nil {
			continue
		}
		names = append(names, t.name)
		if !seen[t.pkg] {
			packages = append(packages, t.pkg)
		}
		seen[t.pkg] = true
	}
	if len(names) == 0 {
		return nil
	}
	return problem.BuildToolMissing.
		Withf("Install it: sudo apt-get install %s", strings.Join(packages, " ")).
		Wrapf("not installed: %s", strings.Join(names, ", "))
}

// lineWriter passes on each line of a program's output and keeps the end of it.
type lineWriter struct {
	line  func(string)
	part  []byte
	lines []string
}

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		s := string(bytes.TrimRight(l.part[:i], "\r"))
		l.part = l.part[i+1:]
		l.lines = append(l.lines, s)
		if len(l.lines) > 12 {
			l.lines = l.lines[1:]
		}
		l.line(s)
	}
}

func (l *lineWriter) tail() string {
	return strings.TrimSpace(strings.Join(append(l.lines, string(l.part)), "\n"))
}
