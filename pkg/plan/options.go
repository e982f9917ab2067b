// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/node-image/templates"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

// HostFacts is what nodes have of their host.
type HostFacts struct {
	// IP is where nodes and pods reach programs of the host, those that listen
	// on all of its addresses or on Address; the zero address if the engine's
	// network has no way there.
	IP netip.Addr `json:"ip,omitzero"`
	// Address of the host itself, for messages.
	Address netip.Addr `json:"address,omitzero"`
	CPUs    int        `json:"cpus,omitempty"`   // 0 if unknown
	Memory  int64      `json:"memory,omitempty"` // in bytes; 0 if unknown
	// ProxyPorts are those of the configured proxies on the loopback address
	// that answer on Address, too.
	ProxyPorts []uint16 `json:"proxyPorts,omitempty"`
	// Authorities are the certificates of the configured CA files, one PEM block each.
	Authorities []string `json:"authorities,omitempty"`
}

// Files that nodes have because of these options.
const (
	environmentFile   = "/etc/systemd/system.conf.d/50-rk-environment.conf"
	withResources     = "/etc/rk/with-resources"
	resourcesDropIn   = "/etc/systemd/system/kubelet.service.d/50-rk-resources.conf"
	authoritiesDir    = "/usr/local/share/ca-certificates/"
	authoritiesDropIn = "/etc/systemd/system/rk-setup.service.d/50-rk-authorities.conf"
)

// redacted stands in the printed form of files where credentials are.
const redacted = "REDACTED"

// MarshalJSON writes the file without its credentials.
func (f File) MarshalJSON() ([]byte, error) {
	type plain File
	for _, c := range f.Credentials {
		f.Content = strings.ReplaceAll(f.Content, "://"+c+"@", "://"+redacted+"@")
	}
	return json.Marshal(plain(f))
}

// options settles what nodes have of the host and of its resources.
func (m *maker) options() error {
	if err := m.resources(); err != nil {
		return err
	}
	m.proxies()
	return nil
}

// resources refuses nodes that are larger than the host, and warns of what
// limits cannot do.
func (m *maker) resources() error {
	var errs config.Errors
	limited := ""
	var memory int64
	for i, n := range m.config.Nodes {
		at := fmt.Sprintf("nodes[%d].resources", i)
		r := n.Resources
		if r == (config.Resources{}) {
			continue
		}
		if limited == "" {
			limited = at
		}
		if host := m.facts.Host.CPUs; host > 0 && r.MilliCPUs() > int64(host)*1000 {
			errs = append(errs, config.Error{Path: at + ".cpus", Message: fmt.Sprintf("%q are more than this host has: %d", r.CPUs, host)})
		}
		if host := m.facts.Host.Memory; host > 0 && r.MemoryBytes() > host {
			errs = append(errs, config.Error{Path: at + ".memory", Message: fmt.Sprintf("%q is more than this host has: %dMi", r.Memory, host>>20)})
		}
		memory += r.MemoryBytes() * int64(max(n.Count, 1))
	}
	if len(errs) > 0 {
		return problem.InvalidConfig.Wrap(errs)
	}
	if host := m.facts.Host.Memory; host > 0 && memory > host {
		m.warnings = append(m.warnings, fmt.Sprintf("nodes: the memory of all nodes together, %dMi, is more than this host has, %dMi: if they use it, the host runs out of memory", memory>>20, host>>20))
	}
	if limited != "" && m.mode == CgroupNone {
		m.warnings = append(m.warnings, limited+": the limits of nodes are not enforced, as no cgroup controllers are used; "+
			"the scheduler of Kubernetes goes by them all the same")
	}
	return nil
}

// proxyVariables are the proxies of nodes: variables of the environment, and
// what of their values is secret.
type proxyVariables struct {
	values      map[string]string
	credentials []string
}

// proxies settles what nodes reach other hosts through.
func (m *maker) proxies() {
	p := m.config.Proxy
	m.proxy = proxyVariables{values: map[string]string{}}
	if p.Disabled {
		return
	}
	for _, f := range []struct{ variable, field, url string }{{"HTTP_PROXY", "proxy.http (HTTP_PROXY)", p.HTTP}, {"HTTPS_PROXY", "proxy.https (HTTPS_PROXY)", p.HTTPS}} {
		u, port := proxyAt(f.url)
		if u == nil || port != 0 && !m.rewrite(u, port, f.field) {
			continue
		}
		m.proxy.set(f.variable, u.String())
		if u.User != nil {
			m.proxy.credentials = append(m.proxy.credentials, u.User.String(), escape(u.User.String()))
		}
	}
	if len(m.proxy.values) > 0 {
		m.proxy.set("NO_PROXY", strings.Join(m.noProxy(p.NoProxy), ","))
	}
}

// set sets a variable in both forms that programs look for.
func (v proxyVariables) set(name, value string) {
	v.values[name], v.values[strings.ToLower(name)] = value, value
}

// proxyAt reads the URL of a proxy, nil if there is none; port is not 0 for one
// on the loopback address, which in a node is another machine than the user means.
func proxyAt(s string) (u *url.URL, port uint16) {
	u, err := config.ProxyURL(s)
	if s == "" || err != nil { // refused before, by validation
		return nil, 0
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if !strings.EqualFold(u.Hostname(), "localhost") && (err != nil || !addr.IsLoopback()) {
		return u, 0
	}
	n, err := strconv.ParseUint(cmp.Or(u.Port(), defaultPorts[u.Scheme]), 10, 16)
	if err != nil {
		return nil, 0
	}
	return u, uint16(n)
}

var defaultPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// LoopbackProxies are the ports of proxies that are on the host's loopback address.
func LoopbackProxies(p config.Proxy) []uint16 {
	var out []uint16
	for _, s := range []string{p.HTTP, p.HTTPS} {
		if _, port := proxyAt(s); port != 0 && !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	return out
}

// rewrite has a proxy of the host's loopback address be reached from nodes; if
// it cannot be, that is a warning.
func (m *maker) rewrite(u *url.URL, port uint16, field string) bool {
	h := m.facts.Host
	if h.IP.IsValid() && slices.Contains(h.ProxyPorts, port) {
		u.Host = fmt.Sprintf("%s:%d", config.HostName, port)
		return true
	}
	why := fmt.Sprintf("nothing answers on port %d of %s; have the proxy listen there, too, or on all addresses", port, h.Address)
	if !h.IP.IsValid() {
		why = "the engine's network has no way to this host"
	}
	m.warnings = append(m.warnings, fmt.Sprintf("%s: the proxy on port %d of this host's loopback address is left out, as nodes cannot reach it: %s", field, port, why))
	return false
}

// noProxy is what is reached without a proxy: what the user says, and all that
// belongs to the cluster.
func (m *maker) noProxy(list []string) []string {
	out := slices.Clone(list)
	out = append(out, "localhost", "127.0.0.0/8", "::1", config.HostName, ".svc", "."+m.dnsDomain)
	for _, p := range slices.Concat(m.pods, m.services, []netip.Prefix{m.facts.Subnet.Masked()}) {
		out = append(out, p.String())
	}
	if m.ipv6() {
		out = append(out, m.facts.IPv6Subnet.Masked().String())
	}
	for _, n := range m.nodes {
		out = append(out, n.Name)
	}
	if m.balancer != nil {
		out = append(out, m.balancer.Name)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(s string) bool {
		dup := seen[s]
		seen[s] = true
		return dup
	})
}

// hostEntries are lines of /etc/hosts of a node: its own, the cluster's, and the host.
func (m *maker) hostEntries(i int) []engine.Host {
	own := m.config.Nodes[m.groups[i]].Hosts
	return m.withHost(slices.Concat(m.config.Hosts, own))
}

// withHost adds the name of the host, unless the user has it elsewhere.
func (m *maker) withHost(entries []config.HostEntry) []engine.Host {
	var out []engine.Host
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.IP)
		if err != nil { // refused before, by validation
			continue
		}
		h := engine.Host{IP: addr}
		for _, n := range e.Names {
			h.Names = append(h.Names, strings.TrimSuffix(n, "."))
		}
		out = append(out, h)
	}
	if m.facts.Host.IP.IsValid() && !config.NamesHost(entries) {
		out = append(out, engine.Host{IP: m.facts.Host.IP, Names: []string{config.HostName}})
	}
	return out
}

// podHosts are the names that the cluster's DNS knows beside those of
// Kubernetes. Pods that have IPv6 alone cannot reach the host's IPv4 address.
func (m *maker) podHosts() []engine.Host {
	if m.config.Networking.IPFamily != config.IPv6 || !m.facts.Host.IP.Is4() {
		return m.withHost(m.config.Hosts)
	}
	other := *m
	other.facts.Host.IP = netip.Addr{}
	return other.withHost(m.config.Hosts)
}

// limit gives a container the resources of its group of nodes, where they can be enforced.
func (m *maker) limit(i int, spec *engine.ContainerSpec) {
	if m.mode != CgroupDelegated {
		return
	}
	r := m.config.Nodes[m.groups[i]].Resources
	spec.NanoCPUs, spec.Memory = r.MilliCPUs()*1_000_000, r.MemoryBytes()
}

// wholeCPUs is how many CPUs a kubelet reports, as it knows whole ones alone,
// and reserved what of them pods may not have, in thousandths; 0 if there is no limit.
func wholeCPUs(r config.Resources) (cpus, reserved int64) {
	cpus = (r.MilliCPUs() + 999) / 1000
	return cpus, cpus*1000 - r.MilliCPUs()
}

// optionFiles are the files of a node that options ask for.
func (m *maker) optionFiles(i int) ([]File, error) {
	var out []File
	add := func(path string, mode uint32, template string, data any) error {
		content, err := render.File(templates.FS, template, data)
		out = append(out, File{Path: path, Mode: mode, Content: content})
		return err
	}
	env := maps.Clone(m.proxy.values)
	maps.Copy(env, m.config.EnvOf(m.groups[i]))
	if len(env) > 0 {
		var lines []string
		for _, k := range slices.Sorted(maps.Keys(env)) {
			lines = append(lines, escape(k+"="+env[k]))
		}
		if err := add(environmentFile, 0o600, "environment.conf.tmpl", map[string]any{"Assignments": lines}); err != nil {
			return nil, err
		}
		out[len(out)-1].Credentials = m.proxy.credentials
	}
	if r := m.config.Nodes[m.groups[i]].Resources; r != (config.Resources{}) {
		cpus, _ := wholeCPUs(r)
		data := map[string]any{"CPUs": cpus, "MemoryKiB": r.MemoryBytes() / 1024, "Program": withResources}
		if err := add(withResources, 0o755, "with-resources.sh.tmpl", data); err != nil {
			return nil, err
		}
		if err := add(resourcesDropIn, 0o644, "kubelet-resources.conf.tmpl", data); err != nil {
			return nil, err
		}
	}
	for n, certificate := range m.facts.Host.Authorities {
		out = append(out, File{Path: fmt.Sprintf("%srk-%d.crt", authoritiesDir, n+1), Mode: 0o644, Content: certificate})
	}
	if len(m.facts.Host.Authorities) > 0 {
		if err := add(authoritiesDropIn, 0o644, "authorities.conf.tmpl", nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// escape quotes a value for a list in systemd's configuration, in which '%'
// begins a specifier (systemd.syntax(7), systemd-system.conf(5)).
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s)
}
