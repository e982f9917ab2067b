// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crasher is the name under which the test binary starts a private service,
// prints its socket, and waits to be killed.
const crasher = "rk-crasher"

func crash() error {
	d := dialer{env: os.Getenv, uid: os.Getuid(), peer: peerUID}
	dir, err := d.runtimeDir()
	if err != nil {
		return err
	}
	e, err := d.serve(context.Background(), dir)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, e.(served).service.socket); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return e.Close()
}

// needLive skips a test that needs Podman installed for an ordinary user
// with a session, as on the test hosts.
func needLive(t *testing.T) {
	t.Helper()
	if os.Getenv("RK_LIVE_ENGINE") != "podman" {
		t.Skip("RK_LIVE_ENGINE is not podman")
	}
}

func TestLivePrivateService(t *testing.T) {
	needLive(t)
	d := dialer{env: os.Getenv, uid: os.Getuid(), peer: peerUID}
	dir, err := d.runtimeDir()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	e, err := d.serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("connected after %v", time.Since(begin))
	info, err := e.Info(t.Context())
	if err != nil || !info.Rootless || info.Version == "" {
		t.Errorf("%+v, %v", info, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(strings.TrimPrefix(info.Socket, "unix://"))); !os.IsNotExist(err) {
		t.Errorf("socket directory is left: %v", err)
	}
}

func TestLiveServiceDiesWithItsParent(t *testing.T) {
	needLive(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = []string{crasher}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	socket := strings.TrimSpace(line)
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(socket)) })
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	deadline := time.After(time.Minute)
	for answers(t.Context(), socket) {
		select {
		case <-deadline:
			t.Fatal("the service lives on")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestLiveDial is what rk does on the host as it is.
func TestLiveDial(t *testing.T) {
	needLive(t)
	e, _, err := Dial(t.Context(), Options{Engine: Podman})
	if err != nil {
		t.Fatal(err)
	}
	info, err := e.Info(t.Context())
	if err != nil || !info.Rootless {
		t.Errorf("%+v, %v", info, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
