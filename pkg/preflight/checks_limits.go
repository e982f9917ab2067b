// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const (
	gib = 1 << 30
	// neededDisk is what the node image takes when it is loaded for the first
	// time, and what a few nodes write; bytes.
	neededDisk = 3 * gib
	// neededMemory is what one node with a control plane takes at rest, and a little; bytes.
	neededMemory = 3 * gib / 2
)

// network file systems and others that cannot hold containers.
var remote = []string{"nfs", "cifs", "smb2", "9p", "afs", "ceph", "fuse.sshfs", "lustre", "gpfs"}

var limitChecks = []check{
	{
		problem: problem.FewTasks, name: "processes", level: Recommended,
		why: "All processes and threads of all nodes are the user's. A node with a control plane has about 300, each pod some more.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Tasks.Known:
				return dunno(f.Tasks.Why)
			case f.Tasks.Value < 4096:
				return fail(fmt.Sprintf("at most %d", f.Tasks.Value), Fix{
					Steps: []Step{
						write("/etc/systemd/system/user-.slice.d/90-rk-tasks.conf", "[Slice]", "TasksMax=65536"),
						write("/etc/security/limits.d/90-rk-nproc.conf", f.User.Name+" soft nproc 65536", f.User.Name+" hard nproc 65536"),
						asRoot("systemctl daemon-reload"),
					}, After: "Log out of all sessions and in again; with lingering, reboot.",
				})
			case f.Tasks.Value == noLimit:
				return pass("no limit")
			}
			return pass(fmt.Sprintf("at most %d", f.Tasks.Value))
		},
	},
	{
		problem: problem.FewFiles, name: "open files", level: Recommended,
		why: "etcd, containerd and workloads in nodes raise their limit of open files as far as the user's own hard limit allows.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Files.Known:
				return dunno(f.Files.Why)
			case f.Files.Value < 64000:
				return fail(fmt.Sprintf("the hard limit is %d", f.Files.Value), Fix{
					Steps: []Step{
						write("/etc/security/limits.d/90-rk-nofile.conf", f.User.Name+" hard nofile 524288"),
						write("/etc/systemd/system/user@.service.d/90-rk-nofile.conf", "[Service]", "LimitNOFILE=1024:524288"),
						asRoot("systemctl daemon-reload"),
					}, After: "Log out of all sessions and in again; with lingering, reboot.",
				})
			case f.Files.Value == noLimit:
				return pass("no limit")
			}
			return pass(fmt.Sprintf("the hard limit is %d", f.Files.Value))
		},
	},
	{
		problem: problem.LittleMemory, name: "memory", level: Recommended,
		why: "A node with a control plane takes about 1 GiB before any pod of yours runs, a worker about 300 MiB.",
		look: func(f *Facts) verdict {
			switch {
			case !f.Memory.Known:
				return dunno(f.Memory.Why)
			case f.Memory.Value < neededMemory:
				return fail(size(f.Memory.Value)+" are available", note("Stop what is not needed, give the machine more memory, or raise the limit of the container or slice that the user is in. 'rk get clusters' lists clusters that may be deleted."))
			}
			return pass(size(f.Memory.Value) + " are available")
		},
	},
}

// noLimit is how "max" and "unlimited" are noted.
const noLimit = ^uint64(0)

func size(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/gib) }

var storageChecks = []check{
	{
		problem: problem.DiskFull, name: "disk space", level: Recommended,
		wrong: "little space is left where the engine keeps images",
		why:   "The node image takes about 2 GiB of the engine's storage once, for all nodes; loading it needs space for a while too. The kubelet stops pods when the disk is nearly full.",
		look: func(f *Facts) verdict {
			switch s := f.Storage.Value; {
			case !f.Storage.Known:
				return dunno(f.Storage.Why)
			case s.Free < gib/2:
				return fail(size(s.Free)+" are free in "+s.Path, f.freeDisk()).at(Required)
			case s.Free < neededDisk:
				return fail(size(s.Free)+" are free in "+s.Path, f.freeDisk())
			default:
				return pass(size(s.Free) + " are free in " + s.Path)
			}
		},
	},
	{
		problem: problem.StorageSlow, name: "storage driver of the engine", level: Recommended,
		why: "Without overlayfs, the engine copies the whole node image, 2 GiB, for every node.",
		look: func(f *Facts) verdict {
			switch e := f.Engine.Value; {
			case !f.Engine.Known:
				return dunno("the engine does not answer")
			case e.StorageDriver != "vfs":
				return pass(e.StorageDriver)
			case f.docker():
				return fail("vfs", note("Set \"storage-driver\": \"overlay2\" (or fuse-overlayfs) in ~/.config/docker/daemon.json, and restart Docker. Its images and containers are not taken over."))
			}
			return fail("vfs", Fix{
				Note:  "This removes all images and containers of the engine:",
				Steps: []Step{asUser("podman system reset --force"), asUser(`mkdir -p ~/.config/containers && printf '[storage]\ndriver = "overlay"\n' >~/.config/containers/storage.conf`), asUser("systemctl --user try-restart podman.service")},
			})
		},
	},
	{
		problem: problem.NoOverlay, name: "overlayfs for nodes", level: Required,
		why: "containerd in a node stacks the layers of images with overlayfs, or, where the kernel or the file system does not allow that in a user namespace, with fuse-overlayfs, which needs /dev/fuse.",
		look: func(f *Facts) verdict {
			switch {
			case f.Overlay.Known && f.Overlay.Value == "":
				return pass("overlayfs works in a user namespace")
			case f.Fuse.Known && f.Fuse.Value == "":
				if !f.Overlay.Known {
					return pass("fuse-overlayfs can be used (overlayfs: " + f.Overlay.Why + ")")
				}
				return pass("fuse-overlayfs is used (overlayfs: " + f.Overlay.Value + ")")
			case !f.Overlay.Known:
				return dunno("overlayfs: " + f.Overlay.Why + "; fuse-overlayfs: " + f.Fuse.Value + f.Fuse.Why)
			}
			return fail("overlayfs: "+f.Overlay.Value+"; fuse-overlayfs: "+f.Fuse.Value+f.Fuse.Why, device("/dev/fuse", f.Fuse.Value, "fuse"))
		},
	},
	{
		problem: problem.StorageRemote, name: "file system of the engine's storage", level: Required,
		why: "Images and containers need files of many owners with their attributes, which network file systems do not give an ordinary user. A file system in memory works, but takes the memory that nodes need and is empty after a reboot.",
		look: func(f *Facts) verdict {
			s := f.Storage.Value
			if !f.Storage.Known {
				return dunno(f.Storage.Why)
			}
			for _, r := range remote {
				if strings.HasPrefix(s.FS, r) {
					return fail(s.Path+" is on "+s.FS, f.moveStorage())
				}
			}
			if s.FS == "tmpfs" || s.FS == "ramfs" {
				return fail(s.Path+" is on "+s.FS, f.moveStorage()).at(Recommended)
			}
			if s.Foreign {
				return pass(s.FS + ", in the engine's own view")
			}
			return pass(s.FS)
		},
	},
}

func (f *Facts) freeDisk() Fix {
	if f.docker() {
		return Fix{Note: "Free space, for example by removing images that no container uses:", Steps: []Step{asUser("docker image prune --force")}}
	}
	return Fix{Note: "Free space, for example by removing images without a name that no container uses:", Steps: []Step{asUser("podman image prune --force")}}
}

func (f *Facts) moveStorage() Fix {
	if f.docker() {
		return note("Set \"data-root\" in ~/.config/docker/daemon.json to a directory of yours on a local disk, and restart Docker.")
	}
	return note("Set graphroot in the [storage] section of ~/.config/containers/storage.conf to a directory of yours on a local disk, then run 'podman system reset'.")
}
