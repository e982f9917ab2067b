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
	DefaultAPIServerAddress  = "127.0.0.1"
	DefaultKubeProxyMode     = "iptables"
	DefaultCgroups           = "auto"
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
	}
	n := &c.Networking
	setDefault(&n.PodSubnet, DefaultPodSubnet)
	setDefault(&n.ServiceSubnet, DefaultServiceSubnet)
	setDefault(&n.APIServerAddress, DefaultAPIServerAddress)
	setDefault(&n.KubeProxyMode, DefaultKubeProxyMode)
	setDefault(&c.Cgroups, DefaultCgroups)
	return c
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
