// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// surroundings is what of the host its nodes get to see.
type surroundings interface {
	// Own describes the machine itself.
	Own(ctx context.Context) own
	// Answers says whether something accepts connections there.
	Answers(ctx context.Context, at netip.AddrPort) bool
	ReadFile(path string) ([]byte, error)
}

// own is what a machine is; what is not known is zero.
type own struct {
	address netip.Addr // of the interface with the default route, IPv4
	cpus    int
	memory  int64  // bytes
	pasta   string // the date of its version, 20241030
}

func (localHost) Own(ctx context.Context) own {
	o := own{cpus: runtime.NumCPU()}
	if device, ok := defaultDevice(localRoutes()); ok {
		o.address = address(device).Value
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		o.memory = memTotal(data)
	}
	o.pasta = Local(os.Getenv).pasta(ctx).Value
	return o
}

// answerTimeout is long for a connection from this machine to itself.
const answerTimeout = 2 * time.Second

func (localHost) Answers(ctx context.Context, at netip.AddrPort) bool {
	c, err := (&net.Dialer{Timeout: answerTimeout}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent
	return true
}

func (localHost) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// memTotal is MemTotal of /proc/meminfo, in bytes; 0 if it is not there.
func memTotal(meminfo []byte) int64 {
	for s := bufio.NewScanner(bytes.NewReader(meminfo)); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// Where Podman has pasta map the host's own address (containers/common,
// libnetwork/pasta: mapGuestAddrIpv4), since 5.3 and with a pasta that has --map-guest-addr.
var (
	pastaHost      = netip.MustParseAddr("169.254.1.2")
	pastaHostSince = "20240821"
)

// hostIP is where containers in a network of an engine reach their host; the
// zero address if they do not.
//
// Podman 5's pasta gives its namespace the host's own address, which is then no
// way to the host; another one is mapped to it. slirp4netns, which Podman 4 and
// Docker's RootlessKit use, and pasta under RootlessKit have addresses of their
// own, so that the host's is the host. None of them leads to the host's
// loopback address: slirp4netns has 10.0.2.2 for it, which both engines turn
// off (slirp4netns(1), --disable-host-loopback).
func hostIP(e engine.Info, o own) netip.Addr {
	if e.Name != "podman" || e.NetworkDriver != "pasta" {
		return o.address
	}
	var major, minor int
	if _, err := fmt.Sscanf(e.Version, "%d.%d", &major, &minor); err != nil || major < 5 || major == 5 && minor < 3 {
		return netip.Addr{}
	}
	if o.pasta != "" && o.pasta < pastaHostSince {
		return netip.Addr{}
	}
	return pastaHost
}

// hostFacts measures what nodes have of their host.
func hostFacts(ctx context.Context, s surroundings, e engine.Info, c config.Cluster) (f plan.HostFacts, err error) {
	o := s.Own(ctx)
	f = plan.HostFacts{IP: hostIP(e, o), Address: o.address, CPUs: o.cpus, Memory: o.memory}
	if o.address.IsValid() && !c.Proxy.Disabled {
		for _, port := range plan.LoopbackProxies(c.Proxy) {
			if s.Answers(ctx, netip.AddrPortFrom(o.address, port)) {
				f.ProxyPorts = append(f.ProxyPorts, port)
			}
		}
	}
	for i, path := range c.Proxy.CAFiles {
		list, err := authorities(s, path)
		if err != nil {
			return f, problem.InvalidConfig.Wrapf("proxy.caFiles[%d]: %w", i, err)
		}
		f.Authorities = append(f.Authorities, list...)
	}
	return f, nil
}

var errNoCertificate = errors.New("no certificate in PEM form is in it")

// authorities returns the certificates of a file, each as one PEM block. What
// else is in the file is left behind.
func authorities(s surroundings, path string) ([]string, error) {
	data, err := s.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not there", path)
	case err != nil:
		return nil, err
	}
	var out []string
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(out)+1, err)
		}
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", path, errNoCertificate)
	}
	return out, nil
}
