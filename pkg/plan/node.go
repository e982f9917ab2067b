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
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/kubeadm"
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
	{subnetEnv, templates.FS, "flannel-subnet.env.tmpl", 0o644},
	{cniConfig, templates.FS, "cni.conflist.tmpl", 0o644},
	{kubeletConfig, templates.FS, "kubelet.yaml.tmpl", 0o644},
	{kubeletDir + "/kubeadm-flags.env", templates.FS, "kubeadm-flags.env.tmpl", 0o644},
	{kubeletDir + "/instance-config.yaml", templates.FS, "instance-config.yaml.tmpl", 0o644},
}

// Files that not every cluster has, or that are not rendered from templates alone.
const (
	subnetEnv        = "/etc/rk/run/flannel/subnet.env"
	cniConfig        = "/etc/cni/net.d/10-flannel.conflist"
	kubeletConfig    = kubeletDir + "/config.yaml"
	containerdConfig = "/etc/containerd/config.toml"
	manifests        = "/etc/kubernetes/manifests/"
)

// controlPlane are the further files of a control plane.
var controlPlane = []nodeFile{
	{manifests + "etcd.yaml", images.FS, "control-plane/etcd.yaml.tmpl", 0o600},
	{manifests + "kube-apiserver.yaml", images.FS, "control-plane/kube-apiserver.yaml.tmpl", 0o600},
	{manifests + "kube-controller-manager.yaml", images.FS, "control-plane/kube-controller-manager.yaml.tmpl", 0o600},
	{manifests + "kube-scheduler.yaml", images.FS, "control-plane/kube-scheduler.yaml.tmpl", 0o600},
}

// kubeletArgs are the kubelet's command line.
func kubeletArgs(n Node, args []kubeadm.Arg) []string {
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
	var out []string
	for _, a := range args {
		out = append(out, "--"+a.Name+"="+a.Value)
	}
	if len(labels) > 0 {
		out = append(out, "--node-labels="+strings.Join(labels, ","))
	}
	if len(taints) > 0 {
		out = append(out, "--register-with-taints="+strings.Join(taints, ","))
	}
	return out
}

// node completes a placed node.
func (m *maker) node(i int, n Node) (Node, error) {
	registration, err := m.register(i, &n)
	if err != nil {
		return n, err
	}
	v, err := m.nodeValues(n)
	if err != nil {
		return n, err
	}
	v.KubeletArgs = kubeletArgs(n, registration.KubeletArgs)
	files := everyNode
	if n.Role == RoleControlPlane {
		files = slices.Concat(everyNode, controlPlane)
	}
	for _, f := range files {
		if f.path == subnetEnv && !v.DefaultCNI || f.path == cniConfig && (!v.DefaultCNI || !m.ipv6()) { // that of the image is for IPv4
			continue
		}
		content, err := render.File(f.fsys, f.template, v)
		if err != nil {
			return n, err
		}
		if content, err = m.patched(i, f.path, content); err != nil {
			return n, err
		}
		n.Files = append(n.Files, File{Path: f.path, Mode: f.mode, Content: content})
	}
	options, err := m.optionFiles(i)
	if err != nil {
		return n, err
	}
	n.Files = append(n.Files, options...)
	if m.containerd != "" {
		n.Files = append(n.Files, File{Path: containerdConfig, Mode: 0o644, Content: m.containerd})
	}
	reg, secrets, err := m.registryFiles()
	if err != nil {
		return n, err
	}
	n.Files, n.Secrets = append(n.Files, reg...), secrets
	n.Certificates = []pki.Certificate{{
		CA: pki.ClusterCA, CommonName: n.Name, Path: kubeletDir + "/pki/kubelet", Usages: []pki.Usage{pki.ServerAuth},
		DNSNames: []string{n.Name}, IPs: addresses(n.IPs()...),
	}}
	n.Kubeconfigs = []pki.Kubeconfig{m.kubeconfig("kubelet", "system:node:"+n.Name, "system:nodes", m.endpoint)}
	if n.Role == RoleControlPlane {
		n.Certificates = append(n.Certificates, m.controlPlaneCertificates(n, m.kubeadm[0])...)
		n.Kubeconfigs = append(n.Kubeconfigs,
			m.kubeconfig("admin", "kubernetes-admin", "kubeadm:cluster-admins", m.endpoint),
			m.kubeconfig("super-admin", "kubernetes-super-admin", "system:masters", m.endpoint),
			// As kubeadm has it, these two use the API server beside them.
			m.kubeconfig("controller-manager", "system:kube-controller-manager", "", netip.AddrPortFrom(n.IP, APIPort)),
			m.kubeconfig("scheduler", "system:kube-scheduler", "", netip.AddrPortFrom(n.IP, APIPort)),
		)
	}
	given, err := m.files(n)
	if err != nil {
		return n, err
	}
	n.Files = append(n.Files, given...)
	n.Container = m.container(i, n)
	return n, nil
}

// kubeconfig describes /etc/kubernetes/NAME.conf as kubeadm writes it.
func (m *maker) kubeconfig(name, user, group string, server netip.AddrPort) pki.Kubeconfig {
	k := pki.Kubeconfig{
		Path: "/etc/kubernetes/" + name + ".conf", Cluster: m.config.Name, Server: "https://" + server.String(),
		User: user, Context: user + "@" + m.config.Name, CommonName: user,
	}
	if group != "" {
		k.Organizations = []string{group}
	}
	return k
}

// apiServerNames are the names and addresses in the certificate of every API server.
func (m *maker) apiServerNames() []string {
	var names []string
	var ips []netip.Addr
	for _, n := range m.controlPlanes() {
		names, ips = append(names, n.Name), append(ips, n.IPs()...)
	}
	if m.balancer != nil {
		names, ips = append(names, m.balancer.Name), append(ips, m.balancer.ips(m.pods[0].Addr().Is6())...)
	}
	names = append(names, "localhost")
	for _, a := range append(ips, netip.AddrFrom4([4]byte{127, 0, 0, 1}), m.apiServer.Addr()) {
		if s := a.String(); !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return names
}

// controlPlaneCertificates are kubeadm's, plus one each for the controller
// manager and the scheduler, which else spend their first moments on making an RSA key.
func (m *maker) controlPlaneCertificates(n Node, k *kubeadm.Config) []pki.Certificate {
	server, client := []pki.Usage{pki.ServerAuth}, []pki.Usage{pki.ClientAuth}
	api := pki.Certificate{
		CA: pki.ClusterCA, CommonName: "kube-apiserver", Path: pkiDir + "/apiserver", Usages: server,
		DNSNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + m.dnsDomain},
	}
	for _, p := range m.services {
		api.IPs = append(api.IPs, addTo(p.Masked().Addr(), 1).String())
	}
	addNames(&api, m.apiServerNames())
	addNames(&api, k.CertSANs())
	etcd := func(name string, usages []pki.Usage, more []string) pki.Certificate {
		c := pki.Certificate{
			CA: etcdCA, CommonName: n.Name, Path: pkiDir + "/etcd/" + name, Usages: usages,
			DNSNames: []string{n.Name, "localhost"}, IPs: append(addresses(n.IPs()...), "127.0.0.1", "::1"),
		}
		addNames(&c, more)
		return c
	}
	etcdServer, etcdPeer := k.EtcdSANs()
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
		etcd("server", both, etcdServer),
		etcd("peer", both, etcdPeer),
		{CA: etcdCA, CommonName: "kube-etcd-healthcheck-client", Path: pkiDir + "/etcd/healthcheck-client", Usages: client},
		local("kube-controller-manager"),
		local("kube-scheduler"),
	}
}

// addNames adds names and addresses to a certificate that are not in it yet.
func addNames(c *pki.Certificate, names []string) {
	for _, name := range names {
		list := &c.DNSNames
		if a, err := netip.ParseAddr(name); err == nil {
			list, name = &c.IPs, a.String()
		}
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
}

func addresses(list ...netip.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

// container describes the node's container (ENVIRONMENT: what a systemd node needs).
func (m *maker) container(i int, n Node) engine.ContainerSpec {
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
		Network: NetworkName(m.config.Name), IP: n.Container.IP, IPv6: n.Container.IPv6,
		DNSSearch:  m.config.Networking.DNSSearch,
		Hosts:      m.hostEntries(i),
		Env:        m.config.EnvOf(m.groups[i]),
		StopSignal: "SIGRTMIN+3",
	}
	m.limit(i, &spec)
	if spec.Image == "" {
		spec.Image = m.facts.Image.Ref
	}
	if n.Role == RoleControlPlane && m.balancer == nil {
		spec.Ports = []engine.PortMapping{m.apiPort()}
	}
	spec.Ports = append(spec.Ports, m.ports[i]...)
	for _, b := range m.config.Nodes[m.groups[i]].Mounts {
		spec.Mounts = append(spec.Mounts, engine.BindMount{
			Source: b.HostPath, Target: b.ContainerPath, ReadOnly: b.ReadOnly,
			Slave: b.Propagation == config.PropagationHostToContainer, Relabel: b.SELinuxRelabel,
		})
	}
	return spec
}

// addons renders what is applied once the API serves.
func (m *maker) addons() ([]Addon, error) {
	v := m.values()
	var err error
	first := m.kubeadm[0]
	if v.ClusterConfiguration, err = document(first, config.ClusterConfiguration, "cluster-configuration.yaml.tmpl", v); err != nil {
		return nil, err
	}
	if v.KubeletConfiguration, err = document(m.kubelet, config.KubeletConfiguration, "kubelet.yaml.tmpl", v); err != nil {
		return nil, err
	}
	if m.kubeProxy() {
		if v.KubeProxyConfiguration, err = document(first, config.KubeProxyConfiguration, "kube-proxy.yaml.tmpl", v); err != nil {
			return nil, err
		}
	}
	var out []Addon
	for _, a := range []struct {
		name, template string
		wanted         bool
	}{
		{"kubeadm", "control-plane/cluster.yaml.tmpl", true},
		{AddonFlannel, "flannel/manifest.yaml.tmpl", v.DefaultCNI},
		{AddonKubeProxy, "kube-proxy/manifest.yaml.tmpl", m.kubeProxy()},
		{AddonCoreDNS, "coredns/manifest.yaml.tmpl", first.CoreDNS()},
		{"local-path-provisioner", "local-path-provisioner/manifest.yaml.tmpl", true},
	} {
		if !a.wanted {
			continue
		}
		manifest, err := render.File(images.FS, a.template, v)
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", a.name, err)
		}
		out = append(out, Addon{Name: a.name, Manifest: manifest, Deferred: a.name == "local-path-provisioner"})
	}
	if a, ok, err := m.registryAddon(); err != nil {
		return nil, err
	} else if ok {
		out = append(out, a)
	}
	return out, nil
}

// Names of add-ons that something waits for.
const (
	AddonFlannel   = "flannel"
	AddonKubeProxy = "kube-proxy"
	AddonCoreDNS   = "coredns"
)
