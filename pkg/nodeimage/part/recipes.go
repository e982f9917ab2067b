// SPDX-License-Identifier: Apache-2.0

package part

import (
	"path"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/images/pause"
	"github.com/rootless-kubernetes/rk/node-image/await"
	"github.com/rootless-kubernetes/rk/node-image/registry"
)

// recipes says, for each part that is the same for every Kubernetes release,
// what is compiled and how. Tags and stamps follow the projects' own Makefiles.
var recipes = map[string]func(PinnedPart) Part{
	"await": func(p PinnedPart) Part { return own(p, await.Source) },
	"cni-flannel": func(p PinnedPart) Part {
		part := pinned(p, "plugins/meta/flannel")
		part.Stamps = map[string]string{p.Module + "/pkg/utils/buildversion.BuildVersion": p.Version}
		return part
	},
	"cni-plugins": func(p PinnedPart) Part {
		part := pinned(p,
			"plugins/ipam/host-local", "plugins/main/bridge", "plugins/main/loopback", "plugins/main/ptp",
			"plugins/meta/bandwidth", "plugins/meta/firewall", "plugins/meta/portmap", "plugins/meta/tuning")
		part.Stamps = map[string]string{p.Module + "/pkg/utils/buildversion.BuildVersion": p.Version}
		return part
	},
	"containerd": func(p PinnedPart) Part {
		// The snapshotters that a node never uses are left out; each would
		// probe the system at every start of containerd.
		tags := []string{"no_btrfs", "no_devmapper", "no_zfs", "urfave_cli_no_docs"}
		part := pinned(p, "cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr")
		for i := range part.Binaries {
			part.Binaries[i].Tags = tags
		}
		// A shim runs beside each pod: ttrpc alone keeps it small.
		part.Binaries[1].Tags = append([]string{"no_grpc"}, tags...)
		part.Stamps = map[string]string{p.Module + "/version.Version": p.Version}
		return part
	},
	"coredns": func(p PinnedPart) Part {
		part := pinned(p, "")
		part.Binaries[0].Tags = []string{"grpcnotrace"}
		return part
	},
	"crictl": func(p PinnedPart) Part {
		part := pinned(p, "cmd/crictl")
		part.Stamps = map[string]string{p.Module + "/pkg/version.Version": p.Version}
		return part
	},
	"etcd": func(p PinnedPart) Part {
		part := pinned(p, "")
		part.Binaries[0].Name = "etcd"
		return part
	},
	"flannel": func(p PinnedPart) Part {
		part := pinned(p, "")
		part.Binaries[0].Name = "flanneld"
		part.Cgo = true // its UDP backend is C
		part.CArch = "amd64"
		part.Stamps = map[string]string{p.Module + "/pkg/version.Version": p.Version}
		return part
	},
	"fuse-overlayfs-snapshotter": func(p PinnedPart) Part {
		part := pinned(p, "cmd/containerd-fuse-overlayfs-grpc")
		part.Stamps = map[string]string{p.Module + "/cmd/containerd-fuse-overlayfs-grpc/version.Version": p.Version}
		return part
	},
	"local-path-provisioner": func(p PinnedPart) Part {
		part := pinned(p, "")
		part.Stamps = map[string]string{"main.VERSION": p.Version}
		return part
	},
	"pause": func(p PinnedPart) Part { return own(p, pause.Source) },
	"registry": func(p PinnedPart) Part {
		return Part{
			Name: p.Name, Module: p.Module, Version: p.Version, Source: registry.Source,
			Binaries: []Binary{{Name: "registry", Package: "main.go"}}, // by name, as the build of rk itself ignores it
			Stamps:   map[string]string{p.Module + "/version.version": p.Version},
		}
	},
	"runc": func(p PinnedPart) Part {
		part := pinned(p, "")
		part.Cgo = true // nsexec and libseccomp are C
		part.CLibs = []string{"seccomp"}
		part.Binaries[0].Tags = []string{"netgo", "osusergo", "seccomp", "urfave_cli_no_docs"}
		return part
	},
}

// own returns the part of a program whose source is in this repository.
func own(p PinnedPart, source []byte) Part {
	return Part{
		Name: p.Name, Version: p.Version, Source: source,
		Binaries: []Binary{{Name: p.Name, Package: "."}},
		Stamps:   map[string]string{"main.version": p.Version},
	}
}

// pinned returns the part with a program for each package below its module,
// named like its last element.
func pinned(p PinnedPart, packages ...string) Part {
	part := Part{Name: p.Name, Module: p.Module, Version: p.Version}
	for _, pkg := range packages {
		full := path.Join(p.Module, pkg)
		part.Binaries = append(part.Binaries, Binary{Name: path.Base(full), Package: full})
	}
	return part
}

// kubernetesPrefix begins the names of the parts that hold Kubernetes releases.
const kubernetesPrefix = "kubernetes-"

// kubernetes returns the part that holds the programs of a release. Tags and
// stamps are those of the project's hack/lib/golang.sh and hack/lib/version.sh.
func kubernetes(r Release) Part {
	const module = "k8s.io/kubernetes"
	major, minor, _ := strings.Cut(strings.TrimPrefix(minorOf(r.Version), "v"), ".")
	p := pinned(PinnedPart{Name: kubernetesPrefix + minorOf(r.Version), Module: module, Version: r.Version},
		"cmd/kube-apiserver", "cmd/kube-controller-manager", "cmd/kube-proxy", "cmd/kube-scheduler",
		"cmd/kubeadm", "cmd/kubectl", "cmd/kubelet")
	for i := range p.Binaries {
		p.Binaries[i].Tags = []string{"grpcnotrace", "notest", "selinux"}
	}
	p.Stamps = map[string]string{}
	for _, pkg := range []string{"k8s.io/client-go/pkg/version", "k8s.io/component-base/version"} {
		p.Stamps[pkg+".gitVersion"] = r.Version
		p.Stamps[pkg+".gitMajor"] = major
		p.Stamps[pkg+".gitMinor"] = minor
		p.Stamps[pkg+".gitCommit"] = "" // a module does not carry it
		p.Stamps[pkg+".gitTreeState"] = "archive"
		p.Stamps[pkg+".buildDate"] = r.Released.UTC().Format(time.RFC3339)
	}
	return p
}
