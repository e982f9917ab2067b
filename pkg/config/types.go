// SPDX-License-Identifier: Apache-2.0

package config

// APIVersion and Kind of the one configuration format of this release.
const (
	APIVersion = "rk.io/v1alpha1"
	Kind       = "Cluster"
)

// Roles of nodes.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
)

// Cluster is the configuration of one cluster: decoded strictly ([Load]),
// defaulted ([Default]), then validated, all errors at once ([Validate]).
type Cluster struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Name of the cluster; default "rk". At most [MaxNameLength] lower-case
	// letters, digits and '-'. Node names start with it.
	Name string `json:"name,omitempty"`
	// KubernetesVersion picks the node image "localhost/rk-node:VERSION",
	// e.g. "v1.36.3" (the "v" may be left out); default: that of this rk
	// ([DefaultKubernetesVersion]). Not together with Image.
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// Image is the node image of every node that names none of its own;
	// default: that of KubernetesVersion.
	Image string `json:"image,omitempty"`
	// Nodes; default: one control plane.
	Nodes []Node `json:"nodes,omitempty"`
	// Networking of the cluster.
	Networking Networking `json:"networking,omitzero"`
	// Cgroups is how nodes use cgroup controllers: "auto" (default: delegated
	// if cpu, memory and pids are delegated to the user, else none),
	// "delegated" or "none" (resource limits are not enforced).
	Cgroups string `json:"cgroups,omitempty"`
}

// Node configures one node, or Count alike.
type Node struct {
	// Role is "control-plane" or "worker".
	Role string `json:"role"`
	// Count is the number of such nodes; default 1.
	Count int `json:"count,omitempty"`
	// Image is the node image of these nodes; default: that of the cluster.
	// It must hold the same Kubernetes version.
	Image string `json:"image,omitempty"`
	// Labels of the Kubernetes node objects.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints of the Kubernetes node objects; default: none for workers, and
	// for control planes "node-role.kubernetes.io/control-plane:NoSchedule"
	// where there are workers. A list, also an empty one, replaces that.
	Taints []Taint `json:"taints,omitzero"`
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// Networking configures addresses. All of them are IPv4 in this release.
type Networking struct {
	// PodSubnet holds a /24 for each node; default 10.244.0.0/16.
	PodSubnet string `json:"podSubnet,omitempty"`
	// ServiceSubnet is where ClusterIPs come from, a /12 to a /27; default 10.96.0.0/16.
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	// NodeSubnet is the engine network's subnet, a /24 to a /29; default: a free /24.
	NodeSubnet string `json:"nodeSubnet,omitempty"`
	// APIServerAddress is the address of the host on which the Kubernetes API
	// listens; default 127.0.0.1.
	APIServerAddress string `json:"apiServerAddress,omitempty"`
	// APIServerPort is the API's port on the host; default: a free one.
	APIServerPort int `json:"apiServerPort,omitempty"`
	// KubeProxyMode is "iptables" (default) or "nftables".
	KubeProxyMode string `json:"kubeProxyMode,omitempty"`
}
