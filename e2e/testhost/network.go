// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The hosts share one IPv4 subnet: the first /24 of 10.213.0.0/16 that this machine does
// not use. Neither the engines nor Kubernetes take their defaults from there.
const subnetBits = 24

// ensureBridge makes the bridge, unless it exists, and returns its address.
func ensureBridge(ctx context.Context, name string) (netip.Addr, error) {
	if addr, err := bridgeAddr(ctx, name); err != nil || addr.IsValid() {
		return addr, err
	}
	used, err := usedPrefixes()
	if err != nil {
		return netip.Addr{}, err
	}
	subnet, err := freeSubnet(used)
	if err != nil {
		return netip.Addr{}, err
	}
	addr := subnet.Addr().Next()
	for _, args := range [][]string{
		{"link", "add", name, "type", "bridge"},
		{"address", "add", netip.PrefixFrom(addr, subnetBits).String(), "dev", name},
		{"link", "set", name, "up"},
	} {
		if _, err := run(exec.CommandContext(ctx, "ip", args...)); err != nil {
			return netip.Addr{}, err
		}
	}
	return addr, nil
}

// bridgeAddr returns the address of an existing bridge. A bridge without one was left by a
// process that was killed as it made it; it is removed.
func bridgeAddr(ctx context.Context, name string) (netip.Addr, error) {
	bridge, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, nil // no such device
	}
	addrs, err := bridge.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && bridge.Flags&net.FlagUp != 0 {
			return p.Addr(), nil
		}
	}
	_, err = run(exec.CommandContext(ctx, "ip", "link", "delete", name))
	return netip.Addr{}, err
}

// usedPrefixes are the subnets of this machine's devices and routes.
func usedPrefixes() ([]netip.Prefix, error) {
	var used []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p.Masked())
		}
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	return append(used, parseRoutes(string(routes))...), nil
}

// parseRoutes reads /proc/net/route: destination and mask in the second and eighth column,
// hexadecimal in the byte order of the machine. The default route is left out.
func parseRoutes(table string) []netip.Prefix {
	var prefixes []netip.Prefix
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 {
			continue
		}
		dst, err1 := hex.DecodeString(f[1])
		mask, err2 := hex.DecodeString(f[7])
		if errors.Join(err1, err2) != nil || len(dst) != 4 || len(mask) != 4 {
			continue // the heading
		}
		ones := bits.OnesCount32(binary.BigEndian.Uint32(mask))
		if ones == 0 {
			continue
		}
		var addr [4]byte
		binary.NativeEndian.PutUint32(addr[:], binary.BigEndian.Uint32(dst))
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4(addr), ones))
	}
	return prefixes
}

func freeSubnet(used []netip.Prefix) (netip.Prefix, error) {
	for third := range 256 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(third), 0}), subnetBits)
		free := true
		for _, p := range used {
			free = free && !p.Overlaps(subnet)
		}
		if free {
			return subnet, nil
		}
	}
	return netip.Prefix{}, errors.New("every subnet of 10.213.0.0/16 is in use on this machine: free a /24 of it")
}

// freeAddr is the first address after the gateway, in its subnet, that is not used.
func freeAddr(gateway netip.Addr, used map[string]bool) (string, error) {
	subnet, err := gateway.Prefix(subnetBits)
	if err != nil {
		return "", err
	}
	for addr := gateway.Next(); subnet.Contains(addr.Next()); addr = addr.Next() {
		if !used[addr.String()] {
			return addr.String(), nil
		}
	}
	return "", fmt.Errorf("no address is free in %s: remove hosts with %q", subnet, "testhost down")
}
