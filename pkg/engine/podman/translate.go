// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/domain/entities/types"
	"github.com/containers/podman/v5/pkg/specgen"
	"github.com/opencontainers/runtime-spec/specs-go"
	nettypes "go.podman.io/common/libnetwork/types"
	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// defaultNetwork is the bridge that Podman always has.
const defaultNetwork = "podman"

// noSearch stands for no search domain (podman-create(1), --dns-search).
const noSearch = "."

// sigRTMin is glibc's first real-time signal: the kernel's 32, and two that
// the C library keeps (signal(7)).
const sigRTMin = 34

var errSignal = errors.New("unknown signal")

// containerSpec translates what CreateContainer is asked for.
func containerSpec(s engine.ContainerSpec) (*specgen.SpecGenerator, error) {
	g := specgen.NewSpecGenerator(s.Image, false)
	g.RawImageName = s.Image
	g.Name, g.Hostname, g.Labels, g.Env = s.Name, s.Hostname, s.Labels, s.Env
	g.Entrypoint, g.Command = s.Entrypoint, s.Command
	g.Sysctl, g.RestartPolicy = s.Sysctls, s.RestartPolicy
	g.Privileged = &s.Privileged
	// Logs in a file of the container's own can be read back in full on every
	// host; the journal, Podman's usual choice, depends on the host's set-up.
	g.LogConfiguration = &specgen.LogConfig{Driver: define.KubernetesLogging}
	if s.Systemd {
		g.Systemd = "always"
	}
	if s.CgroupNS != "" {
		g.CgroupNS = specgen.Namespace{NSMode: specgen.NamespaceMode(s.CgroupNS)}
	}
	g.ResourceLimits = limits(s)
	g.HostAdd = hosts(s.Hosts)
	// Podman would put the proxies of its service's environment into the container's.
	g.HTTPProxy = new(bool)
	if s.StopSignal != "" {
		signal, err := parseSignal(s.StopSignal)
		if err != nil {
			return nil, err
		}
		g.StopSignal = &signal
	}
	g.Mounts = mounts(s)
	for _, path := range s.Volumes {
		volume := &specgen.NamedVolume{Dest: path}
		if s.EmptyVolumes {
			volume.Options = []string{"nocopy"}
		}
		g.Volumes = append(g.Volumes, volume)
	}
	for _, path := range s.Devices {
		g.Devices = append(g.Devices, specs.LinuxDevice{Path: path})
	}
	if s.Network != "" {
		options := nettypes.PerNetworkOptions{Aliases: s.Aliases}
		for _, ip := range []netip.Addr{s.IP, s.IPv6} {
			if ip.IsValid() {
				options.StaticIPs = append(options.StaticIPs, ip.AsSlice())
			}
		}
		g.NetNS = specgen.Namespace{NSMode: specgen.Bridge}
		g.Networks = map[string]nettypes.PerNetworkOptions{s.Network: options}
	}
	g.DNSSearch = s.DNSSearch
	if s.DNSSearch != nil && len(s.DNSSearch) == 0 {
		g.DNSSearch = []string{noSearch}
	}
	for _, p := range s.Ports {
		g.PortMappings = append(g.PortMappings, portMapping(p))
	}
	return g, nil
}

// cpuPeriod is the kernel's default for the CPU controller, in microseconds.
const cpuPeriod = 100_000

// limits translates limits of resources; nil is Podman's defaults.
func limits(s engine.ContainerSpec) *specs.LinuxResources {
	var r specs.LinuxResources
	if s.PidsLimit != nil {
		// 0 is no limit and needs no pids controller; Podman drops it where
		// there is none, which it does not do for a negative number.
		r.Pids = &specs.LinuxPids{Limit: max(*s.PidsLimit, 0)}
	}
	if s.NanoCPUs > 0 {
		period, quota := uint64(cpuPeriod), s.NanoCPUs*cpuPeriod/1_000_000_000
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if s.Memory > 0 {
		// Swap is of memory and swap together: none.
		r.Memory = &specs.LinuxMemory{Limit: &s.Memory, Swap: &s.Memory}
	}
	if r.Pids == nil && r.CPU == nil && r.Memory == nil {
		return nil
	}
	return &r
}

// hosts are lines of /etc/hosts, each with one name.
func hosts(list []engine.Host) []string {
	var out []string
	for _, h := range list {
		for _, name := range h.Names {
			out = append(out, name+":"+h.IP.String())
		}
	}
	return out
}

// mounts translates tmpfs and bind mounts, ordered by path so that the result
// depends on the spec alone.
func mounts(s engine.ContainerSpec) []specs.Mount {
	var list []specs.Mount
	for _, path := range slices.Sorted(maps.Keys(s.Tmpfs)) {
		m := specs.Mount{Type: define.TypeTmpfs, Source: define.TypeTmpfs, Destination: path}
		if options := s.Tmpfs[path]; options != "" {
			m.Options = strings.Split(options, ",")
		}
		list = append(list, m)
	}
	for _, b := range s.Mounts {
		access := "rw"
		if b.ReadOnly {
			access = "ro"
		}
		options := []string{"rbind", access}
		if b.Slave {
			options = append(options, "rslave")
		}
		if b.Relabel {
			options = append(options, "Z")
		}
		list = append(list, specs.Mount{Type: define.TypeBind, Source: b.Source, Destination: b.Target, Options: options})
	}
	return list
}

func portMapping(p engine.PortMapping) nettypes.PortMapping {
	m := nettypes.PortMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol, Range: 1}
	if p.HostIP.IsValid() {
		m.HostIP = p.HostIP.String()
	}
	return m
}

// parseSignal understands names of signals, with real-time signals as
// SIGRTMIN+N. It knows what systemd wants, as the server expects a number.
func parseSignal(name string) (syscall.Signal, error) {
	if offset, ok := strings.CutPrefix(name, "SIGRTMIN+"); ok {
		n, err := strconv.ParseUint(offset, 10, 8)
		if err != nil || n > 30 {
			return 0, fmt.Errorf("%w %q", errSignal, name)
		}
		return syscall.Signal(sigRTMin + n), nil
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("%w %q", errSignal, name)
}

// networkSpec translates what CreateNetwork is asked for.
func networkSpec(n engine.NetworkSpec) *nettypes.Network {
	network := &nettypes.Network{
		Name: n.Name, Driver: nettypes.BridgeNetworkDriver, DNSEnabled: true, Labels: n.Labels,
		IPv6Enabled: n.Subnet.Addr().Is6() || n.IPv6Subnet.IsValid(),
	}
	for _, p := range []netip.Prefix{n.Subnet, n.IPv6Subnet} {
		if p.IsValid() {
			network.Subnets = append(network.Subnets, nettypes.Subnet{Subnet: nettypes.IPNet{IPNet: net.IPNet{
				IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
			}}})
		}
	}
	if n.MTU > 0 {
		network.Options = map[string]string{nettypes.MTUOption: strconv.Itoa(n.MTU)}
	}
	return network
}

// network translates a network that Podman reports.
func network(n nettypes.Network) engine.Network {
	out := engine.Network{Name: n.Name, Labels: n.Labels}
	for _, s := range n.Subnets {
		if ip, ok := netip.AddrFromSlice(s.Subnet.IP); ok {
			ones, _ := s.Subnet.Mask.Size()
			out.Subnets = append(out.Subnets, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return out
}

// container translates a container of Podman's list, which has no addresses.
func container(l types.ListContainer) engine.Container {
	c := engine.Container{
		ID: l.ID, Image: l.Image, Labels: l.Labels, State: state(l.State), ExitCode: int(l.ExitCode),
		Created: l.Created.UTC().Round(time.Second),
	}
	if len(l.Names) > 0 {
		c.Name = l.Names[0]
	}
	for _, p := range l.Ports {
		c.Ports = append(c.Ports, portMappings(p)...)
	}
	return c
}

// portMappings undoes Podman's habit of making adjacent ports one range, and
// several protocols one mapping.
func portMappings(p nettypes.PortMapping) []engine.PortMapping {
	var list []engine.PortMapping
	ip, _ := netip.ParseAddr(p.HostIP) // empty: all addresses
	for protocol := range strings.SplitSeq(p.Protocol, ",") {
		for i := range max(p.Range, 1) {
			list = append(list, engine.PortMapping{HostIP: ip, HostPort: p.HostPort + i, ContainerPort: p.ContainerPort + i, Protocol: protocol})
		}
	}
	return list
}

// state translates Podman's container states (libpod/define/containerstate.go).
func state(s string) engine.State {
	switch s {
	case define.ContainerStateConfigured.String(), define.ContainerStateCreated.String(), "configured", "initialized":
		return engine.StateCreated
	case define.ContainerStateRunning.String():
		return engine.StateRunning
	case define.ContainerStateExited.String(), define.ContainerStateStopped.String():
		return engine.StateExited
	default:
		return engine.StateOther
	}
}

// userNetwork returns the first of a container's networks that is not
// Podman's own.
func userNetwork(l types.ListContainer) (string, bool) {
	i := slices.IndexFunc(l.Networks, func(n string) bool { return n != defaultNetwork })
	if i < 0 {
		return "", false
	}
	return l.Networks[i], true
}

// address returns a running container's address in a network.
func address(d *define.InspectContainerData, network string) netip.Addr {
	if d.NetworkSettings == nil || d.NetworkSettings.Networks[network] == nil {
		return netip.Addr{}
	}
	n := d.NetworkSettings.Networks[network]
	ip, err := netip.ParseAddr(n.IPAddress)
	if err != nil {
		ip, _ = netip.ParseAddr(n.GlobalIPv6Address)
	}
	return ip
}

// image translates an image that Podman reports.
func image(r *types.ImageInspectReport) engine.Image {
	return engine.Image{ID: r.ID, Labels: r.Labels, Size: r.Size, Arch: r.Architecture}
}

// info translates what Podman says of itself.
func info(i *define.Info, socket string) engine.Info {
	out := engine.Info{Name: "podman", Version: i.Version.Version, Socket: socket}
	if h := i.Host; h != nil {
		out.Rootless = h.Security.Rootless
		out.CgroupManager = h.CgroupManager
		if h.OCIRuntime != nil {
			out.OCIRuntime = h.OCIRuntime.Name
		}
		out.NetworkDriver = h.RootlessNetworkCmd // since Podman 5; empty before
		for _, m := range h.IDMappings.UIDMap {
			out.UIDs += int64(m.Size)
		}
		for _, m := range h.IDMappings.GIDMap {
			out.GIDs += int64(m.Size)
		}
		out.CgroupVersion = 1
		if h.CgroupsVersion == "v2" {
			out.CgroupVersion = 2
			out.Controllers = slices.Sorted(slices.Values(h.CgroupControllers))
		}
	}
	if s := i.Store; s != nil {
		out.StorageDriver, out.GraphRoot = s.GraphDriverName, s.GraphRoot
		_, helper := s.GraphOptions["overlay.mount_program"]
		out.NativeOverlay = s.GraphDriverName == "overlay" && !helper
	}
	return out
}

// labelFilters translates a label selector.
func labelFilters(sel map[string]string) map[string][]string {
	if len(sel) == 0 {
		return nil
	}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(sel)) {
		if v := sel[k]; v != "" {
			k += "=" + v
		}
		labels = append(labels, k)
	}
	return map[string][]string{"label": labels}
}
