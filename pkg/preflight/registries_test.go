// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// diskHost has the files of this machine.
type diskHost struct {
	fakeHost
	authFiles []string
}

func (diskHost) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (h diskHost) AuthFiles() []string                { return h.authFiles }

func gatherRegistries(t *testing.T, eng Engine, h host, r config.Registries) (plan.Facts, error) {
	t.Helper()
	var f plan.Facts
	err := registries(t.Context(), eng, h, r, &f)
	return f, err
}

func TestLocalRegistryPort(t *testing.T) {
	t.Parallel()
	eng := enginetest.NewFake(ref)
	local := func(port int) config.Registries { return config.Registries{Local: &config.LocalRegistry{Port: port}} }
	for want, port := range map[int]uint16{0: config.DefaultRegistryPort, 5009: 5009} {
		if f, err := gatherRegistries(t, eng, fakeHost{}, local(want)); err != nil || f.RegistryPort != port {
			t.Errorf("%d: %d, %v", want, f.RegistryPort, err)
		}
	}
	if _, err := gatherRegistries(t, eng, fakeHost{}, local(6443)); !errors.Is(err, problem.PortTaken) || !strings.Contains(err.Error(), "registries.local.port 6443") {
		t.Errorf("a port that is taken: %v", err)
	}
	r, err := plan.LocalRegistry(ref, 5005)
	if err == nil {
		err = eng.CreateNetwork(t.Context(), plan.RegistryNetwork(0))
	}
	if err == nil {
		_, err = eng.CreateContainer(t.Context(), r.Container)
	}
	if err != nil {
		t.Fatal(err)
	}
	if f, err := gatherRegistries(t, eng, fakeHost{}, local(0)); err != nil || f.RegistryPort != 5005 {
		t.Errorf("that of the registry: %d, %v", f.RegistryPort, err)
	}
	if _, err := gatherRegistries(t, eng, fakeHost{}, local(5001)); !errors.Is(err, problem.RegistryDiffers) {
		t.Errorf("another port than the registry's: %v", err)
	}
	eng.Fail("ListContainers", "", engine.ErrUnreachable)
	if _, err := gatherRegistries(t, eng, fakeHost{}, local(0)); !errors.Is(err, problem.EngineUnreachable) {
		t.Errorf("no engine: %v", err)
	}
	if _, err := gatherRegistries(t, eng, fakeHost{}, config.Registries{}); err != nil {
		t.Errorf("an engine was asked for nothing: %v", err)
	}
}

// TestRegistryHosts: what the files of a host say, and what is said of those that are not as they should be.
func TestRegistryHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const ca = "-----BEGIN CERTIFICATE-----\nMQ==\n-----END CERTIFICATE-----\n"
	caFile, empty := write("ca.pem", ca), write("empty.pem", "")
	key := write("key.pem", ca+"-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n")
	auth := write("auth.json", `{"auths": {"registry.example.com": {"auth": "dXNlcjpodW50ZXIy"}}}`)
	other := write("other.json", `{"auths": {"other.example.com": {"auth": "dXNlcjpodW50ZXIy"}}}`)
	helper := write("helper.json", `{"credsStore": "pass"}`)
	broken := write("broken.json", "hunter2")
	none := filepath.Join(dir, "none")
	for name, c := range map[string]struct {
		host config.RegistryHost
		auto []string
		want plan.RegistryHostFacts
		err  string
	}{
		"nothing": {},
		"all": {
			host: config.RegistryHost{CAFile: caFile, ClientCertFile: caFile, ClientKeyFile: key, AuthFile: auth},
			want: plan.RegistryHostFacts{CA: ca, ClientCert: ca, AuthFile: auth},
		},
		"found":         {host: config.RegistryHost{AuthFile: "auto"}, auto: []string{none, other, auth}, want: plan.RegistryHostFacts{AuthFile: auth}},
		"after helper":  {host: config.RegistryHost{AuthFile: "auto"}, auto: []string{helper, auth}, want: plan.RegistryHostFacts{AuthFile: auth}},
		"helper alone":  {host: config.RegistryHost{AuthFile: "auto"}, auto: []string{none, helper}, err: "credential helper"},
		"nowhere":       {host: config.RegistryHost{AuthFile: "auto"}, auto: []string{none, other}, err: "authFile: there are no credentials for registry.example.com in the engines' files"},
		"not in it":     {host: config.RegistryHost{AuthFile: other}, err: "no credentials for registry.example.com in " + other},
		"no such file":  {host: config.RegistryHost{AuthFile: none}, err: "authFile: " + none + ": no such file or directory"},
		"not a file":    {host: config.RegistryHost{AuthFile: broken}, err: "not a file of credentials"},
		"no CA":         {host: config.RegistryHost{CAFile: none}, err: "registries.hosts[0].caFile: " + none + ": no such file or directory"},
		"a folder":      {host: config.RegistryHost{CAFile: dir}, err: "is a directory"},
		"empty":         {host: config.RegistryHost{CAFile: empty}, err: "holds no certificate"},
		"key among CAs": {host: config.RegistryHost{CAFile: key}, err: "holds a PRIVATE KEY beside certificates"},
		"no key":        {host: config.RegistryHost{ClientKeyFile: none}, err: "clientKeyFile: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.host.Host = "registry.example.com"
			f, err := gatherRegistries(t, enginetest.NewFake(), diskHost{authFiles: c.auto}, config.Registries{Hosts: []config.RegistryHost{c.host}})
			if c.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]plan.RegistryHostFacts{c.want}, f.RegistryHosts); diff != "" {
					t.Error(diff)
				}
				return
			}
			if !errors.Is(err, problem.InvalidConfig) || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

// TestAuthFiles: where engines keep credentials, in their order.
func TestAuthFiles(t *testing.T) {
	for name, value := range map[string]string{
		"REGISTRY_AUTH_FILE": "/a/file", "XDG_RUNTIME_DIR": "/run/user/1", "XDG_CONFIG_HOME": "", "DOCKER_CONFIG": "/d", "HOME": "/home/x",
	} {
		t.Setenv(name, value)
	}
	want := []string{"/a/file", "/run/user/1/containers/auth.json", "/home/x/.config/containers/auth.json", "/d/config.json", "/home/x/.docker/config.json"}
	if diff := cmp.Diff(want, localHost{}.AuthFiles()); diff != "" {
		t.Error(diff)
	}
}
