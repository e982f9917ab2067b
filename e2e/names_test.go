// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

// outside is the address of every name that test hosts ask their name server for.
var outside = [4]byte{192, 0, 2, 53} // of the documentation's network (RFC 5737)

// serveNames lets a host resolve names: it is the name server at the gateway
// that the host's resolv.conf names. Several test runs may be that at once.
func serveNames(t *testing.T, h *testhost.Host) {
	t.Helper()
	reuse := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := reuse.ListenPacket(context.WithoutCancel(t.Context()), "udp4", netip.AddrPortFrom(h.Gateway(), 53).String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		request := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(request)
			if err != nil {
				return // closed
			}
			if response, err := answer(request[:n]); err == nil {
				_, _ = conn.WriteTo(response, from) // who asked asks again
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}

// answer answers a DNS query: each name has one IPv4 address, and no other records.
func answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable = true, true
	m.Additionals = nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 30},
				Body:   &dnsmessage.AResource{A: outside},
			})
		}
	}
	return m.Pack()
}
