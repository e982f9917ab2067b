// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// taken is a prefix that is in use, and by what, for messages.
type taken struct {
	prefix netip.Prefix
	by     string
}

// host is what is measured on this machine, apart from the engine.
type host interface {
	// Taken returns the prefixes of the host's addresses and IPv4 routes.
	Taken() []taken
	// MTU of the interface with the default route, in bytes; 0 if unknown.
	MTU() int
	// FreePort returns port if it can be listened on, one that can be if it is
	// 0. protocol is "tcp" or "udp".
	FreePort(ctx context.Context, protocol string, addr netip.Addr, port uint16) (uint16, error)
	// Exists returns why there is no such file or folder, nil if there is.
	Exists(path string) error
	// AuthFiles are where this user's engines keep credentials, the first that counts first.
	AuthFiles() []string
	surroundings
}

// localHost is the machine that rk runs on.
type localHost struct{}

func (localHost) Taken() []taken {
	var out []taken
	interfaces, _ := net.Interfaces() // what cannot be seen cannot be avoided: the engine still refuses a real clash
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, taken{p.Masked(), "interface " + i.Name})
			}
		}
	}
	for _, r := range localRoutes() {
		if !r.isDefault() {
			out = append(out, taken{r.dst, "a route through " + r.device})
		}
	}
	return out
}

func (localHost) MTU() int {
	device, ok := defaultDevice(localRoutes())
	if !ok {
		return 0
	}
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0
	}
	return i.MTU
}

// defaultDevice returns the interface of the default route; not ok without one.
func defaultDevice(routes []route) (device string, ok bool) {
	var best route
	for _, r := range routes {
		if r.isDefault() && (!ok || r.before(best)) {
			best, ok = r, true
		}
	}
	return best.device, ok
}

// Ports that are chosen from where none is asked for. They lie below the
// ephemeral range (net.ipv4.ip_local_port_range, from 32768 by default): a port
// of that may be some connection's while the cluster is stopped, and pasta
// does not forward those that it finds by itself.
const firstPort, portCount = 20000, 10000

// portAttempts is how many of them are tried before the kernel is asked.
const portAttempts = 50

func (h localHost) FreePort(ctx context.Context, protocol string, addr netip.Addr, port uint16) (uint16, error) {
	if port != 0 {
		return h.listen(ctx, protocol, addr, port)
	}
	for range portAttempts {
		// By chance, so that clusters that are made at once differ.
		got, err := h.listen(ctx, protocol, addr, firstPort+uint16(rand.IntN(portCount))) //nolint:gosec // not a secret
		if err == nil || ctx.Err() != nil || !errors.Is(err, syscall.EADDRINUSE) {
			return got, err
		}
	}
	return h.listen(ctx, protocol, addr, 0)
}

// listen returns port, or one that the kernel picks if it is 0, if it can be listened on.
func (localHost) listen(ctx context.Context, protocol string, addr netip.Addr, port uint16) (uint16, error) {
	var lc net.ListenConfig
	family, at := "4", netip.AddrPortFrom(addr, port).String()
	if addr.Is6() {
		family = "6"
	}
	if protocol == "udp" {
		c, err := lc.ListenPacket(ctx, "udp"+family, at)
		if err != nil {
			return 0, err
		}
		got := c.LocalAddr().(*net.UDPAddr).AddrPort().Port() //nolint:forcetypeassert // the connection is UDP
		return got, c.Close()
	}
	l, err := lc.Listen(ctx, "tcp"+family, at)
	if err != nil {
		return 0, err
	}
	got := l.Addr().(*net.TCPAddr).AddrPort().Port() //nolint:forcetypeassert // the listener is TCP
	return got, l.Close()
}

func (localHost) Exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// AuthFiles follows containers-auth.json(5), then docker.
func (localHost) AuthFiles() []string {
	var out []string
	add := func(variable, rest string) {
		if dir := os.Getenv(variable); dir != "" {
			out = append(out, filepath.Join(dir, rest))
		}
	}
	add("REGISTRY_AUTH_FILE", "")
	add("XDG_RUNTIME_DIR", "containers/auth.json")
	add("XDG_CONFIG_HOME", "containers/auth.json")
	add("HOME", ".config/containers/auth.json")
	add("DOCKER_CONFIG", "config.json")
	add("HOME", ".docker/config.json")
	return out
}

// route is one line of the kernel's IPv4 routing table.
type route struct {
	device string
	dst    netip.Prefix
	metric int
}

// isDefault also holds for the halves of the address space that VPNs put in
// place of a default route (OpenVPN's "redirect-gateway def1").
func (r route) isDefault() bool { return r.dst.Bits() < 8 }

// before says that the kernel prefers r: the longer prefix, then the lower metric.
func (r route) before(o route) bool {
	if r.dst.Bits() != o.dst.Bits() {
		return r.dst.Bits() > o.dst.Bits()
	}
	return r.metric < o.metric
}

func localRoutes() []route {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return nil // as for interfaces
	}
	defer f.Close() //nolint:errcheck // only read
	routes, _ := parseRoutes(f)
	return routes
}

// parseRoutes reads the format of /proc/net/route (fib_route_seq_show in the
// kernel's net/ipv4/fib_trie.c): one header line, then columns, addresses as
// hexadecimal numbers in the byte order of the machine.
func parseRoutes(r io.Reader) ([]route, error) {
	var out []route
	lines := bufio.NewScanner(r)
	lines.Scan()
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 {
			return out, fmt.Errorf("routing table: line %q has %d columns", lines.Text(), len(f))
		}
		dst, err := hex.DecodeString(f[1])
		if err != nil || len(dst) != 4 {
			return out, fmt.Errorf("routing table: destination %q", f[1])
		}
		mask, err := strconv.ParseUint(f[7], 16, 32)
		if err != nil {
			return out, fmt.Errorf("routing table: mask %q", f[7])
		}
		metric, err := strconv.Atoi(f[6])
		if err != nil {
			return out, fmt.Errorf("routing table: metric %q", f[6])
		}
		var addr [4]byte
		binary.NativeEndian.PutUint32(addr[:], binary.BigEndian.Uint32(dst))
		out = append(out, route{device: f[0], dst: netip.PrefixFrom(netip.AddrFrom4(addr), bits.OnesCount32(uint32(mask))), metric: metric})
	}
	return out, lines.Err()
}
