// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// runner runs a tool in dir with env added to the environment; everything
// that it prints goes to out.
type runner func(ctx context.Context, dir string, env []string, out io.Writer, name string, args ...string) error

// execute is the runner of real life. A cancelled command gets ten seconds to
// end with its children before it is killed.
func execute(ctx context.Context, dir string, env []string, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// toolchain is what compiles a part.
type toolchain struct {
	identity string // changes whenever the same input could give other bytes
	proxy    string // GOPROXY
}

// goEnv is what matters of "go env".
type goEnv struct {
	Version    string `json:"GOVERSION"`
	Experiment string `json:"GOEXPERIMENT"`
	Proxy      string `json:"GOPROXY"`
	CC         string `json:"CC"`
	CFlags     string `json:"CGO_CFLAGS"`
	CPPFlags   string `json:"CGO_CPPFLAGS"`
	LDFlags    string `json:"CGO_LDFLAGS"`
	PkgConfig  string `json:"PKG_CONFIG"`
}

// inspect finds the tools that p needs. dir is any folder outside a module.
func inspect(ctx context.Context, run runner, dir string, p Part, arch, required string) (toolchain, error) {
	var buf bytes.Buffer
	err := run(ctx, dir, environment(p, arch), &buf, "go", "env", "-json", "GOVERSION", "GOEXPERIMENT", "GOPROXY", "CC",
		"CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_LDFLAGS", "PKG_CONFIG")
	if errors.Is(err, exec.ErrNotFound) {
		return toolchain{}, problem.BuildToolMissing.
			Withf("Install Go %s or later (https://go.dev/doc/install) and have the command go in PATH%s", strings.TrimPrefix(required, "go"), elsewhere).
			Wrapf("part %s is compiled by a Go toolchain, and there is none: %w", p.Name, err)
	}
	if err != nil {
		return toolchain{}, fmt.Errorf("asking the go tool for its settings: %w: %s", err, strings.TrimSpace(buf.String()))
	}
	var env goEnv
	// A warning of the go tool may stand before the settings.
	settings := buf.Bytes()[max(0, bytes.IndexByte(buf.Bytes(), '{')):]
	if err := json.Unmarshal(settings, &env); err != nil {
		return toolchain{}, fmt.Errorf("reading the settings of the go tool: %w", err)
	}
	// Development versions ("devel go1.27-…") are taken as they come.
	if version.IsValid(env.Version) && version.Compare(env.Version, required) < 0 {
		return toolchain{}, problem.BuildToolMissing.
			Withf("Install Go %s or later (https://go.dev/doc/install) and have its command go first in PATH%s", strings.TrimPrefix(required, "go"), elsewhere).
			Wrapf("part %s needs %s or later, and the Go toolchain is %s", p.Name, required, env.Version)
	}
	t := toolchain{identity: env.Version + " " + env.Experiment, proxy: env.Proxy}
	if p.Cgo {
		c, err := inspectC(ctx, run, dir, p, arch, env)
		if err != nil {
			return toolchain{}, err
		}
		t.identity += "\n" + c
	}
	return t, nil
}

// inspectC finds the C compiler and the static libraries of a cgo part, and
// returns what identifies them.
func inspectC(ctx context.Context, run runner, dir string, p Part, arch string, env goEnv) (string, error) {
	if arch != runtime.GOARCH {
		return "", problem.BuildToolMissing.
			Withf("Build on a machine of that kind, or take the official artifacts ('--source release')%s", elsewhere).
			Wrapf("part %s has C code, which is not compiled for %s on this %s machine", p.Name, arch, runtime.GOARCH)
	}
	fields := strings.Fields(env.CC)
	if len(fields) == 0 {
		fields = []string{"gcc"}
	}
	compiler := func(args ...string) (string, error) {
		var buf bytes.Buffer
		err := run(ctx, dir, nil, &buf, fields[0], append(fields[1:len(fields):len(fields)], args...)...)
		return strings.TrimSpace(buf.String()), err
	}
	id, err := compiler("--version")
	if err != nil {
		return "", missing(p, err, "C compiler "+fields[0], "gcc libc6-dev")
	}
	ids := []string{id, env.CC, env.CFlags, env.CPPFlags, env.LDFlags}
	for _, lib := range append([]string{"c"}, p.CLibs...) {
		path, err := compiler("-print-file-name=lib" + lib + ".a")
		if err != nil {
			return "", fmt.Errorf("asking %s for the library %s: %w", fields[0], lib, err)
		}
		// The compiler answers with the bare name if it found nothing.
		if !filepath.IsAbs(path) {
			return "", missing(p, nil, "static library lib"+lib+".a", debianPackages[lib])
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		ids = append(ids, fmt.Sprintf("%s %x", lib, sha256.Sum256(data)))
	}
	if len(p.CLibs) > 0 {
		name := env.PkgConfig
		if name == "" {
			name = "pkg-config"
		}
		if err := run(ctx, dir, nil, io.Discard, name, "--version"); err != nil {
			return "", missing(p, err, "tool "+name, "pkg-config")
		}
	}
	return strings.Join(ids, "\n"), nil
}

// debianPackages says which Debian package brings a static C library.
var debianPackages = map[string]string{"c": "libc6-dev", "seccomp": "libseccomp-dev"}

// elsewhere ends the advice on what is missing here.
const elsewhere = ", or take the parts from a folder that was made elsewhere: 'rk build node-image --source dir --source-dir DIR'."

func missing(p Part, err error, what, packages string) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	fix := problem.BuildToolMissing.Withf("Install it (Debian and Ubuntu: 'sudo apt-get install %s')%s", packages, elsewhere)
	if err != nil {
		return fix.Wrapf("part %s is compiled with the %s: %w", p.Name, what, err)
	}
	return fix.Wrapf("part %s is compiled with the %s, and there is none", p.Name, what)
}
