// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/node-image/templates"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

// Labels of registries. They belong to no cluster: none of them is [LabelCluster].
const (
	// LabelRegistry is on each registry's container and says what it is:
	// [RegistryLocal] or [RegistryCache]. The network that they share has it, too.
	LabelRegistry = "io.rk.registry"
	// LabelUpstream is the URL that a cache is of.
	LabelUpstream = "io.rk.registry.upstream"
	// LabelRegistries is on the network of a cluster: the names of the registries
	// that are attached to it, with commas between.
	LabelRegistries = "io.rk.registries"
)

// Kinds of registries, as LabelRegistry has them.
const (
	RegistryLocal   = "local"
	RegistryCache   = "cache"
	registryNetwork = "network"
)

const (
	// LocalRegistryName is the container of the local registry.
	LocalRegistryName = "rk-registry"
	// RegistryNetworkName is the network in which registries are when no cluster
	// uses them. No cluster's network has such a name, as no cluster has.
	RegistryNetworkName = "rk_registries"
	// RegistryPort is the port of a registry in its container.
	RegistryPort = 5000

	registryDir    = "/etc/rk/registry"
	registryLogin  = registryDir + "/login.json"
	certsDir       = "/etc/containerd/certs.d/"
	upstreamCAFile = "/etc/ssl/certs/rk-upstream.pem"
)

// AddonRegistry is the ConfigMap that tells tools of the local registry (KEP-1755).
const AddonRegistry = "local-registry-hosting"

// Registry is a registry beside the clusters, which stays when they are deleted.
type Registry struct {
	// Address in the cluster's network; not valid if the registry is made for itself.
	Address   netip.Addr           `json:"address,omitzero"`
	Container engine.ContainerSpec `json:"container"`
	Files     []File               `json:"files"`
	Secrets   []Secret             `json:"secrets,omitempty"`
}

// Name is that of the registry's container.
func (r Registry) Name() string { return r.Container.Name }

// SecretFormat says what a [Secret] is made of.
type SecretFormat string

// The formats of secrets.
const (
	SecretCopy         SecretFormat = "copy"         // the content of a file of the host
	SecretDockerConfig SecretFormat = "dockerconfig" // credentials of some hosts, as config.json of docker has them
	SecretLogin        SecretFormat = "login"        // credentials of one host, as docker's credential helpers print them
)

// Secret is a file of a container that is made of the user's own files when the plan
// is carried out: the plan itself holds no secret. Its mode is 0600.
type Secret struct {
	Path   string       `json:"path"` // absolute
	Format SecretFormat `json:"format"`
	From   []SecretFrom `json:"from"` // one, but for SecretDockerConfig
}

// SecretFrom is a file of the host that has a secret.
type SecretFrom struct {
	File string `json:"file"`           // absolute
	Host string `json:"host,omitempty"` // whose credentials are taken
}

// RegistryNetwork describes the network that registries share. mtu is as in [Facts].
func RegistryNetwork(mtu int) engine.NetworkSpec {
	n := engine.NetworkSpec{Name: RegistryNetworkName, Labels: map[string]string{LabelRegistry: registryNetwork}}
	if mtu > 0 && mtu < defaultMTU {
		n.MTU = mtu
	}
	return n
}

// LocalRegistry describes the registry that listens on a port of the host, made
// from a node image.
func LocalRegistry(image string, port uint16) (Registry, error) {
	r, err := registry(LocalRegistryName, image, RegistryLocal, "")
	r.Container.Ports = []engine.PortMapping{{
		HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: port, ContainerPort: RegistryPort, Protocol: "tcp",
	}}
	return r, err
}

// registryValues is what the template of a registry's configuration sees.
type registryValues struct {
	Port            int
	Upstream, Login string // of a cache
}

func registry(name, image, kind, upstream string) (Registry, error) {
	unlimited := int64(0)
	r := Registry{Container: engine.ContainerSpec{
		Name: name, Image: image, Labels: map[string]string{LabelRegistry: kind},
		Env:        map[string]string{"OTEL_TRACES_EXPORTER": "none"}, // it would send traces to a port of its own
		Entrypoint: []string{"/usr/lib/rk/registry"}, Command: []string{"serve", registryDir + "/config.yaml"},
		PidsLimit: &unlimited, Volumes: []string{"/var/lib/registry"}, EmptyVolumes: true,
		Network: RegistryNetworkName, StopSignal: "SIGTERM", RestartPolicy: "unless-stopped",
	}}
	v := registryValues{Port: RegistryPort, Upstream: upstream}
	if kind == RegistryCache {
		r.Container.Labels[LabelUpstream] = upstream
		v.Login = registryDir + "/login"
		// The login file is looked at for each request, so that it can be replaced.
		script, err := render.File(templates.FS, "registry-login.tmpl", registryLogin)
		if err != nil {
			return r, err
		}
		r.Files = append(r.Files, File{Path: v.Login, Mode: 0o755, Content: script})
	}
	text, err := render.File(templates.FS, "registry.yaml.tmpl", v)
	if err != nil {
		return r, err
	}
	r.Files = append(r.Files, File{Path: registryDir + "/config.yaml", Mode: 0o644, Content: text})
	return r, nil
}

// cacheName is the container of the cache of a host.
func cacheName(host string) string { return "rk-cache-" + strings.ReplaceAll(host, ":", "-") }

// registries decides on the registries of the cluster, and where in its network they are.
func (m *maker) registries() error {
	list := m.config.Registries
	if list.Local != nil {
		r, err := LocalRegistry(m.facts.Image.Ref, m.registryPort())
		if err != nil {
			return err
		}
		m.beside = append(m.beside, r)
	}
	for i, h := range list.Hosts {
		if !h.Cache {
			continue
		}
		r, err := registry(cacheName(h.Host), m.facts.Image.Ref, RegistryCache, h.ServerURL())
		if err != nil {
			return err
		}
		if len(m.proxy.credentials) > 0 { // which the container's description would show
			m.warnings = append(m.warnings, "the cache of "+h.Host+" does not use the proxies: a cache cannot log in to a proxy")
		} else {
			maps.Copy(r.Container.Env, m.proxy.values)
		}
		if h.CAFile != "" {
			r.Files = append(r.Files, File{Path: upstreamCAFile, Mode: 0o644, Content: m.facts.registryHost(i).CA})
		}
		if file := m.facts.registryHost(i).AuthFile; file != "" {
			r.Secrets = append(r.Secrets, Secret{Path: registryLogin, Format: SecretLogin, From: []SecretFrom{{File: file, Host: h.Host}}})
		}
		m.beside = append(m.beside, r)
	}
	// From the last usable address down: nodes have the first ones.
	subnet := m.facts.Subnet.Masked()
	last := 1<<(subnet.Addr().BitLen()-subnet.Bits()) - 2
	taken := len(m.nodes) + 2
	if m.balancer != nil {
		taken++
	}
	for i := range m.beside {
		n := last - i
		if n < taken {
			return problem.SubnetClash.With("Choose a larger networking.nodeSubnet, or fewer nodes or registries.").
				Wrapf("the node subnet %s has no room for %d nodes and %d registries", subnet, len(m.nodes), len(m.beside))
		}
		addr, err := nth(subnet, n)
		if err != nil {
			return problem.SubnetClash.Wrapf("the node subnet is too small: %w", err)
		}
		m.beside[i].Address = addr
	}
	return nil
}

// hasRegistries says that nodes have files below certsDir.
func (m *maker) hasRegistries() bool {
	return m.config.Registries.Local != nil || len(m.config.Registries.Hosts) > 0
}

// registryPort is the host's port of the local registry.
func (m *maker) registryPort() uint16 {
	return cmp.Or(m.facts.RegistryPort, uint16(m.config.Registries.Local.Port), config.DefaultRegistryPort) //nolint:gosec // validated to be a port
}

// registryNames are those of the cluster's registries, as LabelRegistries has them.
func (m *maker) registryNames() string {
	var names []string
	for _, r := range m.beside {
		names = append(names, r.Name())
	}
	return strings.Join(names, ",")
}

// RegistriesOf returns the names in the label [LabelRegistries] of a network.
func RegistriesOf(labels map[string]string) []string {
	if labels[LabelRegistries] == "" {
		return nil
	}
	return strings.Split(labels[LabelRegistries], ",")
}

// registryHostFacts are what preflight found of the i-th host, empty if nothing.
func (f Facts) registryHost(i int) RegistryHostFacts {
	if i < len(f.RegistryHosts) {
		return f.RegistryHosts[i]
	}
	return RegistryHostFacts{}
}

// hostsValues is what the template of a hosts.toml sees
// (docs/hosts.md of containerd).
type hostsValues struct {
	Server     string // URL
	Before     []string
	CA         string // path; empty: the system's
	ClientCert string // path
	ClientKey  string // path
	SkipVerify bool
}

// registryFiles are the files by which a node finds registries.
func (m *maker) registryFiles() (files []File, secrets []Secret, err error) {
	add := func(host string, v hostsValues) {
		if err != nil {
			return
		}
		var text string
		if text, err = render.File(templates.FS, "hosts.toml.tmpl", v); err == nil {
			files = append(files, File{Path: certsDir + host + "/hosts.toml", Mode: 0o644, Content: text})
		}
	}
	at := func(name string) string {
		i := slices.IndexFunc(m.beside, func(r Registry) bool { return r.Name() == name })
		return fmt.Sprintf("http://%s", netip.AddrPortFrom(m.beside[i].Address, RegistryPort))
	}
	if m.config.Registries.Local != nil {
		add("localhost:"+strconv.Itoa(int(m.registryPort())), hostsValues{Server: at(LocalRegistryName)})
	}
	logins := Secret{Path: kubeletDir + "/config.json", Format: SecretDockerConfig}
	for i, h := range m.config.Registries.Hosts {
		v := hostsValues{Server: h.ServerURL(), Before: h.Mirrors, SkipVerify: h.SkipVerify}
		if h.Cache {
			v.Before = slices.Concat([]string{at(cacheName(h.Host))}, h.Mirrors)
		}
		dir := certsDir + h.Host + "/"
		if h.CAFile != "" {
			v.CA = dir + "ca.crt"
			files = append(files, File{Path: v.CA, Mode: 0o644, Content: m.facts.registryHost(i).CA})
		}
		if h.ClientCertFile != "" {
			v.ClientCert, v.ClientKey = dir+"client.cert", dir+"client.key"
			files = append(files, File{Path: v.ClientCert, Mode: 0o644, Content: m.facts.registryHost(i).ClientCert})
			secrets = append(secrets, Secret{Path: v.ClientKey, Format: SecretCopy, From: []SecretFrom{{File: h.ClientKeyFile}}})
		}
		if file := m.facts.registryHost(i).AuthFile; file != "" {
			logins.From = append(logins.From, SecretFrom{File: file, Host: h.Host})
		}
		add(h.Host, v)
	}
	if len(logins.From) > 0 {
		secrets = append(secrets, logins)
	}
	return files, secrets, err
}

// registryAddon is the ConfigMap of KEP-1755, if there is a local registry.
func (m *maker) registryAddon() (Addon, bool, error) {
	if m.config.Registries.Local == nil {
		return Addon{}, false, nil
	}
	address := ""
	if slices.ContainsFunc(m.pods, func(p netip.Prefix) bool { return p.Addr().Is4() }) { // else pods cannot reach it
		address = netip.AddrPortFrom(m.beside[0].Address, RegistryPort).String()
	}
	text, err := render.File(templates.FS, "local-registry-hosting.yaml.tmpl", map[string]any{"Port": m.registryPort(), "Address": address})
	return Addon{Name: AddonRegistry, Manifest: text}, true, err
}
