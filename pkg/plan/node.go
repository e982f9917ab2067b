// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/images"
	"github.com/rootless-kubernetes/rk/node-image/templates"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

const (
	pkiDir = "/etc/kubernetes/pki"
	// ClusterCAFile is where every node has the cluster CA's certificate.
	ClusterCAFile = pkiDir + "/ca.crt"
	kubeletDir    = VarSeed + "/lib/kubelet"
	frontProxyCA  = "front-proxy-ca"
	etcdCA        = "etcd-ca"
)

// nodeFile is a file of a node and the template that it is rendered from.
type nodeFile struct {
	path     string
	fsys     fs.FS
	template string
	mode     uint32
}

// everyNode are the files that every node has.
var everyNode = []nodeFile{
	{"/etc/rk/node.env", templates.FS, "node.env.tmpl", 0o644},
	{"/etc/rk/run/flannel/subnet.env", templates.FS, "flannel-subnet.env.tmpl", 0o644},
	{kubeletDir + "/config.yaml", templates.FS, "kubelet.yaml.tmpl", 0o644},
	{kubeletDir + "/kubeadm-flags.env", templates.FS, "kubeadm-flags.env.tmpl", 0o644},
}

// controlPlane are the further files of a control plane.
var controlPlane = []nodeFile{
	{"/etc/kubernetes/manifests/etcd.yaml", images.FS, "control-plane/etcd.yaml.tmpl", 0o600},
	{"/etc/kubernetes/manifests/kube-apiserver.yaml", images.FS, "control-plane/kube-apiserver.yaml.tmpl", 0o600},
	{"/etc/kubernetes/manifests/kube-controller-manager.yaml", images.FS, "control-plane/kube-controller-manager.yaml.tmpl", 0o600},
	{"/etc/kubernetes/manifests/kube-scheduler.yaml", images.FS, "control-plane/kube-scheduler.yaml.tmpl", 0o600},
}

// values is what templates see: prepared fields, no decisions left to make.
type values struct {
	Cluster, KubernetesVersion string
	Images                     map[string]string
	ImageRepository            string
	EtcdTag, CoreDNSTag        string
	PodSubnet, ServiceSubnet   netip.Prefix
	DNS                        netip.Addr
	DNSReplicas                int
	Endpoint                   string // API inside the cluster's network, ADDRESS:PORT
	EndpointHost               netip.Addr
	EndpointPort               uint16
	KubeProxyMode              string
	CgroupMode                 CgroupMode
	CgroupDriver               string
	CgroupsEnforced            bool
	CertSANs                   []string
	ClusterConfiguration       string
	KubeletConfiguration       string
	Name                       string
	IP                         netip.Addr
	PodGateway                 netip.Prefix
	PodMTU                     int
	NodeLabels, Taints         string
}

func (m *maker) values() values {
	img := m.facts.Image.Images
	v := values{
		Cluster: m.config.Name, KubernetesVersion: m.facts.Image.KubernetesVersion, Images: img,
		PodSubnet: m.pods, ServiceSubnet: m.services, DNS: m.dns, DNSReplicas: min(len(m.nodes), 2),
		Endpoint: m.endpoint.String(), EndpointHost: m.endpoint.Addr(), EndpointPort: m.endpoint.Port(),
		KubeProxyMode: m.config.Networking.KubeProxyMode,
		CgroupMode:    m.mode, CgroupDriver: "cgroupfs", CgroupsEnforced: m.mode == CgroupDelegated,
		CertSANs: m.apiServerNames(m.nodes[0]),
		PodMTU:   m.mtu - vxlanOverhead,
	}
	if m.mode == CgroupDelegated {
		v.CgroupDriver = "systemd" // the node runs its own systemd, which owns the delegated tree
	}
	v.ImageRepository, _ = splitRef(img["kube-apiserver"])
	_, v.EtcdTag = splitRef(img["etcd"])
	_, v.CoreDNSTag = splitRef(img["coredns"])
	return v
}

// splitRef cuts an image reference into its repository's parent and its tag.
func splitRef(ref string) (parent, tag string) {
	name, tag, _ := strings.Cut(ref, ":")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], tag
	}
	return "", tag
}

func (m *maker) nodeValues(n Node) (values, error) {
	v := m.values()
	v.Name, v.IP = n.Name, n.IP
	gateway, err := nth(n.PodCIDR, 1)
	if err != nil {
		return v, err
	}
	v.PodGateway = netip.PrefixFrom(gateway, n.PodCIDR.Bits())
	var labels, taints []string
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		// A kubelet may not give itself labels of Kubernetes' own (NodeRestriction); rk sets those.
		if domain, _, _ := strings.Cut(k, "/"); !strings.HasSuffix(domain, "kubernetes.io") && !strings.HasSuffix(domain, "k8s.io") {
			labels = append(labels, k+"="+n.Labels[k])
		}
	}
	for _, t := range n.Taints {
		taints = append(taints, t.Key+"="+t.Value+":"+t.Effect)
	}
	v.NodeLabels, v.Taints = strings.Join(labels, ","), strings.Join(taints, ",")
	return v, nil
}

// node completes a placed node.
func (m *maker) node(n Node) (Node, error) {
	v, err := m.nodeValues(n)
	if err != nil {
		return n, err
	}
	files := everyNode
	if n.Role == RoleControlPlane {
		files = slices.Concat(everyNode, controlPlane)
	}
	for _, f := range files {
		content, err := render.File(f.fsys, f.template, v)
		if err != nil {
			return n, err
		}
		n.Files = append(n.Files, File{Path: f.path, Mode: f.mode, Content: content})
	}
	n.Certificates = []pki.Certificate{{
		CA: pki.ClusterCA, CommonName: n.Name, Path: kubeletDir + "/pki/kubelet", Usages: []pki.Usage{pki.ServerAuth},
		DNSNames: []string{n.Name}, IPs: []string{n.IP.String()},
	}}
	n.Kubeconfigs = []pki.Kubeconfig{m.kubeconfig("kubelet", "system:node:"+n.Name, "system:nodes")}
	if n.Role == RoleControlPlane {
		n.Certificates = append(n.Certificates, m.controlPlaneCertificates(n)...)
		n.Kubeconfigs = append(n.Kubeconfigs,
			m.kubeconfig("admin", "kubernetes-admin", "kubeadm:cluster-admins"),
			m.kubeconfig("super-admin", "kubernetes-super-admin", "system:masters"),
			m.kubeconfig("controller-manager", "system:kube-controller-manager", ""),
			m.kubeconfig("scheduler", "system:kube-scheduler", ""),
		)
	}
	n.Container = m.container(n)
	return n, nil
}

// kubeconfig describes /etc/kubernetes/NAME.conf as kubeadm writes it.
func (m *maker) kubeconfig(name, user, group string) pki.Kubeconfig {
	k := pki.Kubeconfig{
		Path: "/etc/kubernetes/" + name + ".conf", Cluster: m.config.Name, Server: "https://" + m.endpoint.String(),
		User: user, Context: user + "@" + m.config.Name, CommonName: user,
	}
	if group != "" {
		k.Organizations = []string{group}
	}
	return k
}

// apiServerNames are the names and addresses in the API server's certificate.
func (m *maker) apiServerNames(n Node) []string {
	names := []string{n.Name, "localhost"}
	for _, a := range []netip.Addr{n.IP, netip.AddrFrom4([4]byte{127, 0, 0, 1}), m.apiServer.Addr()} {
		if s := a.String(); !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return names
}

// controlPlaneCertificates are kubeadm's, plus one each for the controller
// manager and the scheduler, which else spend their first moments on making an RSA key.
func (m *maker) controlPlaneCertificates(n Node) []pki.Certificate {
	server, client := []pki.Usage{pki.ServerAuth}, []pki.Usage{pki.ClientAuth}
	api := pki.Certificate{
		CA: pki.ClusterCA, CommonName: "kube-apiserver", Path: pkiDir + "/apiserver", Usages: server,
		DNSNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPs:      []string{addTo(m.services.Masked().Addr(), 1).String()},
	}
	for _, name := range m.apiServerNames(n) {
		if _, err := netip.ParseAddr(name); err == nil {
			api.IPs = append(api.IPs, name)
		} else {
			api.DNSNames = append(api.DNSNames, name)
		}
	}
	etcd := func(name string, usages []pki.Usage) pki.Certificate {
		return pki.Certificate{
			CA: etcdCA, CommonName: n.Name, Path: pkiDir + "/etcd/" + name, Usages: usages,
			DNSNames: []string{n.Name, "localhost"}, IPs: []string{n.IP.String(), "127.0.0.1", "::1"},
		}
	}
	local := func(name string) pki.Certificate {
		return pki.Certificate{
			CA: pki.ClusterCA, CommonName: name, Path: pkiDir + "/" + name, Usages: server,
			DNSNames: []string{"localhost"}, IPs: []string{"127.0.0.1"},
		}
	}
	both := []pki.Usage{pki.ServerAuth, pki.ClientAuth}
	return []pki.Certificate{
		api,
		{CA: pki.ClusterCA, CommonName: "kube-apiserver-kubelet-client", Path: pkiDir + "/apiserver-kubelet-client", Usages: client},
		{CA: frontProxyCA, CommonName: "front-proxy-client", Path: pkiDir + "/front-proxy-client", Usages: client},
		{CA: etcdCA, CommonName: "kube-apiserver-etcd-client", Path: pkiDir + "/apiserver-etcd-client", Usages: client},
		etcd("server", both),
		etcd("peer", both),
		{CA: etcdCA, CommonName: "kube-etcd-healthcheck-client", Path: pkiDir + "/etcd/healthcheck-client", Usages: client},
		local("kube-controller-manager"),
		local("kube-scheduler"),
	}
}

// container describes the node's container (ENVIRONMENT: what a systemd node needs).
func (m *maker) container(n Node) engine.ContainerSpec {
	unlimited := int64(0)
	spec := engine.ContainerSpec{
		Name: n.Name, Hostname: n.Name, Image: n.Container.Image,
		Labels: map[string]string{
			LabelCluster: m.config.Name, LabelRole: n.Role, LabelKubernetesVersion: m.facts.Image.KubernetesVersion,
		},
		Privileged: true, Systemd: true, CgroupNS: "private", PidsLimit: &unlimited,
		Tmpfs:   map[string]string{"/tmp": "", "/run": ""},
		Volumes: []string{"/var"}, EmptyVolumes: true,
		Devices: []string{"/dev/fuse"},
		Network: NetworkName(m.config.Name), IP: n.IP,
		StopSignal: "SIGRTMIN+3",
	}
	if spec.Image == "" {
		spec.Image = m.facts.Image.Ref
	}
	if n.Role == RoleControlPlane {
		spec.Ports = []engine.PortMapping{{
			HostIP: m.apiServer.Addr(), HostPort: m.apiServer.Port(), ContainerPort: apiPort, Protocol: "tcp",
		}}
	}
	return spec
}

// addons renders what is applied once the API serves.
func (m *maker) addons() ([]Addon, error) {
	v := m.values()
	var err error
	if v.ClusterConfiguration, err = render.File(templates.FS, "cluster-configuration.yaml.tmpl", v); err != nil {
		return nil, err
	}
	if v.KubeletConfiguration, err = render.File(templates.FS, "kubelet.yaml.tmpl", v); err != nil {
		return nil, err
	}
	var out []Addon
	for _, a := range [][2]string{
		{"kubeadm", "control-plane/cluster.yaml.tmpl"},
		{"flannel", "flannel/manifest.yaml.tmpl"},
		{"kube-proxy", "kube-proxy/manifest.yaml.tmpl"},
		{"coredns", "coredns/manifest.yaml.tmpl"},
		{"local-path-provisioner", "local-path-provisioner/manifest.yaml.tmpl"},
	} {
		manifest, err := render.File(images.FS, a[1], v)
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", a[0], err)
		}
		out = append(out, Addon{Name: a[0], Manifest: manifest, Deferred: a[0] == "local-path-provisioner"})
	}
	return out, nil
}
