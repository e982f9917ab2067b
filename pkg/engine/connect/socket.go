// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unitPatience bounds the question to the user's systemd, which answers in
// milliseconds or, if there is none, at once.
const unitPatience = 5 * time.Second

var (
	errNoUnit   = errors.New("podman.socket is not active")
	errNotFound = errors.New("not found in PATH")
)

// answers reports whether something accepts connections at path.
func answers(ctx context.Context, path string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// peerUID connects to path and returns the user that listens there. For a
// socket of systemd's that is the user whose manager it is.
func peerUID(ctx context.Context, path string) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // all was read or has failed
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, peerErr); err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}

// unitSocket asks the user's systemd where podman.socket listens, which an
// administrator may have changed. It is an error if the unit is not active.
func (d dialer) unitSocket(ctx context.Context, runtimeDir string) (string, error) {
	systemctl, err := lookPath("systemctl", d.env("PATH"))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, unitPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, systemctl, "--user", "show", "podman.socket", "--property=ActiveState,Listen")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtimeDir)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("systemctl: %w", err)
	}
	return parseUnit(string(out))
}

// parseUnit reads what "systemctl show" prints for a socket unit:
//
//	ActiveState=active
//	Listen=/run/user/1000/podman/podman.sock (Stream)
func parseUnit(show string) (string, error) {
	active, path := false, ""
	for line := range strings.Lines(show) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "ActiveState":
			active = value == "active"
		case "Listen":
			if p, ok := strings.CutSuffix(value, " (Stream)"); ok && filepath.IsAbs(p) && path == "" {
				path = p
			}
		}
	}
	if !active || path == "" {
		return "", errNoUnit
	}
	return path, nil
}

// lookPath finds an executable in a PATH, which is not this process's own in
// tests.
func lookPath(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // never what happens to lie in the working directory
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errNotFound)
}
