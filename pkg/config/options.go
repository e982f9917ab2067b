// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources limit a node. In cgroup mode none they are not enforced, and the
// node tells Kubernetes all the same that it has no more.
type Resources struct {
	// CPUs is a Kubernetes quantity of CPUs, e.g. "1.5" or "1500m"; default: those of the host.
	CPUs string `json:"cpus,omitempty"`
	// Memory is a Kubernetes quantity of bytes, e.g. "2Gi"; default: that of the host.
	Memory string `json:"memory,omitempty"`
}

// HostEntry is an address and its names, as a line of /etc/hosts.
type HostEntry struct {
	IP    string   `json:"ip"`
	Names []string `json:"names"`
}

// Proxy is what nodes reach other hosts through. What is left out comes from
// HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment of rk, unless HTTP
// or HTTPS is given.
type Proxy struct {
	// Disabled keeps the environment's proxies from nodes.
	Disabled bool `json:"disabled,omitempty"`
	// HTTP and HTTPS are the proxies for URLs of the two schemes, e.g.
	// "http://proxy.example.com:3128".
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	// NoProxy are names, domains (.example.com), addresses and subnets that
	// are reached without; the cluster's own are added.
	NoProxy []string `json:"noProxy,omitempty"`
	// CAFiles are files of PEM certificates that nodes trust beside those of
	// their image; relative ones are relative to the current directory of rk.
	CAFiles []string `json:"caFiles,omitempty"`
}

// HostName is the name of the host in nodes and pods.
const HostName = "host.rk.internal"

// What a node needs at least. Of CPU, the requests of its own pods: with less
// the kubelet admits no control plane. Of memory, what its own programs were
// seen to use, 0.96 GB and 0.34 GB a minute after their start, and room for half as much again.
const (
	MinControlPlaneMilliCPUs = 900
	MinWorkerMilliCPUs       = 200
	MinControlPlaneMemory    = 1536 << 20
	MinWorkerMemory          = 512 << 20
)

// MilliCPUs is the limit in thousandths of a CPU, rounded up; 0 without one.
func (r Resources) MilliCPUs() int64 {
	q, err := resource.ParseQuantity(r.CPUs)
	if r.CPUs == "" || err != nil {
		return 0
	}
	return q.MilliValue()
}

// MemoryBytes is the limit in bytes; 0 without one.
func (r Resources) MemoryBytes() int64 {
	q, err := resource.ParseQuantity(r.Memory)
	if r.Memory == "" || err != nil {
		return 0
	}
	return q.Value()
}

// EnvOf is the environment of a group of nodes: the cluster's, with the
// group's own over it; nil if there is none.
func (c Cluster) EnvOf(group int) map[string]string {
	if len(c.Env) == 0 && len(c.Nodes[group].Env) == 0 {
		return nil
	}
	out := map[string]string{}
	maps.Copy(out, c.Env)
	maps.Copy(out, c.Nodes[group].Env)
	return out
}

// NamesHost says whether entries give HostName an address of their own.
func NamesHost(entries []HostEntry) bool {
	return slices.ContainsFunc(entries, func(h HostEntry) bool {
		return slices.ContainsFunc(h.Names, func(n string) bool { return strings.EqualFold(n, HostName) })
	})
}

// options checks what the nodes' programs see and may use.
func (e *Errors) options(c Cluster) {
	e.env("env", c.Env)
	e.hosts("hosts", c.Hosts)
	e.proxy(c.Proxy)
	for i, n := range c.Nodes {
		at := fmt.Sprintf("nodes[%d]", i)
		e.env(at+".env", n.Env)
		e.hosts(at+".hosts", n.Hosts)
		e.resources(at+".resources", n.Role, n.Resources)
	}
}

func (e *Errors) resources(at, role string, r Resources) {
	cpus, memory := int64(MinWorkerMilliCPUs), int64(MinWorkerMemory)
	if role == RoleControlPlane {
		cpus, memory = MinControlPlaneMilliCPUs, MinControlPlaneMemory
	}
	switch q, ok := e.quantity(at+".cpus", r.CPUs, "a number of CPUs", "1.5"); {
	case !ok:
	case q.MilliValue() < cpus:
		e.add(at+".cpus", "%q is too little: the programs of a %s need %s", r.CPUs, text(role), resource.NewMilliQuantity(cpus, resource.DecimalSI))
	}
	switch q, ok := e.quantity(at+".memory", r.Memory, "an amount of memory", "2Gi"); {
	case !ok:
	case q.Value() < 4096 && !strings.HasSuffix(r.Memory, "i"): // a number of what?
		e.add(at+".memory", "%q is a number of bytes; write a unit, like %sGi", r.Memory, r.Memory)
	case q.Value() < memory:
		e.add(at+".memory", "%q is too little: the programs of a %s need %s", r.Memory, text(role), resource.NewQuantity(memory, resource.BinarySI))
	}
}

// quantity parses a quantity, if there is one.
func (e *Errors) quantity(path, s, what, example string) (q resource.Quantity, ok bool) {
	if s == "" {
		return q, false
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() <= 0 {
		e.add(path, "%q is not %s; write a Kubernetes quantity, like %q", s, text(what), text(example))
		return q, false
	}
	return q, true
}

var envRe = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (e *Errors) env(path string, env map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p := element(path, k)
		switch {
		case !envRe.MatchString(k):
			e.add(p, "is not a name of a variable; use letters, digits and '_'")
		case k == "container":
			e.add(p, "is how systemd knows that it runs in a container; leave it out")
		}
		if strings.ContainsFunc(env[k], unicode.IsControl) {
			e.add(p, "has a control character in its value; write one line of text")
		}
	}
}

func (e *Errors) hosts(path string, entries []HostEntry) {
	for i, h := range entries {
		p := fmt.Sprintf("%s[%d]", path, i)
		switch addr, err := netip.ParseAddr(h.IP); {
		case h.IP == "":
			e.add(p+".ip", "is required; write the address of the names")
		case err != nil || addr.Zone() != "" || addr.Is4In6():
			e.add(p+".ip", "%q is not an IP address; write it like 192.0.2.10", h.IP)
		}
		if len(h.Names) == 0 {
			e.add(p+".names", "is required; write one or more names for the address")
		}
		for j, name := range h.Names {
			at := fmt.Sprintf("%s.names[%d]", p, j)
			switch {
			case !IsDomain(name):
				e.add(at, "%q is not a domain name; write it like registry.example.com", name)
			case strings.EqualFold(name, "localhost"):
				e.add(at, "localhost is each node and pod itself; take another name")
			}
		}
	}
}

// proxy checks proxies. What is wrong with a URL is told without the URL: it
// may hold a password.
func (e *Errors) proxy(p Proxy) {
	given := len(*e)
	for _, f := range []struct{ path, url string }{{"proxy.http", p.HTTP}, {"proxy.https", p.HTTPS}} {
		if _, err := ProxyURL(f.url); err != nil && f.url != "" {
			e.add(f.path, "%s", text(err.Error()))
		}
	}
	if p.Disabled && len(*e) == given && (p.HTTP != "" || p.HTTPS != "" || len(p.NoProxy) > 0) {
		e.add("proxy.disabled", "is true, but proxies are given beside it; keep one of the two")
	}
	for i, n := range p.NoProxy {
		if n == "" || strings.ContainsFunc(n, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == ',' }) {
			e.add(fmt.Sprintf("proxy.noProxy[%d]", i), "%q is not a name, domain, address or subnet; write one for each entry of the list, like .example.com", n)
		}
	}
	for i, f := range p.CAFiles {
		if f == "" || strings.ContainsRune(f, 0) {
			e.add(fmt.Sprintf("proxy.caFiles[%d]", i), "%q is not a path; write a file of PEM certificates on this host", f)
		}
	}
}

// ProxyURL reads the URL of a proxy, in which the scheme may be left out, as
// in the environment. Its error does not hold the URL.
func ProxyURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return nil, fmt.Errorf("is not the URL of a proxy; write it like http://proxy.example.com:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("has the scheme %q, which is none of a proxy; write it like http://proxy.example.com:3128", shorten(u.Scheme))
}
