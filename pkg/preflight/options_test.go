// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const testCertificate = `-----BEGIN CERTIFICATE-----
MIIBXDCCAQGgAwIBAgIBATAKBggqhkjOPQQDAjAcMRowGAYDVQQDExFwcm94eS5l
eGFtcGxlLmNvbTAgFw0yNjAxMDEwMDAwMDBaGA8yMDc2MDEwMTAwMDAwMFowHDEa
MBgGA1UEAxMRcHJveHkuZXhhbXBsZS5jb20wWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAASScLbyzb1K8dOrjiy64dKVzSWhRmmYCnrN+2Y4dry81jp8HXNN6FLpVCYe
g+5VUeTKydcCh7NBTXbPBTaKEPh5ozIwMDAPBgNVHRMBAf8EBTADAQH/MB0GA1Ud
DgQWBBQxa1dliw6hpsFEPR52Mjv3ILY9OjAKBggqhkjOPQQDAgNJADBGAiEApdSv
DnXmkwW5r7NlOuXwt0PSr1H4WVk7prTAKZv7KPACIQCcKoxJ02OR5ErYMGmhueQZ
B+hwAYp58VTNyWv/937DwA==
-----END CERTIFICATE-----
`

// fakeFiles are those of fakeHost.
var fakeFiles = map[string]string{
	"/one.pem":   testCertificate,
	"/two.pem":   "a comment\n" + testCertificate + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not for nodes")})) + testCertificate,
	"/none.pem":  "no certificate",
	"/wrong.pem": testCertificate + "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
}

func TestHostIP(t *testing.T) {
	t.Parallel()
	own := own{address: netip.MustParseAddr("192.0.2.9")}
	for _, tc := range []struct {
		engine engine.Info
		pasta  string
		want   string
	}{
		{engine.Info{Name: "podman", Version: "5.4.2", NetworkDriver: "pasta"}, "20250503", "169.254.1.2"},
		{engine.Info{Name: "podman", Version: "5.3.0", NetworkDriver: "pasta"}, "", "169.254.1.2"},
		{engine.Info{Name: "podman", Version: "6.0.0-dev", NetworkDriver: "pasta"}, "20240821", "169.254.1.2"},
		{engine.Info{Name: "podman", Version: "5.4.2", NetworkDriver: "pasta"}, "20240820", "invalid IP"},
		{engine.Info{Name: "podman", Version: "5.2.5", NetworkDriver: "pasta"}, "20250503", "invalid IP"},
		{engine.Info{Name: "podman", Version: "unknown", NetworkDriver: "pasta"}, "20250503", "invalid IP"},
		{engine.Info{Name: "podman", Version: "5.4.2", NetworkDriver: "slirp4netns"}, "20250503", "192.0.2.9"},
		{engine.Info{Name: "podman", Version: "4.3.1"}, "", "192.0.2.9"},
		{engine.Info{Name: "docker", Version: "26.1.5", NetworkDriver: "slirp4netns"}, "", "192.0.2.9"},
		{engine.Info{Name: "docker", Version: "28.5.2", NetworkDriver: "pasta"}, "20250503", "192.0.2.9"},
	} {
		own.pasta = tc.pasta
		if got := hostIP(tc.engine, own).String(); got != tc.want {
			t.Errorf("%+v with pasta %q: %s, want %s", tc.engine, tc.pasta, got, tc.want)
		}
	}
}

func TestHostOfNodes(t *testing.T) {
	t.Parallel()
	c := clusterConfig(func(c *config.Cluster) {
		c.Proxy = config.Proxy{HTTP: "http://127.0.0.1:3128", HTTPS: "http://localhost:3129", CAFiles: []string{"/one.pem", "/two.pem"}}
	})
	got, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
	if err != nil {
		t.Fatal(err)
	}
	want := plan.HostFacts{
		IP: netip.MustParseAddr("192.0.2.9"), Address: netip.MustParseAddr("192.0.2.9"), CPUs: 4, Memory: 8 << 30,
		ProxyPorts: []uint16{3128}, Authorities: []string{testCertificate, testCertificate, testCertificate},
	}
	got.Host.IP = want.IP // the Fake's is that of TestHostIP
	if diff := cmp.Diff(want, got.Host, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for path, says := range map[string]string{
		"/missing.pem": "/missing.pem is not there", "/none.pem": "no certificate in PEM form", "/wrong.pem": "certificate 2",
	} {
		c.Proxy.CAFiles = []string{path}
		_, err := gather(t.Context(), enginetest.NewFake(), c, imageFacts(), fakeHost{})
		if !errors.Is(err, problem.InvalidConfig) || !strings.Contains(err.Error(), "proxy.caFiles[0]: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestMemTotal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"MemTotal:        1024 kB\nMemFree: 1 kB\n": 1 << 20, "MemFree: 1 kB\nMemTotal: 2 kB": 2048, "": 0, "MemTotal: many kB": 0,
	} {
		if got := memTotal([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// What this machine is, as it says itself.
func TestLocalOwn(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip(err)
	}
	o := localHost{}.Own(t.Context())
	if o.cpus < 1 || o.memory < 1<<20 {
		t.Errorf("%d CPUs, %d bytes of memory", o.cpus, o.memory)
	}
}
