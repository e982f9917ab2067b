// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/pki"
)

// Facts is everything measured, random or from the clock that a plan depends
// on. It is gathered at the edge, so that Make stays pure.
type Facts struct {
	Engine engine.Info `json:"engine"`
	// Subnet is a free subnet for the cluster's engine network, at most a /24.
	Subnet netip.Prefix `json:"subnet"`
	// IPv6Subnet is a free one for a cluster with IPv6, at most a /64.
	IPv6Subnet netip.Prefix `json:"ipv6Subnet,omitzero"`
	// APIPort is a free port of the host for the Kubernetes API; used where
	// the config does not fix one.
	APIPort uint16 `json:"apiPort"`
	// HostPorts are ports of the host that can be published, one for each of
	// HostPorts of the configuration, in its order.
	HostPorts []uint16 `json:"hostPorts,omitempty"`
	// RegistryPort is the host's port of the local registry, if the cluster has
	// one: that of the registry that there is, else one that can be had.
	RegistryPort uint16 `json:"registryPort,omitempty"`
	// RegistryHosts is what the files of registries.hosts say, in its order.
	RegistryHosts []RegistryHostFacts `json:"registryHosts,omitempty"`
	// MTU of the interface with the default route in the engine's network
	// namespace, in bytes; 0 if unknown.
	MTU int `json:"mtu"`
	// Image is the node image that will be used, as the engine reports it.
	Image ImageFacts `json:"image"`
	// Objects are those that the configuration's manifests and kustomizations hold.
	Objects []Object `json:"-"`
	// Host is the machine that the nodes run on.
	Host HostFacts `json:"host,omitzero"`
}

// RegistryHostFacts is what the host's files say of one of registries.hosts.
type RegistryHostFacts struct {
	CA         string `json:"ca,omitempty"`         // content of caFile
	ClientCert string `json:"clientCert,omitempty"` // content of clientCertFile
	// AuthFile is the file that has credentials for the host; empty: there are none to be used.
	AuthFile string `json:"authFile,omitempty"`
}

// ImageFacts is what a node image says of itself through its labels.
type ImageFacts struct {
	Ref               string            `json:"ref"`
	ID                string            `json:"id,omitempty"`
	KubernetesVersion string            `json:"kubernetesVersion"` // e.g. "v1.36.3"
	Images            map[string]string `json:"images"`            // short name (etcd, coredns, pause, flannel …) -> reference in the node
}

// Plan is a whole cluster as a value: what `rk create cluster --dry-run`
// prints. Keys are made when it is carried out. What else is secret is in
// File.Content and Object.JSON alone; passwords of proxies are left out when it is printed.
type Plan struct {
	Cluster           string             `json:"cluster"`
	KubernetesVersion string             `json:"kubernetesVersion"`
	Image             string             `json:"image"`
	Engine            string             `json:"engine"` // "podman" or "docker"
	CgroupMode        CgroupMode         `json:"cgroupMode"`
	Network           engine.NetworkSpec `json:"network"`
	// Registries are attached to Network, and made if there are none yet, in RegistryNetwork.
	Registries      []Registry          `json:"registries,omitempty"`
	RegistryNetwork *engine.NetworkSpec `json:"registryNetwork,omitempty"`
	// PodSubnets and ServiceSubnets are one of each address family, the primary first.
	PodSubnets     []netip.Prefix `json:"podSubnets"`
	ServiceSubnets []netip.Prefix `json:"serviceSubnets"`
	// APIServer is where the API is reached from the host.
	APIServer netip.AddrPort `json:"apiServer"`
	// CAs are the certificate authorities of the cluster, and of every node's leaf certificates.
	CAs   []pki.CA `json:"certificateAuthorities"`
	Nodes []Node   `json:"nodes"` // ordered; Nodes[0] is the first control plane
	// LoadBalancer is in front of several control planes; nil with one.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// ExternalCNI says that the user installs a network: until then, nodes are not Ready.
	ExternalCNI bool `json:"externalCNI,omitempty"`
	// Addons are manifests applied once the API serves, all at once but for the deferred ones.
	Addons []Addon `json:"addons"`
	// Objects are the user's own, applied after the add-ons.
	Objects []Object `json:"objects,omitempty"`
	// Admin is the user's own client certificate for the kubeconfig.
	Admin    pki.Kubeconfig `json:"admin"`
	Warnings []string       `json:"warnings,omitempty"`
}

// CgroupMode says whether nodes can use cgroup controllers.
type CgroupMode string

// The two modes of DESIGN.md section 4.
const (
	CgroupDelegated CgroupMode = "delegated"
	CgroupNone      CgroupMode = "none"
)

// Node is one node: its container and every file that is in it when it starts.
type Node struct {
	Name    string       `json:"name"`
	Role    string       `json:"role"` // "control-plane" or "worker"
	IP      netip.Addr   `json:"ip"`
	PodCIDR netip.Prefix `json:"podCIDR"`
	// Of the other address family, in a dual-stack cluster.
	SecondaryIP      netip.Addr   `json:"secondaryIP,omitzero"`
	SecondaryPodCIDR netip.Prefix `json:"secondaryPodCIDR,omitzero"`

	Labels    map[string]string    `json:"labels,omitempty"` // Kubernetes node labels
	Taints    []Taint              `json:"taints,omitempty"`
	Container engine.ContainerSpec `json:"container"`
	Files     []File               `json:"files"`
	Secrets   []Secret             `json:"secrets,omitempty"`
	// Keys, certificates and kubeconfigs that are made for this node.
	Certificates []pki.Certificate `json:"certificates,omitempty"`
	Kubeconfigs  []pki.Kubeconfig  `json:"kubeconfigs"`
}

// IPs are the node's addresses in Kubernetes, the primary first.
func (n Node) IPs() []netip.Addr {
	if n.SecondaryIP.IsValid() {
		return []netip.Addr{n.IP, n.SecondaryIP}
	}
	return []netip.Addr{n.IP}
}

// PodCIDRs are the addresses of the node's pods, the primary family first.
func (n Node) PodCIDRs() []netip.Prefix {
	if n.SecondaryPodCIDR.IsValid() {
		return []netip.Prefix{n.PodCIDR, n.SecondaryPodCIDR}
	}
	return []netip.Prefix{n.PodCIDR}
}

// Addon returns whether there is an add-on of that name.
func (p *Plan) Addon(name string) bool {
	return slices.ContainsFunc(p.Addons, func(a Addon) bool { return a.Name == name })
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// File is a file of a node.
type File struct {
	Path    string `json:"path"` // absolute
	Mode    uint32 `json:"mode"` // permission bits
	Content string `json:"content"`
	UID     int    `json:"uid,omitempty"` // of its owner in the node; 0 is root
	GID     int    `json:"gid,omitempty"`
	// Given says that it is of the configuration and not rendered. It may hold
	// secrets, which those who show a plan take out.
	Given bool `json:"given,omitempty"`
	// Credentials are what URLs in Content have before their '@'. They are never printed.
	Credentials []string `json:"-"`
}

// Addon is a set of Kubernetes objects, as multi-document YAML.
type Addon struct {
	Name string `json:"name"`
	// Deferred add-ons are applied when nodes and DNS are ready: nothing of
	// the cluster itself needs them, and their pods would only compete with those that it needs.
	Deferred bool   `json:"deferred,omitempty"`
	Manifest string `json:"manifest"`
}
