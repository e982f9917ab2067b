// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// DefaultRegistryPort is the host's port of the local registry.
const DefaultRegistryPort = 5001

// Registries are where nodes pull images from, beside what they do by themselves.
type Registries struct {
	// Local gives the cluster a registry of this host, which all clusters of the
	// engine share and which stays when they are deleted. Images that are pushed
	// to localhost:PORT on the host have the same name in the cluster.
	Local *LocalRegistry `json:"local,omitempty"`
	// Hosts are registries that nodes reach in a way of their own.
	Hosts []RegistryHost `json:"hosts,omitempty"`
}

// LocalRegistry is the registry of this host.
type LocalRegistry struct {
	// Port of 127.0.0.1 that the registry listens on; default: that of the
	// registry if there is one already, else 5001.
	Port int `json:"port,omitempty"`
}

// RegistryHost is how nodes reach one registry.
type RegistryHost struct {
	// Host as in names of images, with its port if they have one: "registry.example.com".
	Host string `json:"host"`
	// Server is the URL at which the registry is; default "https://HOST".
	Server string `json:"server,omitempty"`
	// Cache puts a pull-through cache between nodes and Server, which all clusters
	// of the engine share and which stays when they are deleted.
	Cache bool `json:"cache,omitempty"`
	// Mirrors are URLs that are tried before Server, in this order.
	Mirrors []string `json:"mirrors,omitempty"`
	// CAFile is a file of the host with the certificates (PEM) that vouch for
	// Server and Mirrors; default: those of the node image.
	CAFile string `json:"caFile,omitempty"`
	// ClientCertFile and ClientKeyFile (PEM) are what nodes show to Server.
	ClientCertFile string `json:"clientCertFile,omitempty"`
	ClientKeyFile  string `json:"clientKeyFile,omitempty"`
	// SkipVerify accepts any certificate of Server.
	SkipVerify bool `json:"skipVerify,omitempty"`
	// AuthFile is a file of the host with credentials for Host, as
	// "podman login" and "docker login" write it. "auto" is the first that has some of
	// $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json,
	// ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json and
	// ~/.docker/config.json. Those of other hosts are not taken. Default: no credentials.
	AuthFile string `json:"authFile,omitempty"`
}

// AuthFileAuto looks for credentials where the engines keep them.
const AuthFileAuto = "auto"

// ServerURL is where the registry is.
func (h RegistryHost) ServerURL() string {
	if h.Server != "" {
		return strings.TrimSuffix(h.Server, "/")
	}
	return "https://" + h.Host
}

// ValidateRegistryPort reports what is wrong with the port of the local registry.
func ValidateRegistryPort(port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("%d is not a port; write a number from 1 to 65535", port)
	}
	return nil
}

// registryHostRe is a host as names of images have it (distribution/reference).
var registryHostRe = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$`)

// maxCaches leaves room for nodes in the smallest network.
const maxCaches = 20

func (e *Errors) registries(r Registries) {
	if r.Local != nil && r.Local.Port != 0 {
		if err := ValidateRegistryPort(r.Local.Port); err != nil {
			e.add("registries.local.port", "%s", text(err.Error()))
		}
	}
	seen := map[string]bool{}
	caches := 0
	for i, h := range r.Hosts {
		path := fmt.Sprintf("registries.hosts[%d]", i)
		switch {
		case h.Host == "":
			e.add(path+".host", "is required; write the registry as in names of images, like registry.example.com")
		case strings.Contains(h.Host, "://"):
			e.add(path+".host", "%q is a URL; write the host alone, and the URL as server", h.Host)
		case !registryHostRe.MatchString(h.Host) || len(h.Host) > 253:
			e.add(path+".host", "%q is not a host as names of images have it; write it like registry.example.com or registry.example.com:5000", h.Host)
		case seen[h.Host]:
			e.add(path+".host", "%q is there twice; keep one", h.Host)
		}
		seen[h.Host] = true
		if h.Server != "" {
			e.registryURL(path+".server", h.Server)
		}
		for j, m := range h.Mirrors {
			e.registryURL(fmt.Sprintf("%s.mirrors[%d]", path, j), m)
		}
		if (h.ClientCertFile == "") != (h.ClientKeyFile == "") {
			e.add(path, "clientCertFile and clientKeyFile go together; give both or none")
		}
		if !h.Cache {
			continue
		}
		caches++
		if h.ClientCertFile != "" {
			e.add(path+".cache", "a cache cannot show a client certificate; leave one of the two out")
		}
		if h.SkipVerify {
			e.add(path+".cache", "a cache checks certificates; give caFile instead of skipVerify")
		}
	}
	if caches > maxCaches {
		e.add("registries.hosts", "%d caches are too many; at most %d have room in the network of a cluster", caches, maxCaches)
	}
}

func (e *Errors) registryURL(path, s string) {
	u, err := url.Parse(s)
	if strings.Contains(s, "@") { // which is not shown
		e.add(path, "has credentials, which do not belong into a configuration; use authFile")
		return
	}
	if err != nil {
		e.add(path, "%q is not a URL; write it like https://registry.example.com", s)
		return
	}
	port, _ := strconv.Atoi(u.Port())
	switch {
	case (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || port > 65535 || strings.ContainsAny(s, "\"\\\n"):
		e.add(path, "%q is not the URL of a registry; write it like https://registry.example.com", s)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		e.add(path, "%q has more than scheme, host and port; write it like https://registry.example.com", s)
	}
}
