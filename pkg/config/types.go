// SPDX-License-Identifier: Apache-2.0

package config

// APIVersion and Kind of the one configuration format of this release.
const (
	APIVersion = "rk.io/v1alpha1"
	Kind       = "Cluster"
)

// Cluster is the configuration of one cluster: decoded strictly, defaulted,
// then validated (all errors at once).
type Cluster struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Name of the cluster; default "rk".
	Name string `json:"name,omitempty"`
	// KubernetesVersion picks the node image "localhost/rk-node:VERSION"; default: that of this rk. Not together with Image.
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// Image is the node image of every node that names none of its own.
	Image string `json:"image,omitempty"`
	// Nodes; default: one control plane.
	Nodes []Node `json:"nodes,omitempty"`
	// Networking of the cluster.
	Networking Networking `json:"networking,omitzero"`
	// Cgroups is "auto" (default), "delegated" or "none".
	Cgroups string `json:"cgroups,omitempty"`
}

// Node configures one node, or Count alike.
type Node struct {
	// Role is "control-plane" or "worker".
	Role   string            `json:"role"`
	Count  int               `json:"count,omitempty"` // default 1
	Image  string            `json:"image,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Taints []Taint           `json:"taints,omitempty"`
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// Networking configures addresses.
type Networking struct {
	PodSubnet     string `json:"podSubnet,omitempty"`     // default 10.244.0.0/16
	ServiceSubnet string `json:"serviceSubnet,omitempty"` // default 10.96.0.0/16
	// NodeSubnet is the engine network's subnet; default: a free one.
	NodeSubnet string `json:"nodeSubnet,omitempty"`
	// APIServerAddress on the host; default 127.0.0.1.
	APIServerAddress string `json:"apiServerAddress,omitempty"`
	// APIServerPort on the host; default: a free one.
	APIServerPort int `json:"apiServerPort,omitempty"`
	// KubeProxyMode is "iptables" (default) or "nftables".
	KubeProxyMode string `json:"kubeProxyMode,omitempty"`
}
