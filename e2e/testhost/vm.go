// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A VM is a test host with a kernel of its own: QEMU on a tap device of the bridge, with
// KVM where that works. Its processes have what a container on this machine may lack,
// above all cgroup controllers. The way in is SSH as root, with a key of the host's own.

// The memory of a VM in MiB: what it gets, and the least that it is any good with. QEMU
// takes it from the machine as the guest uses it.
const (
	vmMemory    = 10 << 10
	vmMinMemory = 3 << 10
)

const vmBinary = "qemu-system-x86_64"

// checkVM tells what keeps VMs from running on this machine.
func checkVM() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("a VM as test host is of amd64, and this machine of %s", runtime.GOARCH)
	}
	var errs []error
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		errs = append(errs, fmt.Errorf("no tap devices (%w): modprobe tun", err))
	}
	return errors.Join(append(errs, needTools(vmBinary, "mke2fs", "ssh", "ssh-keygen"))...)
}

// startVM boots the VM that h.state describes and waits until its boot is complete.
func (h *Host) startVM(ctx context.Context, image vmImage, o Options) error {
	dir := h.base.dir(h.state.ID)
	v := vm{state: h.state, dir: dir, image: image}
	var err error
	if v.key, err = makeKey(ctx, dir); err != nil {
		return err
	}
	if v.machineID, err = randomHex(16); err != nil {
		return err
	}
	for i, bind := range o.Binds {
		disk := vmBind{serial: fmt.Sprintf("bind%d", i), dst: bind.Dst}
		disk.file = filepath.Join(dir, disk.serial+".img")
		if disk.name, err = bindDisk(ctx, bind.Src, disk.file); err != nil {
			return err
		}
		if err := disk.check(); err != nil {
			return err
		}
		v.binds = append(v.binds, disk)
	}
	if v.memory, err = guestMemory(); err != nil {
		return err
	}
	if v.kvm, err = kvmWorks(ctx, image.kernel); err != nil {
		report(o.Progress, "no KVM, so the VM is slow: %v", err)
	}
	if v.cpus = min(4, runtime.NumCPU()); !v.kvm {
		v.cpus = min(2, v.cpus)
	}
	return h.bootVM(ctx, v, o)
}

func (h *Host) bootVM(ctx context.Context, v vm, o Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.BootTimeout, fmt.Errorf("boot is not complete after %s", o.BootTimeout))
	defer cancel()
	report(o.Progress, "booting the VM %s (%s, %s, %d CPUs, %d MiB)", o.Name, o.Release, h.state.Addr, v.cpus, v.memory)
	sup, err := supervise(h.state.ID, v.dir, h.base.bridge(), "", v.args())
	if err != nil {
		return err
	}
	h.owner = sup
	h.state.Supervisor = sup.process
	if err := h.base.save(h.state); err != nil {
		return err
	}
	if err := h.awaitSSH(ctx, sup); err != nil {
		return err
	}
	leader, err := os.ReadFile(filepath.Join(v.dir, "leader"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(leader)))
	if err != nil {
		return err
	}
	if h.state.Leader, err = findProcess(pid); err != nil {
		return err
	}
	return h.base.save(h.state)
}

// awaitSSH waits until the VM lets the harness in and its systemd has finished the boot.
func (h *Host) awaitSSH(ctx context.Context, sup *supervisor) error {
	retry := time.NewTicker(500 * time.Millisecond)
	defer retry.Stop()
	for {
		// It says "degraded", and fails, where a unit failed: as a container's boot it counts as complete.
		cmd := h.enter(ctx, "sh", "-c", "systemctl is-system-running --wait || systemctl --failed --no-legend")
		out, err := run(cmd)
		if err == nil {
			if strings.TrimSpace(out) != "running" {
				report(sup.console, "failed units: %s", out)
			}
			return nil
		}
		select {
		case <-retry.C:
		case <-sup.exited:
			return fmt.Errorf("the VM ended during its boot:\n%s", sup.consoleTail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w; last lines of its console:\n%s", context.Cause(ctx), err, sup.consoleTail())
		}
	}
}

// vm is what QEMU's command line depends on.
type vm struct {
	state          state
	dir            string
	image          vmImage
	binds          []vmBind
	key, machineID string
	kvm            bool
	cpus, memory   int // memory in MiB
}

// vmBind is a disk with the file or directory name, for dst in the host.
type vmBind struct{ serial, file, name, dst string }

var validOnCommandLine = regexp.MustCompile(`^[A-Za-z0-9._/+@-]+$`)

func (b vmBind) check() error {
	for _, path := range []string{b.name, b.dst} {
		if !validOnCommandLine.MatchString(path) {
			return fmt.Errorf("bind of %q: a VM gets it on its kernel's command line, where only letters, digits and ._/+@- can stand", path)
		}
	}
	return nil
}

// kernelArgs are the kernel's command line; customize-vm.sh reads what starts with "testhost".
func (v vm) kernelArgs() string {
	args := []string{
		"root=/dev/vda", "rw",
		"rootflags=noinit_itable", // the disk is new: it is zero
		"console=ttyS0", "panic=-1", "mitigations=off",
		// A busy machine delays an emulated clock, and the kernel then distrusts the fast one
		// (the time stamp counter) for one that costs a device access at each reading.
		"tsc=reliable", "clocksource=tsc",
		"net.ifnames=0", // udev leaves the device's name alone
		"systemd.hostname=" + v.state.Name, "systemd.machine_id=" + v.machineID,
		fmt.Sprintf("testhost.address=%s/%d", v.state.Addr, subnetBits), "testhost.gateway=" + v.state.Gateway,
		"testhost.key=" + v.key,
	}
	for _, b := range v.binds {
		args = append(args, fmt.Sprintf("testhost.bind=%s:%s:%s", b.serial, b.name, b.dst))
	}
	return strings.Join(args, " ")
}

// args is the whole command line of QEMU. The disk stays as it is: what the VM writes
// goes to a file in TMPDIR that has no name, so that it ends with QEMU (snapshot=on).
func (v vm) args() []string {
	args := []string{"env", "TMPDIR=" + v.dir}
	accel := []string{"-machine", "q35,accel=kvm", "-cpu", "host"}
	if !v.kvm {
		// An emulated processor takes all the machine has, for long.
		args = append(args, "nice", "-n", "10")
		// Page tables of four levels are walked sooner than those of five.
		accel = []string{"-machine", "q35,hpet=off", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"}
	}
	args = append(append(args, vmBinary), accel...)
	args = append(args,
		"-name", v.state.Name, "-smp", strconv.Itoa(v.cpus), "-m", strconv.Itoa(v.memory)+"M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", v.image.kernel, "-initrd", v.image.initrd, "-append", v.kernelArgs(),
		"-drive", "id=root,if=none,format=raw,snapshot=on,cache=unsafe,discard=unmap,file="+optionValue(v.image.disk),
		"-device", "virtio-blk-pci,drive=root",
		"-netdev", "tap,id=net,script=no,downscript=no,ifname=vb-"+v.state.ID,
		"-device", "virtio-net-pci,netdev=net,romfile=,mac="+macAddress(v.state.ID),
		"-device", "virtio-rng-pci",
		"-chardev", "file,id=console,append=on,path="+optionValue(filepath.Join(v.dir, "console.log")), "-serial", "chardev:console",
	)
	for _, b := range v.binds {
		args = append(args,
			"-drive", "id="+b.serial+",if=none,format=raw,readonly=on,file="+optionValue(b.file),
			"-device", "virtio-blk-pci,drive="+b.serial+",serial="+b.serial)
	}
	return args
}

// optionValue quotes a value of a QEMU option: a comma would end it.
func optionValue(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// macAddress makes a locally administered address of a host's id, which ends in 8
// hexadecimal digits.
func macAddress(id string) string {
	digits := strings.TrimPrefix(id, idPrefix)
	return fmt.Sprintf("52:54:%s:%s:%s:%s", digits[0:2], digits[2:4], digits[4:6], digits[6:8])
}

// guestMemory is the memory of a VM in MiB: vmMemory, or half of what this machine has
// available where that is less.
func guestMemory() (int, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	available, err := parseAvailable(string(data))
	if err != nil {
		return 0, err
	}
	memory := min(vmMemory, available/2)
	if memory < vmMinMemory {
		return 0, fmt.Errorf("%d MiB of memory are available: a VM as test host needs %d MiB, and as much for the rest of the machine", available, vmMinMemory)
	}
	return memory, nil
}

// parseAvailable reads MemAvailable of /proc/meminfo, in MiB.
func parseAvailable(meminfo string) (int, error) {
	for line := range strings.Lines(meminfo) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemAvailable:" {
			kib, err := strconv.Atoi(fields[1])
			return kib >> 10, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}

// kvmTimeout is ample for a kernel to come to its end: it takes about a second.
const kvmTimeout = 20 * time.Second

// kvmWorks boots a kernel with KVM to the point where it finds no root: a /dev/kvm alone
// says little, as nested virtualisation may be there and boot no ordinary kernel. The error
// says why KVM cannot be used.
func kvmWorks(ctx context.Context, kernel string) (bool, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	discard(f)
	ctx, cancel := context.WithTimeoutCause(ctx, kvmTimeout, fmt.Errorf("a kernel did not get far in %s", kvmTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, vmBinary, "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if strings.Contains(out.String(), "Unable to mount root fs") {
		return true, nil
	}
	var t tail
	_, _ = t.Write(out.Bytes())
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return false, fmt.Errorf("KVM boots no kernel: %w\n%s", errors.Join(err, errors.New("no kernel came to its root")), &t)
}

// makeKey makes the key pair of a host and returns the public key, without its type.
func makeKey(ctx context.Context, dir string) (string, error) {
	file := keyFile(dir)
	if _, err := run(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testhost", "-f", file)); err != nil {
		return "", err
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(public))
	if len(fields) < 2 || fields[0] != "ssh-ed25519" {
		return "", fmt.Errorf("unexpected public key %q", public)
	}
	return fields[1], nil
}

func keyFile(dir string) string { return filepath.Join(dir, "key") }

// ssh runs a command as the root of a VM. Who answers on an address of this machine's own
// bridge needs no proof, and the user's configuration does not matter.
func (h *Host) ssh(ctx context.Context, tty bool, args ...string) *exec.Cmd {
	options := []string{
		"-F", "none", "-i", keyFile(h.base.dir(h.state.ID)), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10",
	}
	if tty {
		options = append(options, "-tt")
	}
	words := append([]string{"exec", "env"}, enterEnv()...)
	words = append(words, args...)
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	words[0] = "exec"
	return exec.CommandContext(ctx, "ssh", append(options, "root@"+h.state.Addr, strings.Join(words, " "))...)
}
