// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/authfile"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// registries gathers what the plan of a cluster's registries depends on: which
// there are, and what the files say that the configuration names.
func registries(ctx context.Context, eng Engine, h host, r config.Registries, f *plan.Facts) error {
	if r.Local == nil && len(r.Hosts) == 0 {
		return nil
	}
	containers, err := eng.ListContainers(ctx, map[string]string{plan.LabelRegistry: ""})
	if err != nil {
		return engineError(err)
	}
	if r.Local != nil {
		if f.RegistryPort, err = localRegistryPort(ctx, h, containers, r.Local.Port); err != nil {
			return err
		}
	}
	for i, host := range r.Hosts {
		facts, err := registryHost(h, fmt.Sprintf("registries.hosts[%d]", i), host)
		if err != nil {
			return err
		}
		f.RegistryHosts = append(f.RegistryHosts, facts)
	}
	return nil
}

// RegistryPort is the host's port for the local registry: that of the registry
// that there is, else want, or the default if want is 0. It is
// problem.RegistryDiffers if there is one with another port than want,
// problem.PortTaken if something else listens there.
func RegistryPort(ctx context.Context, eng Engine, want int) (uint16, error) {
	containers, err := eng.ListContainers(ctx, map[string]string{plan.LabelRegistry: ""})
	if err != nil {
		return 0, engineError(err)
	}
	return localRegistryPort(ctx, localHost{}, containers, want)
}

func localRegistryPort(ctx context.Context, h host, containers []engine.Container, want int) (uint16, error) {
	port := uint16(want) //nolint:gosec // validated to be a port
	i := slices.IndexFunc(containers, func(c engine.Container) bool { return c.Name == plan.LocalRegistryName && len(c.Ports) > 0 })
	if i >= 0 {
		has := containers[i].Ports[0].HostPort
		if port != 0 && has != port {
			return 0, problem.RegistryDiffers.Wrapf("%s listens on port %d, and port %d is wanted", plan.LocalRegistryName, has, port)
		}
		return has, nil
	}
	port = cmp.Or(port, config.DefaultRegistryPort)
	switch _, err := h.FreePort(ctx, "tcp", loopback, port); {
	case errors.Is(err, syscall.EACCES):
		return 0, problem.InvalidConfig.With("Take a port of 1024 or above.").Wrapf("registries.local.port %d: this user may not listen on it: %w", port, err)
	case err != nil:
		return 0, problem.PortTaken.With("Stop the other program, or choose another port for the registry: --registry=PORT, or registries.local.port.").
			Wrapf("registries.local.port %d: %w", port, err)
	}
	return port, nil
}

// registryHost reads the files of one of registries.hosts.
func registryHost(h host, field string, r config.RegistryHost) (f plan.RegistryHostFacts, err error) {
	if f.CA, err = certificates(h, field+".caFile", r.CAFile); err != nil {
		return f, err
	}
	if f.ClientCert, err = certificates(h, field+".clientCertFile", r.ClientCertFile); err != nil {
		return f, err
	}
	if r.ClientKeyFile != "" { // which is read once more when it is used, and kept nowhere
		if _, err := h.ReadFile(r.ClientKeyFile); err != nil {
			return f, unreadable(field+".clientKeyFile", r.ClientKeyFile, err)
		}
	}
	f.AuthFile, err = authFile(h, field+".authFile", r)
	return f, err
}

// certificates reads a file with certificates.
func certificates(h host, field, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := h.ReadFile(path)
	if err != nil {
		return "", unreadable(field, path, err)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" { // a key would end up in the plan
			return "", problem.InvalidConfig.Wrapf("%s: %s holds a %s beside certificates; give a file of certificates alone", field, path, block.Type)
		}
	}
	if block, _ := pem.Decode(data); block == nil {
		return "", problem.InvalidConfig.Wrapf("%s: %s holds no certificate (PEM)", field, path)
	}
	return string(data), nil
}

// authFile returns the file that has credentials for a host.
func authFile(h host, field string, r config.RegistryHost) (string, error) {
	candidates := []string{r.AuthFile}
	switch r.AuthFile {
	case "":
		return "", nil
	case config.AuthFileAuto:
		candidates = h.AuthFiles()
	}
	var broken error
	for _, path := range candidates {
		data, err := h.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && r.AuthFile == config.AuthFileAuto {
			continue
		}
		if err != nil {
			return "", unreadable(field, path, err)
		}
		_, ok, err := authfile.Find(data, r.Host)
		if ok {
			return path, nil
		}
		if err != nil && broken == nil {
			broken = problem.InvalidConfig.Wrapf("%s: %s: %w", field, path, err)
		}
	}
	if broken != nil {
		return "", broken
	}
	where := r.AuthFile
	if where == config.AuthFileAuto {
		where = "the engines' files (auth.json, config.json)"
	}
	return "", problem.InvalidConfig.With(fmt.Sprintf("Log in first: 'podman login %s' or 'docker login %s'.", r.Host, r.Host)).
		Wrapf("%s: there are no credentials for %s in %s", field, r.Host, where)
}

// unreadable is what a file that cannot be read means.
func unreadable(field, path string, err error) error {
	return problem.InvalidConfig.With("Correct the path, or make the file readable for yourself.").Wrapf("%s: %s: %s", field, path, reason(err))
}

// MTU of the host's interface with the default route, in bytes; 0 if unknown.
func MTU() int { return localHost{}.MTU() }
