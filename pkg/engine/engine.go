// SPDX-License-Identifier: Apache-2.0

// Package engine is the port to a rootless container engine: containers,
// images, networks, exec and copy, and nothing about clusters. Planning,
// bootstrapping and waiting are written once above it; an adapter below it is
// a translation of these neutral structs plus a thin API client. Every
// adapter and the in-memory Fake pass the one suite in enginetest.
//
// It must never import an engine's client, os, os/exec or net/http.
package engine

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"
)

// Adapters map their engine's errors onto these; callers use errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("already exists")
	ErrUnreachable = errors.New("engine not reachable")
	ErrPortInUse   = errors.New("host port already in use")
	// ErrStorageLeft: a container's record is gone, its storage is not, and keeps
	// its name taken. No list shows it, and the engine's API cannot free it.
	ErrStorageLeft = errors.New("storage of a removed container is left")
)

// Engine is one rootless engine.
type Engine interface {
	Containers
	Execer
	Images
	Networks
	// Info describes the engine and what its host delegates to the user.
	Info(ctx context.Context) (Info, error)
	// Close releases the connection, and stops a private API service if one
	// was started for it. The engine's objects stay.
	Close() error
}

// Containers is the life of containers. All methods that take an id accept a
// name too, and wrap ErrNotFound for one that does not exist, except Remove.
type Containers interface {
	// CreateContainer makes a container without starting it and returns its
	// id. It wraps ErrConflict if the name is taken (ErrStorageLeft, if that is
	// by storage alone that cannot be removed), ErrNotFound if the image or network does not
	// exist, and leaves nothing behind on error.
	CreateContainer(ctx context.Context, s ContainerSpec) (id string, err error)
	// StartContainer starts a created or stopped container; starting a
	// running one succeeds. It wraps ErrPortInUse if a published host port is taken.
	StartContainer(ctx context.Context, id string) error
	// StopContainer sends the stop signal, then kills after grace (rounded up
	// to seconds). Stopping a stopped container succeeds.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer removes by force, together with anonymous volumes.
	// An absent container is success. It wraps ErrStorageLeft if the container
	// has gone from the lists, but not from the disk.
	RemoveContainer(ctx context.Context, id string) error
	// ListContainers returns the containers, running or not, that carry every
	// label of sel (an empty value matches any value), ordered by name.
	ListContainers(ctx context.Context, sel map[string]string) ([]Container, error)
	// InspectContainer returns all that the engine says of a container, as JSON:
	// for people, as each engine has its own form. It may hold secrets.
	InspectContainer(ctx context.Context, id string) (json []byte, err error)
	// ContainerLogs writes what the container printed so far (stdout and
	// stderr in one stream, as far as the engine kept their order).
	ContainerLogs(ctx context.Context, id string, w io.Writer) error
}

// Execer acts inside one container.
type Execer interface {
	// Exec runs p in a running container and returns its exit code after all
	// output is drained. A command that cannot be started is an error or exit
	// code 126 or 127. Cancelling ctx returns promptly with ctx's error, after
	// which nothing more is written to p's writers; the process itself may run on.
	// A read from p.Stdin may be pending on return.
	Exec(ctx context.Context, id string, p Process) (exit int, err error)
	// CopyIn unpacks an uncompressed tar stream at dir, with the owners and
	// modes of its entries. dir must exist: some engines create it, others
	// wrap ErrNotFound. It works on created, running and stopped containers.
	// Entries must lie on the same mount as dir does: what a tar at / holds for
	// a volume or a tmpfs may be hidden by it. A container that was never
	// started has no mounts to copy to: Podman 4 would keep the image's content
	// out of a volume that is not empty when it starts, and a tmpfs starts empty.
	CopyIn(ctx context.Context, id, dir string, tar io.Reader) error
	// CopyOut returns path (a file or directory) as a tar stream; the caller
	// closes it. It wraps ErrNotFound if path does not exist.
	CopyOut(ctx context.Context, id, path string) (io.ReadCloser, error)
}

// Images is the engine's image store.
type Images interface {
	// InspectImage wraps ErrNotFound if ref is not in the store.
	InspectImage(ctx context.Context, ref string) (Image, error)
	// ListImages returns the references of all images in the store, sorted;
	// an image without one is left out.
	ListImages(ctx context.Context) (refs []string, err error)
	// LoadImage reads an image archive (OCI or docker, not compressed) into the store and returns
	// the references it has now.
	LoadImage(ctx context.Context, archive io.Reader) (refs []string, err error)
	// SaveImages returns an archive of images in the format of "docker save"
	// (manifest.json), with their layers for the platforms that the store has;
	// the caller closes it. It wraps ErrNotFound if one is not in the store. An
	// error while the archive is made may show as an archive that ends too early.
	SaveImages(ctx context.Context, refs []string) (io.ReadCloser, error)
	// PullImage fetches ref from its registry.
	PullImage(ctx context.Context, ref string) error
	// RemoveImage removes ref; an absent image is success, one that a
	// container uses is an error.
	RemoveImage(ctx context.Context, ref string) error
}

// Networks is the engine's user-defined bridge networks.
type Networks interface {
	// CreateNetwork wraps ErrConflict if the name or the subnet is taken.
	CreateNetwork(ctx context.Context, n NetworkSpec) error
	// ListNetworks returns the networks that carry every label of sel (an
	// empty value matches any value), all networks if sel is empty; ordered by name.
	ListNetworks(ctx context.Context, sel map[string]string) ([]Network, error)
	// RemoveNetwork removes by name; an absent network is success, one with a
	// running container is an error.
	RemoveNetwork(ctx context.Context, name string) error
	// ConnectNetwork attaches a container that has a network, running or not, to a
	// further one, with a static address there. It wraps ErrNotFound if either does
	// not exist, ErrConflict if the container is attached to it already. An error
	// leaves the container as it was.
	ConnectNetwork(ctx context.Context, network, id string, ip netip.Addr) error
	// DisconnectNetwork undoes that. A container or network that does not exist,
	// and one that is not attached, is success.
	DisconnectNetwork(ctx context.Context, network, id string) error
}

// Info is what an engine says of itself.
type Info struct {
	Name          string   `json:"name"`          // "podman" or "docker"
	Version       string   `json:"version"`       // server version, e.g. "5.4.2"
	Rootless      bool     `json:"rootless"`      // false: a rootful engine
	CgroupVersion int      `json:"cgroupVersion"` // 1 or 2
	CgroupManager string   `json:"cgroupManager"` // "systemd", "cgroupfs" or ""
	Controllers   []string `json:"controllers"`   // cgroup v2 controllers that containers can use, sorted
	OCIRuntime    string   `json:"ociRuntime"`    // default runtime, e.g. "crun"
	StorageDriver string   `json:"storageDriver"` // e.g. "overlay", "vfs"
	GraphRoot     string   `json:"graphRoot"`     // where the engine stores images and containers, a path on its host
	NativeOverlay bool     `json:"nativeOverlay"` // the storage driver uses the kernel's overlayfs (not fuse-overlayfs, not vfs)
	Socket        string   `json:"socket"`        // how it was reached, for messages

	// What follows is empty where an engine does not say it.

	NetworkDriver string `json:"networkDriver,omitempty"` // what gives the rootless network its way out: "pasta", "slirp4netns" …
	RootlessKit   string `json:"rootlessKit,omitempty"`   // version of RootlessKit, for engines that run under it
	PortDriver    string `json:"portDriver,omitempty"`    // RootlessKit's way to publish ports: "builtin", "slirp4netns" …
	UIDs          int64  `json:"uids,omitempty"`          // user ids in the engine's user namespace
	GIDs          int64  `json:"gids,omitempty"`          // group ids in the engine's user namespace
}

// ContainerSpec describes a container in neutral terms. The zero value of a
// field means the engine's default.
type ContainerSpec struct {
	Name       string            `json:"name"`
	Image      string            `json:"image"`
	Hostname   string            `json:"hostname,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"` // default: the image's
	Command    []string          `json:"command,omitempty"`    // default: the image's

	Privileged bool `json:"privileged,omitempty"`
	// Systemd says that the container's init is systemd (Podman sets up what it wants; on Docker it changes nothing).
	Systemd bool `json:"systemd,omitempty"`
	// CgroupNS is "private" or "host".
	CgroupNS string `json:"cgroupNS,omitempty"`
	// PidsLimit: nil is the engine's default, 0 and below is no limit.
	PidsLimit *int64 `json:"pidsLimit,omitempty"`

	Tmpfs   map[string]string `json:"tmpfs,omitempty"`   // path -> options, e.g. "/tmp" -> ""
	Volumes []string          `json:"volumes,omitempty"` // container paths that get an anonymous volume with the image's content
	// EmptyVolumes leaves out that content. (It is a third of what creating and
	// starting costs with Podman 5, which runs two processes to copy it.)
	EmptyVolumes bool              `json:"emptyVolumes,omitempty"`
	Mounts       []BindMount       `json:"mounts,omitempty"`
	Devices      []string          `json:"devices,omitempty"` // host paths, same path inside
	Sysctls      map[string]string `json:"sysctls,omitempty"`

	Network string        `json:"network,omitempty"` // a user-defined network's name
	IP      netip.Addr    `json:"ip,omitzero"`       // static address in Network
	IPv6    netip.Addr    `json:"ipv6,omitzero"`     // a second one, in Network's IPv6Subnet
	Aliases []string      `json:"aliases,omitempty"` // further DNS names in Network
	Ports   []PortMapping `json:"ports,omitempty"`
	// DNSSearch are the search domains in /etc/resolv.conf: nil is the
	// engine's default, an empty list none.
	DNSSearch []string `json:"dnsSearch,omitzero"`
	// Hosts are further lines of /etc/hosts, which the engine writes at each start.
	Hosts []Host `json:"hosts,omitempty"`

	// NanoCPUs is the CPU time that the container may use, in billionths of a
	// CPU; 0 is no limit. It needs the cgroup controller cpu.
	NanoCPUs int64 `json:"nanoCPUs,omitempty"`
	// Memory is what the container may use, in bytes, with no swap beside it; 0
	// is no limit. It needs the cgroup controller memory.
	Memory int64 `json:"memory,omitempty"`

	StopSignal string `json:"stopSignal,omitempty"`
	// RestartPolicy is "", "no", "on-failure" or "unless-stopped".
	RestartPolicy string `json:"restartPolicy,omitempty"`
}

// Host is the address of names, a line of /etc/hosts.
type Host struct {
	IP    netip.Addr `json:"ip"`
	Names []string   `json:"names"`
}

// BindMount mounts a host path.
type BindMount struct {
	Source   string `json:"source"` // absolute; it must exist
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Slave lets mounts that the host makes below Source later appear in the
	// container (propagation "rslave"); without, none do ("rprivate").
	Slave bool `json:"slave,omitempty"`
	// Relabel gives Source the SELinux label of this container alone.
	Relabel bool `json:"relabel,omitempty"`
}

// PortMapping publishes a container port on the host.
type PortMapping struct {
	HostIP        netip.Addr `json:"hostIP"`
	HostPort      uint16     `json:"hostPort"` // 0: the engine picks a free one
	ContainerPort uint16     `json:"containerPort"`
	Protocol      string     `json:"protocol"` // "tcp", "udp" or "sctp"
}

// Container is a container as the engine reports it.
type Container struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Image    string            `json:"image"`
	Labels   map[string]string `json:"labels"`
	State    State             `json:"state"`
	ExitCode int               `json:"exitCode"`
	IP       netip.Addr        `json:"ip,omitzero"` // in its (first) user-defined network, if known
	Ports    []PortMapping     `json:"ports"`
	Created  time.Time         `json:"created"`
}

// State is a container's state.
type State string

// The states that rk tells apart.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
	StateOther   State = "other" // paused, removing, dead …
)

// Process is a command to run in a container.
type Process struct {
	Argv   []string
	Env    map[string]string
	User   string    // default: root
	Dir    string    // default: the image's
	Stdin  io.Reader // nil: no standard input
	Stdout io.Writer // nil: discarded
	Stderr io.Writer // nil: discarded
	// TTY runs the process on a terminal of its own: what it prints, on both
	// streams, comes to Stdout as the terminal shows it. Default: no terminal.
	TTY *TTY
}

// TTY is the terminal of a process in a container.
type TTY struct {
	Size TTYSize // at the start; the zero size is the engine's default
	// Resize changes the size while the process runs; nil: it stays. Sizes are
	// taken until Exec returns; one that the engine refuses is dropped.
	Resize <-chan TTYSize
}

// TTYSize is the size of a terminal in characters.
type TTYSize struct{ Rows, Columns uint16 }

// Image is an image in the engine's store.
type Image struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels"`
	Size   int64             `json:"size"` // bytes
	Arch   string            `json:"arch"` // GOARCH
}

// NetworkSpec describes a bridge network.
type NetworkSpec struct {
	Name   string            `json:"name"`
	Subnet netip.Prefix      `json:"subnet,omitzero"` // not valid: the engine picks a free one
	Labels map[string]string `json:"labels,omitempty"`
	MTU    int               `json:"mtu,omitempty"` // 0: the engine's default
	// IPv6Subnet makes a dual-stack network; Subnet is then of IPv4.
	IPv6Subnet netip.Prefix `json:"ipv6Subnet,omitzero"`
}

// Network is a network as the engine reports it.
type Network struct {
	Name    string            `json:"name"`
	Subnets []netip.Prefix    `json:"subnets"`
	Labels  map[string]string `json:"labels"`
}
