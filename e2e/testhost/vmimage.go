// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// vmDiskBytes is the size of a VM's disk. The file is sparse, and what a host writes
// goes to a file of its own.
const vmDiskBytes = 24 << 30

//go:embed customize-vm.sh
var customizeVMScript string

// vmImage is what VMs of a release boot from.
type vmImage struct{ kernel, initrd, disk string }

// vmPackages are the Debian packages of a VM: those of a container, a kernel and what
// only a machine needs.
func (r Release) vmPackages() []string {
	return append(r.packages(), "udev", "initramfs-tools", "linux-image-cloud-"+runtime.GOARCH, "openssh-server")
}

func (r Release) vmKey() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%q\n%d\n%s\n%s", runtime.GOARCH, r, r.vmPackages(), vmDiskBytes, customizeScript, customizeVMScript))
	return string(r) + "-vm-" + hex.EncodeToString(sum[:8])
}

// BuildVM makes the kernel and the disk that VMs of a release boot from, unless they are
// in the cache, and returns their directory. It needs Debian's archive then, takes a few
// minutes and 1.5 GB; progress gets mmdebstrap's messages.
func BuildVM(ctx context.Context, r Release, progress io.Writer) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	b, err := defaultBase()
	if err != nil {
		return "", err
	}
	if err := errors.Join(b.check(), checkVM()); err != nil {
		return "", err
	}
	image, err := b.buildVM(ctx, r, progress)
	return filepath.Dir(image.disk), err
}

func (b *base) buildVM(ctx context.Context, r Release, progress io.Writer) (vmImage, error) {
	dir, err := b.cached(ctx, r.vmKey(), "disk.img", progress, func(tmp string) error {
		report(progress, "building a virtual machine of Debian %s", r)
		if err := bootstrap(ctx, tmp, r, r.bootstrapArgs(r.vmPackages()), []string{customizeScript, customizeVMScript}, progress); err != nil {
			return err
		}
		rootfs := filepath.Join(tmp, "rootfs")
		for _, name := range []string{"vmlinuz", "initrd.img"} {
			found, err := filepath.Glob(filepath.Join(rootfs, "boot", name+"-*"))
			if err != nil {
				return err
			}
			if len(found) != 1 {
				return fmt.Errorf("one kernel was expected in /boot, found %q", found)
			}
			if err := os.Rename(found[0], filepath.Join(tmp, name)); err != nil {
				return err
			}
		}
		if err := makeDisk(ctx, rootfs, filepath.Join(tmp, "disk.img"), vmDiskBytes); err != nil {
			return err
		}
		return os.RemoveAll(rootfs)
	})
	return vmImage{
		kernel: filepath.Join(dir, "vmlinuz"), initrd: filepath.Join(dir, "initrd.img"), disk: filepath.Join(dir, "disk.img"),
	}, err
}

// makeDisk makes the sparse file disk, an ext4 file system with the content of dir.
func makeDisk(ctx context.Context, dir, disk string, size int64) error {
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(disk, size); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", "-d", dir, disk)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	_, err := run(cmd)
	return err
}

// bindDisk makes a disk of the file or directory src, and returns the name of src in it:
// "." is a directory's content.
func bindDisk(ctx context.Context, src, disk string) (name string, err error) {
	info, err := os.Stat(src)
	if err != nil {
		return "", err
	}
	name = "."
	dir := src
	if !info.IsDir() {
		// mke2fs copies directories only.
		name, dir = filepath.Base(src), disk+".d"
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if _, err := run(exec.CommandContext(ctx, "cp", "--dereference", "--preserve=mode,timestamps", "--reflink=auto", src, filepath.Join(dir, name))); err != nil {
			return "", err
		}
	}
	// A block that is not full, the inode and the directory entry of each file, and a
	// twelfth and 64 MiB for the file system itself.
	size := int64(64 << 20)
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size() + 16<<10
		return nil
	})
	if err != nil {
		return "", err
	}
	return name, makeDisk(ctx, dir, disk, size+size/12)
}
