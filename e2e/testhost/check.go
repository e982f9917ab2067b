// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// debianPackages tells for each command that the harness runs where Debian has it.
var debianPackages = map[string]string{
	"mmdebstrap":     "mmdebstrap",
	"systemd-nspawn": "systemd-container",
	"systemd-run":    "systemd",
	"ip":             "iproute2",
	"unshare":        "util-linux",
	"nsenter":        "util-linux",
	"setpriv":        "util-linux",
	"flock":          "util-linux",
	"mountpoint":     "util-linux",
	"bash":           "bash",
	"tar":            "tar",
	vmBinary:         "qemu-system-x86",
	"mke2fs":         "e2fsprogs",
	"ssh":            "openssh-client",
	"ssh-keygen":     "openssh-client",
}

func needTools(names ...string) error {
	var missing, packages []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
			packages = append(packages, debianPackages[name])
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("not found: %s: apt-get install %s", strings.Join(missing, ", "), strings.Join(packages, " "))
}

// check tells what keeps hosts from running on this machine, each with the fix.
func (b *base) check() error {
	if os.Geteuid() != 0 {
		return errors.New("test hosts need root (mounts, cgroups, network devices): run this as root, for example with sudo -E")
	}
	errs := []error{needTools("systemd-nspawn", "ip", "unshare", "nsenter", "setpriv", "flock", "mountpoint", "bash", "tar")}
	if onSystemd() {
		errs = append(errs, needTools("systemd-run"))
	}
	return errors.Join(append(errs, checkUserNamespaces(os.DirFS("/proc/sys")), b.checkFileSystem())...)
}

// checkUserNamespaces finds the settings, in a tree like /proc/sys, that keep an
// unprivileged user from making user namespaces. They hold in containers, too.
func checkUserNamespaces(sysctls fs.FS) error {
	var errs []error
	for _, c := range []struct{ key, bad, fix string }{
		{"user.max_user_namespaces", "0", "15000"},
		{"kernel.unprivileged_userns_clone", "0", "1"},             // Debian's patch
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu since 23.10
	} {
		value, err := fs.ReadFile(sysctls, strings.ReplaceAll(c.key, ".", "/"))
		if err == nil && strings.TrimSpace(string(value)) == c.bad {
			errs = append(errs, fmt.Errorf("users may not make user namespaces (%s is %s): sysctl -w %s=%s", c.key, c.bad, c.key, c.fix))
		}
	}
	return errors.Join(errs...)
}

// checkFileSystem refuses overlayfs under the base: it would have to hold the upper
// directories of an overlayfs.
func (b *base) checkFileSystem() error {
	if err := os.MkdirAll(b.path, 0o755); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.path, &st); err != nil {
		return fmt.Errorf("%s: %w", b.path, err)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s lies on overlayfs, which cannot be stacked: set RK_TESTHOST_DIR to a directory on a disk file system (a volume, in a container)", b.path)
	}
	return nil
}
