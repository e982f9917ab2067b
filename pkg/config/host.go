// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// Values of nodes[].mounts[].propagation. "Bidirectional" is known and refused.
const (
	PropagationNone            = "None"
	PropagationHostToContainer = "HostToContainer"
	propagationBidirectional   = "Bidirectional"
)

// Values of nodes[].ports[].protocol. "SCTP" is known and refused.
const (
	TCP  = "TCP"
	UDP  = "UDP"
	sctp = "SCTP"
)

// HostPortOfEngine is the hostPort for which the engine finds a port each time
// that the node starts.
const HostPortOfEngine = -1

// ownPaths are what of a node rk or its systemd sets up: something of the host
// over it would keep the node from starting.
var ownPaths = []string{
	"/", "/dev", "/etc", "/etc/kubernetes", "/etc/rk", "/proc", "/run", "/sbin", "/sys", "/sys/fs/cgroup", "/usr", "/var", "/var/lib", "/var/lib/containerd",
	"/var/lib/kubelet",
}

// mountsAndPorts checks what nodes have of the host.
func (e *Errors) mountsAndPorts(nodes []Node, family string) {
	used := publishedPorts{}
	for i, n := range nodes {
		e.mounts(fmt.Sprintf("nodes[%d].mounts", i), n.Mounts)
		for j, p := range n.Ports {
			at := fmt.Sprintf("nodes[%d].ports[%d]", i, j)
			addr, ok := e.port(at, p, family)
			if !ok || p.HostPort <= 0 {
				continue
			}
			if n.Count > 1 {
				e.add(at+".hostPort", "%d can be published for one node, but there are %d of this kind; leave hostPort out for a free port each, or give each node its own entry", p.HostPort, n.Count)
				continue
			}
			if other := used.add(at, addr, p); other != "" {
				e.add(at+".hostPort", "%s port %d of %s is published by %s already; take another one", p.Protocol, p.HostPort, addr, text(other))
			}
		}
	}
}

func (e *Errors) mounts(at string, mounts []Mount) {
	seen := map[string]int{}
	for i, m := range mounts {
		p := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case m.HostPath == "":
			e.add(p+".hostPath", "is required; write a file or folder of this host")
		case strings.ContainsRune(m.HostPath, 0):
			e.add(p+".hostPath", "%q is not a path", m.HostPath)
		}
		switch target := path.Clean(m.ContainerPath); {
		case m.ContainerPath == "":
			e.add(p+".containerPath", "is required; write an absolute path in the node")
		case !path.IsAbs(target) || strings.ContainsRune(target, 0):
			e.add(p+".containerPath", "%q must be an absolute path in the node, like /mnt/data", m.ContainerPath)
		case contains(ownPaths, target):
			e.add(p+".containerPath", "%q is needed by the node itself; mount into a folder of its own, like /mnt/data", m.ContainerPath)
		default:
			if first, dup := seen[target]; dup {
				e.add(p+".containerPath", "%q is mounted twice, first by %s; keep one", m.ContainerPath, text(fmt.Sprintf("%s[%d]", at, first)))
			}
			seen[target] = i
		}
		if m.Propagation == propagationBidirectional {
			e.add(p+".propagation", "Bidirectional cannot work: mounts that are made in a user namespace never reach the host; write HostToContainer, or leave it out")
		} else {
			e.oneOf(p+".propagation", m.Propagation, PropagationNone, PropagationHostToContainer)
		}
	}
}

// port checks one published port and returns the address that it listens on.
func (e *Errors) port(at string, p Port, family string) (addr netip.Addr, ok bool) {
	before := len(*e)
	switch {
	case p.ContainerPort == 0:
		e.add(at+".containerPort", "is required; write a port of the node, from 1 to %d", maxPort)
	case p.ContainerPort < 0 || p.ContainerPort > maxPort:
		e.add(at+".containerPort", "%d must be from 1 to %d", p.ContainerPort, maxPort)
	}
	if p.HostPort < HostPortOfEngine || p.HostPort > maxPort {
		e.add(at+".hostPort", "%d must be from 1 to %d, 0 for a free one, or %d for one that the engine picks at each start", p.HostPort, maxPort, HostPortOfEngine)
	}
	addr, err := netip.ParseAddr(p.Address(family))
	switch {
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		e.add(at+".listenAddress", "%q is not an IP address; write it like 127.0.0.1", p.ListenAddress)
	case addr.IsMulticast():
		e.add(at+".listenAddress", "%s is a multicast address; write an address of this host, such as 127.0.0.1", addr)
	case addr.Is6() && family == IPv4 && !addr.IsUnspecified():
		e.add(at+".listenAddress", "%s is IPv6, but the cluster is not; use an IPv4 address, or set networking.ipFamily to dual", addr)
	}
	if p.Protocol == sctp {
		e.add(at+".protocol", "SCTP cannot be published: what forwards ports for rootless engines (RootlessKit, pasta, slirp4netns) knows TCP and UDP alone")
	} else {
		e.oneOf(at+".protocol", p.Protocol, TCP, UDP)
	}
	return addr, len(*e) == before
}

// Address is what the port listens on in a cluster of an IP family. "::" in a
// cluster of IPv4 stands for every address, as everywhere in Go.
func (p Port) Address(family string) string {
	switch {
	case p.ListenAddress == "" && family == IPv6:
		return "::"
	case p.ListenAddress == "", p.ListenAddress == "::" && family == IPv4:
		return "0.0.0.0"
	}
	return p.ListenAddress
}

// publishedPorts is who publishes a port and protocol, by address.
type publishedPorts map[string]map[netip.Addr]string

// add notes a port, or returns who has it already.
func (u publishedPorts) add(at string, addr netip.Addr, p Port) string {
	key := fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)
	for other, by := range u[key] {
		if other == addr || addr.IsUnspecified() || other.IsUnspecified() {
			return by
		}
	}
	if u[key] == nil {
		u[key] = map[netip.Addr]string{}
	}
	u[key][addr] = at
	return ""
}
