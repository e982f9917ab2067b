// SPDX-License-Identifier: Apache-2.0

// Package testhost makes disposable hosts to try rk on: a Debian system in a
// systemd-nspawn container or in a virtual machine, with an unprivileged user who has subordinate ids,
// lingering and the rootless engines of that release. It needs root, and leaves
// the machine's own mounts, cgroups and devices as they are. Whatever ends the
// owner of a host, Close, a crash or SIGKILL, a supervisor process removes the host.
// It must never import rk's own packages, so that it cannot hide their faults.
package testhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The unprivileged user of every host; it has the subordinate ids 100000 to 165535.
const (
	UserName = "rk"
	UserID   = 1000
)

// Options say what host to start. The zero value is a Debian trixie host.
type Options struct {
	// Name is the host name: lower-case letters, digits and "-", at most 48 characters,
	// one host of that name at a time. Default "host-" and a random part.
	Name string
	// Release is the Debian release. Default Trixie.
	Release Release
	// VM makes the host a virtual machine with a kernel of its own, whose systemd delegates
	// all cgroup controllers to the user. It is slow where KVM does not work. Default: a
	// container, which on many machines has no usable controller.
	VM bool
	// Binds are files and directories of this machine, read-only in the host. A VM gets
	// them as they are when it starts.
	Binds []Bind
	// PodmanSocket enables the user unit podman.socket.
	PodmanSocket bool
	// Docker installs and starts rootless Docker for the user, as its setup tool does:
	// the user unit docker.service, and the docker context "rootless" as the current one.
	// Nil: there is none.
	Docker *Docker
	// HomeOnOverlay puts /home on overlayfs, where overlayfs cannot have its upper
	// directories: engines then have to use fuse-overlayfs. Default: a plain directory.
	HomeOnOverlay bool
	// BootTimeout bounds the time from the start of the container or VM to the end of its
	// boot; building the root file system is not counted. Default 2 minutes, for a VM times
	// TimeoutScale.
	BootTimeout time.Duration
	// Progress gets a line per thing that takes long. Default: none.
	Progress io.Writer
}

// Bind is a file or directory Src of this machine at Dst in the host, both absolute.
type Bind struct{ Src, Dst string }

// Host is a running test host.
type Host struct {
	base  *base
	state state
	owner *supervisor // nil in a process other than the one that started the host
}

// Start boots a host and returns when its boot is complete and the user's systemd
// instance runs. The root file system is built first where it is not in the cache.
// The host lives until Close, or until this process ends, however it ends; Keep lifts that.
func Start(ctx context.Context, o Options) (*Host, error) {
	b, err := defaultBase()
	if err != nil {
		return nil, err
	}
	return b.start(ctx, o)
}

// Open returns the running host of that name, which may be another process's.
func Open(name string) (*Host, error) {
	h, err := find(name)
	if err != nil {
		return nil, err
	}
	if !h.state.Leader.alive() {
		return nil, fmt.Errorf("test host %q is not running but %s: wait, or remove it with %q", name, h.state.status(), "testhost down "+name)
	}
	return h, nil
}

// Remove removes the host of that name, whatever state it is in.
func Remove(name string) error {
	h, err := find(name)
	if err != nil {
		return err
	}
	return h.Close()
}

func find(name string) (*Host, error) {
	b, err := defaultBase()
	if err != nil {
		return nil, err
	}
	states, err := b.list()
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if s.Name == name {
			return &Host{base: b, state: s}, nil
		}
	}
	return nil, fmt.Errorf("no test host %q: %q shows those there are", name, "testhost list")
}

// Name is the host's name.
func (h *Host) Name() string { return h.state.Name }

// Release is the host's Debian release.
func (h *Host) Release() Release { return h.state.Release }

// VM tells whether the host is a virtual machine.
func (h *Host) VM() bool { return h.state.VM }

// Addr is the host's IPv4 address on the bridge that all hosts share.
func (h *Host) Addr() string { return h.state.Addr }

// Gateway is this machine's address on that bridge, and the host's name server;
// nothing answers there unless the test does.
func (h *Host) Gateway() netip.Addr {
	addr, _ := netip.ParseAddr(h.state.Gateway) // this package's own
	return addr
}

// Keep makes the host outlive this process; "testhost down" removes it.
func (h *Host) Keep() error {
	if h.owner == nil {
		return nil
	}
	if err := h.owner.keep(); err != nil {
		return fmt.Errorf("keep test host %s: %w", h.state.Name, err)
	}
	h.state.Owner = process{}
	return h.base.save(h.state)
}

// Close removes the host and everything that belongs to it, at once and without a shutdown.
func (h *Host) Close() error {
	var err error
	if h.owner != nil {
		err = h.owner.stop()
		h.owner = nil
	} else {
		err = h.state.Supervisor.terminate(closeTimeout)
	}
	if _, statErr := os.Stat(h.base.dir(h.state.ID)); statErr == nil {
		err = errors.Join(err, h.base.clean(h.state.ID))
	}
	if err != nil {
		return fmt.Errorf("remove test host %s: %w", h.state.Name, err)
	}
	return nil
}

const (
	defaultBootTimeout = 2 * time.Minute
	closeTimeout       = time.Minute
)

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`)

func (o *Options) complete(id string) error {
	if o.Name == "" {
		o.Name = "host-" + strings.TrimPrefix(id, idPrefix)
	}
	if !validName.MatchString(o.Name) {
		return fmt.Errorf("test host name %q: use lower-case letters, digits and %q, at most 48", o.Name, "-")
	}
	if o.Release == "" {
		o.Release = Trixie
	}
	scale, err := TimeoutScale()
	if err != nil {
		return err
	}
	if o.BootTimeout == 0 {
		o.BootTimeout = defaultBootTimeout
		if o.VM {
			o.BootTimeout *= time.Duration(scale)
		}
	}
	if o.VM && o.HomeOnOverlay {
		return errors.New("/home on overlayfs is for containers: a VM has a disk of its own")
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, bind := range o.Binds {
		if !filepath.IsAbs(bind.Src) || !filepath.IsAbs(bind.Dst) {
			return fmt.Errorf("bind %s:%s: both paths must be absolute", bind.Src, bind.Dst)
		}
		if _, err := os.Stat(bind.Src); err != nil {
			return fmt.Errorf("bind %s:%s: %w", bind.Src, bind.Dst, err)
		}
	}
	if err := o.Release.check(); err != nil {
		return err
	}
	return o.Docker.check(o.Release)
}

func (b *base) start(ctx context.Context, o Options) (_ *Host, err error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	if err := o.complete(id); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	var rootfs string
	var image vmImage
	if o.VM {
		if err := checkVM(); err != nil {
			return nil, err
		}
		image, err = b.buildVM(ctx, o.Release, o.Progress)
	} else {
		rootfs, err = b.build(ctx, o.Release, o.Progress)
	}
	if err != nil {
		return nil, err
	}
	if _, err := b.prune(ctx); err != nil {
		return nil, err
	}
	h := &Host{base: b}
	if h.state, err = b.reserve(ctx, id, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start test host %s: %w", o.Name, err), h.Close())
		}
	}()
	if o.VM {
		err = h.startVM(ctx, image, o)
	} else {
		err = h.startContainer(ctx, rootfs, o)
	}
	if err != nil {
		return nil, err
	}
	if err := h.welcome(ctx, o); err != nil {
		var journal tail
		journalErr := h.Journal(ctx, &journal)
		return nil, errors.Join(fmt.Errorf("%w; the journal's end:\n%s", err, &journal), journalErr)
	}
	return h, nil
}

func (h *Host) startContainer(ctx context.Context, rootfs string, o Options) error {
	if err := h.base.prepare(ctx, h.state, rootfs, o.HomeOnOverlay); err != nil {
		return err
	}
	report(o.Progress, "booting %s (%s, %s)", o.Name, o.Release, h.state.Addr)
	return h.boot(ctx, rootfs, o)
}

// prepare makes the host's own directories: the upper directory of its root, and plain
// copies of what must not lie on overlayfs.
func (b *base) prepare(ctx context.Context, s state, rootfs string, homeOnOverlay bool) error {
	dir := b.dir(s.ID)
	plain := []string{"var"}
	if !homeOnOverlay {
		plain = append(plain, "home")
	}
	for _, d := range plain {
		if _, err := run(exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", filepath.Join(rootfs, d), filepath.Join(dir, d))); err != nil {
			return err
		}
	}
	etc := filepath.Join(dir, "upper", "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	machineID, err := randomHex(16)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"hostname":     s.Name + "\n",
		"machine-id":   machineID + "\n",
		"hosts":        "127.0.0.1 localhost\n" + s.Addr + " " + s.Name + "\n::1 localhost ip6-localhost ip6-loopback\n",
		"resolv.conf":  "nameserver " + s.Gateway + "\n",
		"testhost.env": fmt.Sprintf("TESTHOST_ADDRESS=%s/%d\nTESTHOST_GATEWAY=%s\n", s.Addr, subnetBits, s.Gateway),
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the supervisor and waits for the end of the boot.
func (h *Host) boot(ctx context.Context, rootfs string, o Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.BootTimeout, fmt.Errorf("boot is not complete after %s", o.BootTimeout))
	defer cancel()
	dir := h.base.dir(h.state.ID)
	sup, err := supervise(h.state.ID, dir, h.base.bridge(), rootfs, nspawnArgs(dir, h.state, o))
	if err != nil {
		return err
	}
	h.owner = sup
	h.state.Supervisor = sup.process
	if err := h.base.save(h.state); err != nil {
		return err
	}
	leader, err := sup.waitReady(ctx)
	if err != nil {
		return err
	}
	if h.state.Leader, err = findProcess(leader); err != nil {
		return err
	}
	return h.base.save(h.state)
}

// welcome waits for the user's systemd instance and sets up what the options ask for.
func (h *Host) welcome(ctx context.Context, o Options) error {
	if _, err := h.Root(ctx, fmt.Sprintf("systemctl start user@%d.service", UserID)); err != nil {
		return err
	}
	if o.PodmanSocket {
		if _, err := h.User(ctx, "systemctl --user --quiet enable --now podman.socket"); err != nil {
			return err
		}
	}
	return h.setUpDocker(ctx, o.Docker)
}

// nspawnArgs is systemd-nspawn's command line. What a host needs beyond a plain container:
// all capabilities and system calls and no user namespace (the rootless engines make their
// own), /dev/fuse and /dev/net/tun.
func nspawnArgs(dir string, s state, o Options) []string {
	args := []string{
		"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=read-only",
		"--directory=" + filepath.Join(dir, "root"), "--machine=" + s.ID, "--hostname=" + s.Name,
		"--capability=all", "--private-users=no", "--system-call-filter=@known",
		"--network-bridge=" + s.Bridge, "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--bind=" + bindArg(filepath.Join(dir, "dev", "fuse"), "/dev/fuse"),
		"--bind=" + bindArg(filepath.Join(dir, "dev", "tun"), "/dev/net/tun"),
		"--bind=" + bindArg(filepath.Join(dir, "var"), "/var"),
	}
	if !o.HomeOnOverlay {
		args = append(args, "--bind="+bindArg(filepath.Join(dir, "home"), "/home"))
	}
	for _, bind := range o.Binds {
		args = append(args, "--bind-ro="+bindArg(bind.Src, bind.Dst))
	}
	return append(args, "--", "sh", "-c", initScript, "/sbin/init", "systemd.unified_cgroup_hierarchy=1")
}

// initScript starts the host's systemd. systemd-nspawn mounts a boot id of the container's
// own over the kernel's, which a service that systemd gives a /proc of its own does not see:
// logind 262 then refuses every session, as that of another machine.
const initScript = `umount /proc/sys/kernel/random/boot_id; exec "$0" "$@"`

// bindArg quotes as systemd-nspawn(1) says under --bind=.
func bindArg(src, dst string) string {
	quote := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	return quote.Replace(src) + ":" + quote.Replace(dst)
}
