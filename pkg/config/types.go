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
	// Registries that nodes pull images from.
	Registries Registries `json:"registries,omitzero"`
	// FeatureGates of Kubernetes, set on every component: the control plane,
	// each kubelet, kube-proxy.
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
	// RuntimeConfig turns API versions on and off: kube-apiserver's
	// --runtime-config, e.g. "api/alpha": "true".
	RuntimeConfig map[string]string `json:"runtimeConfig,omitempty"`
	// KubeadmPatches change the kubeadm configuration of every node, from
	// which control plane, kubelets and kube-proxy are set up.
	KubeadmPatches []KubeadmPatch `json:"kubeadmPatches,omitempty"`
	// ContainerdPatches change the configuration of containerd on every node.
	ContainerdPatches []ContainerdPatch `json:"containerdPatches,omitempty"`
	// Cgroups is how nodes use cgroup controllers: "auto" (default: delegated
	// if cpu, memory and pids are delegated to the user, else none),
	// "delegated" or "none" (resource limits are not enforced).
	Cgroups string `json:"cgroups,omitempty"`
	// Files are put into nodes before they start.
	Files []File `json:"files,omitempty"`
	// Manifests are Kubernetes objects that are applied after the add-ons.
	Manifests []Manifest `json:"manifests,omitempty"`
	// Kustomizations are folders with a kustomization.yaml, whose objects are
	// applied together with those of Manifests. Relative ones are relative to
	// the current directory of rk.
	Kustomizations []string `json:"kustomizations,omitempty"`
	// Env are environment variables of every node: of its container and of
	// everything that its systemd starts, containerd and the kubelet included.
	// Pods do not get them.
	Env map[string]string `json:"env,omitempty"`
	// Hosts are names and their addresses, for nodes and pods.
	Hosts []HostEntry `json:"hosts,omitempty"`
	// Proxy is what nodes reach other hosts through.
	Proxy Proxy `json:"proxy,omitzero"`
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
	// Mounts are files and folders of the host in these nodes.
	Mounts []Mount `json:"mounts,omitempty"`
	// Ports of these nodes that are published on the host.
	Ports []Port `json:"ports,omitempty"`
	// KubeadmPatches of these nodes alone, applied after those of the cluster.
	KubeadmPatches []KubeadmPatch `json:"kubeadmPatches,omitempty"`
	// Resources that each of these nodes has; default: those of the host.
	Resources Resources `json:"resources,omitzero"`
	// Env are environment variables of these nodes, over those of the cluster.
	Env map[string]string `json:"env,omitempty"`
	// Hosts are names and their addresses for these nodes alone, not for pods.
	Hosts []HostEntry `json:"hosts,omitempty"`
}

// Mount is a file or folder of the host in a node.
type Mount struct {
	// HostPath must exist; a relative one is relative to the current directory of rk.
	HostPath string `json:"hostPath"`
	// ContainerPath in the node, absolute.
	ContainerPath string `json:"containerPath"`
	ReadOnly      bool   `json:"readOnly,omitempty"`
	// Propagation of mounts: "None" (default), or "HostToContainer": what is
	// mounted below HostPath later appears in the node too. "Bidirectional" is
	// refused: a user namespace cannot mount anything on the host.
	Propagation string `json:"propagation,omitempty"`
	// SELinuxRelabel has the engine label HostPath for this node alone.
	SELinuxRelabel bool `json:"selinuxRelabel,omitempty"`
}

// Port of a node that is published on the host.
type Port struct {
	// ContainerPort is the port of the node.
	ContainerPort int `json:"containerPort"`
	// HostPort: 0 (default) is a free one that rk chooses and that stays the
	// same, -1 one that the engine chooses each time that the node starts.
	HostPort int `json:"hostPort,omitempty"`
	// ListenAddress is the address of the host; default: all, "0.0.0.0" or
	// in an IPv6 cluster "::".
	ListenAddress string `json:"listenAddress,omitempty"`
	// Protocol is "TCP" (default) or "UDP". "SCTP" is refused: no rootless
	// engine can publish it.
	Protocol string `json:"protocol,omitempty"`
}

// KubeadmPatch changes one kind of kubeadm's configuration, by exactly one of
// Merge and JSON6902.
type KubeadmPatch struct {
	// Kind is "ClusterConfiguration", "InitConfiguration" (of the first control
	// plane), "JoinConfiguration" (of the other nodes), "KubeletConfiguration"
	// or "KubeProxyConfiguration".
	Kind string `json:"kind"`
	// APIVersion in whose form the patch is written; default: the newest. The
	// older kubeadm.k8s.io/v1beta3 and v1beta2 have extraArgs as a mapping.
	APIVersion string `json:"apiVersion,omitempty"`
	// Merge is a JSON merge patch (RFC 7386). extraArgs are merged by name, in
	// the form of any version, and certSANs are added to those that there are.
	Merge map[string]any `json:"merge,omitempty"`
	// JSON6902 is a JSON patch (RFC 6902).
	JSON6902 []PatchOperation `json:"json6902,omitempty"`
}

// PatchOperation is one operation of a JSON patch (RFC 6902).
type PatchOperation struct {
	Op   string `json:"op"`             // add, remove, replace, move, copy or test
	Path string `json:"path"`           // a JSON pointer (RFC 6901)
	From string `json:"from,omitempty"` // of move and copy
	// Value of add, replace and test; left out, it is null.
	Value any `json:"value,omitempty"`
}

// ContainerdPatch changes containerd's configuration, by exactly one of TOML
// and JSON6902. Names of version 2 of the configuration (plugin
// io.containerd.grpc.v1.cri) stand for those of version 3.
type ContainerdPatch struct {
	// TOML is merged into the configuration, table by table.
	TOML string `json:"toml,omitempty"`
	// JSON6902 is a JSON patch (RFC 6902) of the configuration as JSON.
	JSON6902 []PatchOperation `json:"json6902,omitempty"`
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// Networking configures addresses. In a dual-stack cluster a subnet is two, of
// IPv4 and IPv6, with a comma between them; the first is the primary one.
type Networking struct {
	// IPFamily is "ipv4" (default), "ipv6" or "dual".
	IPFamily string `json:"ipFamily,omitempty"`
	// PodSubnet holds a /24 (IPv6: a /64) for each node; default 10.244.0.0/16, fd00:10:244::/56.
	PodSubnet string `json:"podSubnet,omitempty"`
	// ServiceSubnet is where ClusterIPs come from, a /12 to a /27 (IPv6: a
	// /108 to a /123); default 10.96.0.0/16, fd00:10:96::/112.
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	// NodeSubnet is the engine network's subnet, a /24 to a /29 (IPv6: a /64 to
	// a /120, beside an IPv4 one); default: free ones.
	NodeSubnet string `json:"nodeSubnet,omitempty"`
	// APIServerAddress is the address of the host on which the Kubernetes API
	// listens; default 127.0.0.1, in an IPv6 cluster ::1.
	APIServerAddress string `json:"apiServerAddress,omitempty"`
	// APIServerPort is the API's port on the host; default: a free one.
	APIServerPort int `json:"apiServerPort,omitempty"`
	// DisableDefaultCNI leaves Flannel and its CNI configuration out: nodes are
	// not Ready until a network is installed, and nothing waits for them.
	DisableDefaultCNI bool `json:"disableDefaultCNI,omitempty"`
	// KubeProxyMode is "iptables" (default), "nftables", or "none" for no
	// kube-proxy. "ipvs" is refused: a user namespace cannot program it.
	KubeProxyMode string `json:"kubeProxyMode,omitempty"`
	// DNSSearch are the nodes' DNS search domains; default: those of the host.
	// An empty list is none.
	DNSSearch []string `json:"dnsSearch,omitzero"`
}
