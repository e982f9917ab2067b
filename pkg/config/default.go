// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
	"unicode"
)

// Defaults of fields that are left out.
const (
	DefaultName = "rk"
	// DefaultKubernetesVersion is that of node-image/versions.yaml; a test holds the two together.
	DefaultKubernetesVersion = "v1.36.3"
	DefaultPodSubnet         = "10.244.0.0/16"
	DefaultServiceSubnet     = "10.96.0.0/16"
	// Of clusters with IPv6, those of kind.
	DefaultPodSubnetIPv6        = "fd00:10:244::/56"
	DefaultServiceSubnetIPv6    = "fd00:10:96::/112"
	DefaultAPIServerAddressIPv6 = "::1"
	DefaultAPIServerAddress     = "127.0.0.1"
	DefaultKubeProxyMode        = "iptables"
	DefaultIPFamily             = IPv4
	DefaultCgroups              = "auto"
)

// NodeImage is the reference under which "rk build node-image" puts the image
// of a Kubernetes version (e.g. "v1.36.3") into the engine's store.
func NodeImage(kubernetesVersion string) string { return "localhost/rk-node:" + kubernetesVersion }

// Default returns c with every field that has a constant default filled in;
// it can be repeated. What depends on the host stays empty: the node subnet
// and the API port. If Image is given, KubernetesVersion stays empty: the
// image says which it holds.
func Default(c Cluster) Cluster {
	setDefault(&c.APIVersion, APIVersion)
	setDefault(&c.Kind, Kind)
	setDefault(&c.Name, DefaultName)
	if strings.IndexFunc(c.KubernetesVersion, unicode.IsDigit) == 0 {
		c.KubernetesVersion = "v" + c.KubernetesVersion
	}
	if c.Image == "" {
		setDefault(&c.KubernetesVersion, DefaultKubernetesVersion)
		c.Image = NodeImage(c.KubernetesVersion)
	}
	if len(c.Nodes) == 0 {
		c.Nodes = []Node{{Role: RoleControlPlane}}
	}
	c.Nodes = slices.Clone(c.Nodes)
	for i := range c.Nodes {
		if c.Nodes[i].Count == 0 {
			c.Nodes[i].Count = 1
		}
		c.Nodes[i].Mounts = slices.Clone(c.Nodes[i].Mounts)
		for j := range c.Nodes[i].Mounts {
			setDefault(&c.Nodes[i].Mounts[j].Propagation, PropagationNone)
		}
		c.Nodes[i].Ports = slices.Clone(c.Nodes[i].Ports)
		for j := range c.Nodes[i].Ports {
			setDefault(&c.Nodes[i].Ports[j].Protocol, TCP)
		}
	}
	n := &c.Networking
	setDefault(&n.IPFamily, DefaultIPFamily)
	pods, services, api := DefaultPodSubnet, DefaultServiceSubnet, DefaultAPIServerAddress
	switch n.IPFamily {
	case IPv6:
		pods, services, api = DefaultPodSubnetIPv6, DefaultServiceSubnetIPv6, DefaultAPIServerAddressIPv6
	case DualStack:
		pods, services = pods+","+DefaultPodSubnetIPv6, services+","+DefaultServiceSubnetIPv6
	}
	setDefault(&n.PodSubnet, pods)
	setDefault(&n.ServiceSubnet, services)
	setDefault(&n.APIServerAddress, api)
	setDefault(&n.KubeProxyMode, DefaultKubeProxyMode)
	setDefault(&c.Cgroups, DefaultCgroups)
	return c
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
