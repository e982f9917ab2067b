// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Check plans a defaulted and validated configuration with facts of a machine
// on which everything works: it says before anything is measured, built or
// made what no machine could make of the configuration, as config.Errors in an
// InvalidConfig, and what Make would warn of because of the configuration
// alone. What depends on the machine is left to Make.
func Check(c config.Cluster) (warnings []string, err error) {
	f := Facts{
		Engine:     engine.Info{Name: "podman", Rootless: true, CgroupVersion: 2, Controllers: []string{"cpu", "memory", "pids"}},
		Subnet:     netip.MustParsePrefix("192.0.2.0/24"), // for documentation: in no configuration (RFC 5737, RFC 3849)
		IPv6Subnet: netip.MustParsePrefix("2001:db8::/64"),
		APIPort:    APIPort,
		HostPorts:  make([]uint16, len(HostPorts(c))),
		Host:       HostFacts{IP: netip.MustParseAddr("192.0.2.1"), ProxyPorts: LoopbackProxies(c.Proxy)},
		Image:      ImageFacts{Ref: c.Image, KubernetesVersion: c.KubernetesVersion, Images: map[string]string{}},
	}
	if c.KubernetesVersion == "" {
		f.Image.KubernetesVersion = config.DefaultKubernetesVersion
	}
	for _, name := range requiredImages {
		f.Image.Images[name] = "localhost/rk/" + name + ":check"
	}
	p, err := Make(c, f)
	var invalid config.Errors
	switch {
	case err == nil:
		return p.Warnings, nil
	case errors.As(err, &invalid), errors.Is(err, problem.InvalidConfig):
		return nil, err
	}
	return nil, nil // it may be otherwise on the machine
}
