// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/go-connections/nat"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// Driver options of Docker's bridge networks.
const mtuOption = "com.docker.network.driver.mtu"

// noSearch stands for no search domain (docker run --dns-search).
const noSearch = "."

// predefined are the networks that Docker always has.
var predefined = []string{network.NetworkBridge, network.NetworkHost, network.NetworkNone}

// createRequest translates what CreateContainer is asked for.
func createRequest(s engine.ContainerSpec) container.CreateRequest {
	config := &container.Config{
		Hostname: s.Hostname, Image: s.Image, Labels: s.Labels, Env: environment(s.Env),
		Entrypoint: s.Entrypoint, Cmd: s.Command, StopSignal: s.StopSignal,
	}
	if _, ok := s.Env["container"]; s.Systemd && !ok {
		// How a container's manager tells systemd what it is (systemd.io/CONTAINER_INTERFACE).
		config.Env = append(config.Env, "container=docker")
	}
	host := &container.HostConfig{
		Privileged: s.Privileged, CgroupnsMode: container.CgroupnsMode(s.CgroupNS), Tmpfs: s.Tmpfs, Sysctls: s.Sysctls,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(s.RestartPolicy)},
		Mounts:        mounts(s), Binds: binds(s), DNSSearch: s.DNSSearch, ExtraHosts: hosts(s.Hosts),
		// Memory and swap together may be as much as memory alone: no swap.
		Resources: container.Resources{NanoCPUs: s.NanoCPUs, Memory: s.Memory, MemorySwap: s.Memory},
		// Logs that can be read back whatever the daemon's default driver is,
		// and that are rotated (100 MB by default).
		LogConfig: container.LogConfig{Type: "local"},
		// A daemon may be set to put an init process before the container's own, which systemd must be.
		Init: new(bool),
	}
	if s.DNSSearch != nil && len(s.DNSSearch) == 0 {
		host.DNSSearch = []string{noSearch}
	}
	if s.PidsLimit != nil {
		// 0 is no limit and needs no pids controller.
		limit := max(*s.PidsLimit, 0)
		host.PidsLimit = &limit
	}
	for _, path := range s.Devices {
		host.Devices = append(host.Devices, container.DeviceMapping{PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm"})
	}
	for _, p := range s.Ports {
		if config.ExposedPorts == nil {
			config.ExposedPorts, host.PortBindings = nat.PortSet{}, nat.PortMap{}
		}
		port, binding := portBinding(p)
		config.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = append(host.PortBindings[port], binding)
	}
	networking := &network.NetworkingConfig{}
	if s.Network != "" {
		host.NetworkMode = container.NetworkMode(s.Network)
		endpoint := &network.EndpointSettings{Aliases: s.Aliases}
		setAddresses(endpoint, s.IP, s.IPv6)
		networking.EndpointsConfig = map[string]*network.EndpointSettings{s.Network: endpoint}
	}
	return container.CreateRequest{Config: config, HostConfig: host, NetworkingConfig: networking}
}

// setAddresses gives an endpoint static addresses, as far as they are valid.
func setAddresses(endpoint *network.EndpointSettings, addresses ...netip.Addr) {
	for _, ip := range addresses {
		if !ip.IsValid() {
			continue
		}
		if endpoint.IPAMConfig == nil {
			endpoint.IPAMConfig = &network.EndpointIPAMConfig{}
		}
		if ip.Is4() {
			endpoint.IPAMConfig.IPv4Address = ip.String()
		} else {
			endpoint.IPAMConfig.IPv6Address = ip.String()
		}
	}
}

// environment is a list of variables, ordered by name so that the result
// depends on the spec alone.
func environment(env map[string]string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
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

// mounts translates volumes and bind mounts. A volume without a name is an
// anonymous one.
func mounts(s engine.ContainerSpec) []mount.Mount {
	var list []mount.Mount
	for _, path := range s.Volumes {
		m := mount.Mount{Type: mount.TypeVolume, Target: path}
		if s.EmptyVolumes {
			m.VolumeOptions = &mount.VolumeOptions{NoCopy: true}
		}
		list = append(list, m)
	}
	for _, b := range s.Mounts {
		if b.Relabel {
			continue
		}
		m := mount.Mount{Type: mount.TypeBind, Source: b.Source, Target: b.Target, ReadOnly: b.ReadOnly}
		if b.Slave {
			m.BindOptions = &mount.BindOptions{Propagation: mount.PropagationRSlave}
		}
		list = append(list, m)
	}
	return list
}

// binds are the bind mounts that are labelled for SELinux, which Docker's API
// knows in the older form of mounts alone. (That form also makes a source that
// does not exist.)
func binds(s engine.ContainerSpec) []string {
	var list []string
	for _, b := range s.Mounts {
		if !b.Relabel {
			continue
		}
		options := "Z"
		if b.ReadOnly {
			options += ",ro"
		}
		if b.Slave {
			options += ",rslave"
		}
		list = append(list, b.Source+":"+b.Target+":"+options)
	}
	return list
}

func portBinding(p engine.PortMapping) (nat.Port, nat.PortBinding) {
	port := nat.Port(strconv.Itoa(int(p.ContainerPort)) + "/" + cmp.Or(p.Protocol, "tcp"))
	var binding nat.PortBinding
	if p.HostIP.IsValid() {
		binding.HostIP = p.HostIP.String()
	}
	if p.HostPort != 0 {
		binding.HostPort = strconv.Itoa(int(p.HostPort))
	}
	return port, binding
}

// networkOptions translates what CreateNetwork is asked for.
func networkOptions(n engine.NetworkSpec) network.CreateOptions {
	options := network.CreateOptions{Driver: network.NetworkBridge, Labels: n.Labels, IPAM: &network.IPAM{}}
	for _, p := range []netip.Prefix{n.Subnet, n.IPv6Subnet} {
		if p.IsValid() {
			options.IPAM.Config = append(options.IPAM.Config, network.IPAMConfig{Subnet: p.String()})
		}
	}
	if n.Subnet.Addr().Is6() || n.IPv6Subnet.IsValid() {
		enable := true
		options.EnableIPv6 = &enable
	}
	if n.MTU > 0 {
		options.Options = map[string]string{mtuOption: strconv.Itoa(n.MTU)}
	}
	return options
}

// toNetwork translates a network that Docker reports.
func toNetwork(n network.Summary) engine.Network {
	out := engine.Network{Name: n.Name, Labels: n.Labels}
	for _, c := range n.IPAM.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil {
			out.Subnets = append(out.Subnets, p)
		}
	}
	return out
}

// toContainer translates a container of Docker's list, in which one that does
// not run has no ports and no exit code (see complete).
func toContainer(s container.Summary) engine.Container {
	c := engine.Container{
		ID: s.ID, Image: s.Image, Labels: s.Labels, State: state(s.State),
		Created: time.Unix(s.Created, 0).UTC(), IP: address(s.NetworkSettings),
	}
	if len(s.Names) > 0 {
		c.Name = strings.TrimPrefix(s.Names[0], "/")
	}
	for _, p := range s.Ports {
		if p.PublicPort == 0 {
			continue // exposed and not published
		}
		ip, _ := netip.ParseAddr(p.IP)
		c.Ports = append(c.Ports, engine.PortMapping{HostIP: ip, HostPort: p.PublicPort, ContainerPort: p.PrivatePort, Protocol: p.Type})
	}
	sortPorts(c.Ports)
	return c
}

// complete adds what the list does not say of a container that does not run.
func complete(c *engine.Container, r container.InspectResponse) {
	if r.ContainerJSONBase == nil {
		return
	}
	if r.State != nil && c.State == engine.StateExited {
		c.ExitCode = r.State.ExitCode
	}
	if r.HostConfig == nil {
		return
	}
	c.Ports = nil
	for port, bindings := range r.HostConfig.PortBindings {
		for _, b := range bindings {
			ip, _ := netip.ParseAddr(b.HostIP)
			public, _ := strconv.ParseUint(b.HostPort, 10, 16) // empty: the daemon picks one
			c.Ports = append(c.Ports, engine.PortMapping{
				HostIP: ip, HostPort: uint16(public), ContainerPort: uint16(port.Int()), Protocol: port.Proto(),
			})
		}
	}
	sortPorts(c.Ports)
}

func sortPorts(ports []engine.PortMapping) {
	slices.SortFunc(ports, func(a, b engine.PortMapping) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol), a.HostIP.Compare(b.HostIP))
	})
}

// state translates Docker's container states.
func state(s container.ContainerState) engine.State {
	switch s {
	case container.StateCreated:
		return engine.StateCreated
	case container.StateRunning:
		return engine.StateRunning
	case container.StateExited:
		return engine.StateExited
	default:
		return engine.StateOther
	}
}

// address returns a container's address in its first user-defined network.
func address(s *container.NetworkSettingsSummary) netip.Addr {
	if s == nil {
		return netip.Addr{}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		endpoint := s.Networks[name]
		if endpoint == nil || slices.Contains(predefined, name) {
			continue
		}
		ip, err := netip.ParseAddr(endpoint.IPAddress)
		if err != nil {
			ip, _ = netip.ParseAddr(endpoint.GlobalIPv6Address)
		}
		return ip
	}
	return netip.Addr{}
}

// toImage translates an image that Docker reports.
func toImage(r dockerimage.InspectResponse) engine.Image {
	out := engine.Image{ID: r.ID, Size: r.Size, Arch: r.Architecture}
	if r.Config != nil {
		out.Labels = r.Config.Labels
	}
	return out
}

// toInfo translates what Docker says of itself.
func toInfo(i system.Info, socket string) engine.Info {
	out := engine.Info{
		Name: "docker", Version: i.ServerVersion, Socket: socket, CgroupVersion: 1,
		OCIRuntime: i.DefaultRuntime, StorageDriver: i.Driver, GraphRoot: i.DockerRootDir,
		// "overlayfs" is the name of containerd's snapshotter, "overlay2" that of the daemon's own driver.
		NativeOverlay: i.Driver == "overlay2" || i.Driver == "overlayfs",
		Rootless:      slices.ContainsFunc(i.SecurityOptions, isRootless),
	}
	if i.CgroupDriver != "none" {
		out.CgroupManager = i.CgroupDriver
	}
	if i.CgroupVersion == "2" {
		out.CgroupVersion = 2
		out.Controllers = controllers(i)
	}
	return out
}

// withRootlessKit adds what the daemon's version says of the RootlessKit that
// it runs under: its version, and its drivers for the network and for ports.
func withRootlessKit(i engine.Info, v types.Version) engine.Info {
	for _, c := range v.Components {
		if c.Name == "rootlesskit" {
			i.RootlessKit, i.NetworkDriver, i.PortDriver = c.Version, c.Details["NetworkDriver"], c.Details["PortDriver"]
		}
	}
	return i
}

// isRootless recognises a security option, "name=rootless" and possibly more.
func isRootless(option string) bool {
	for field := range strings.SplitSeq(option, ",") {
		if field == "name=rootless" {
			return true
		}
	}
	return false
}

// controllers are the cgroup controllers that Docker's limits show to be
// there, sorted. Docker does not name them.
func controllers(i system.Info) []string {
	var list []string
	for _, c := range []struct {
		name   string
		usable bool
	}{
		{"cpu", i.CPUCfsPeriod && i.CPUCfsQuota && i.CPUShares},
		{"cpuset", i.CPUSet},
		{"memory", i.MemoryLimit},
		{"pids", i.PidsLimit},
	} {
		if c.usable {
			list = append(list, c.name)
		}
	}
	return list
}

// labelFilters translates a label selector.
func labelFilters(sel map[string]string) filters.Args {
	args := filters.NewArgs()
	for k, v := range sel {
		if v != "" {
			k += "=" + v
		}
		args.Add("label", k)
	}
	return args
}
