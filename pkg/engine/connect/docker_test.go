// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// dockerContext makes a docker context below a configuration folder.
func (h *host) dockerContext(config, name, host string) {
	h.Helper()
	dir := filepath.Join(config, "contexts", "meta", fmt.Sprintf("%x", sha256.Sum256([]byte(name))))
	h.file(filepath.Join(dir, "meta.json"), fmt.Sprintf(`{"Name": %q, "Metadata": {}, "Endpoints": {"docker": {"Host": %q, "SkipTLSVerify": false}}}`, name, host))
}

func (h *host) file(path, content string) {
	h.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.Fatal(err)
	}
}

// socketOf closes an engine and returns where it was.
func (h *host) socketOf(e engine.Engine, err error) string {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
	info, err := e.Info(h.Context())
	if err := errors.Join(err, e.Close()); err != nil {
		h.Fatal(err)
	}
	return strings.TrimPrefix(info.Socket, "unix://")
}

func TestDockerFound(t *testing.T) {
	for name, set := range map[string]func(h *host, wanted string){
		"user's own": func(h *host, wanted string) {
			if err := os.Rename(wanted, filepath.Join(h.dir, "docker.sock")); err != nil {
				h.Fatal(err)
			}
		},
		"DOCKER_HOST goes first": func(h *host, wanted string) {
			h.env["DOCKER_HOST"] = "unix://" + wanted
			h.env["DOCKER_CONTEXT"] = "other"
			h.serveDocker("docker.sock", "1.41", true)
		},
		"DOCKER_CONTEXT": func(h *host, wanted string) {
			h.dockerContext(h.dir+"/.docker", "mine", "unix://"+wanted)
			h.dockerContext(h.dir+"/.docker", "other", "unix:///none")
			h.file(h.dir+"/.docker/config.json", `{"currentContext": "other"}`)
			h.env["DOCKER_CONTEXT"] = "mine"
		},
		"current context": func(h *host, wanted string) {
			h.dockerContext(h.dir+"/.docker", "mine", "unix://"+wanted)
			h.file(h.dir+"/.docker/config.json", `{"auths": {}, "currentContext": "mine"}`)
			h.serveDocker("docker.sock", "1.41", true)
		},
		"DOCKER_CONFIG": func(h *host, wanted string) {
			h.env["DOCKER_CONFIG"] = h.dir + "/elsewhere"
			h.dockerContext(h.dir+"/elsewhere", "mine", "unix://"+wanted)
			h.file(h.dir+"/elsewhere/config.json", `{"currentContext": "mine"}`)
			h.file(h.dir+"/.docker/config.json", `{"currentContext": "other"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			wanted := h.serveDocker("wanted.sock", "1.51", true)
			set(h, wanted)
			got := h.socketOf(h.docker(t.Context()))
			if want := wanted; got != want && (name != "user's own" || got != h.dir+"/docker.sock") {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	t.Run("it is a Podman", func(t *testing.T) {
		h := newHost(t)
		mux := http.NewServeMux()
		mux.Handle("/v4.3.1/", apiServer("5.4.2", true).Handler)
		mux.Handle("/", apiServer("5.4.2", true).Handler)
		mux.HandleFunc("/v1.41/version", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"Version": "5.4.2", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine", "Version": "5.4.2"}]}`)
		})
		path := h.serveAPI("p.sock", &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			mux.ServeHTTP(w, r)
		})})
		h.env["DOCKER_HOST"] = "unix://" + path
		e, err := h.docker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info(t.Context())
		if err != nil || info.Name != "podman" {
			t.Errorf("%+v, %v", info, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDockerRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(h *host)
		want *problem.Problem
		text string
	}{
		"nothing there":   {func(*host) {}, problem.NoEngine, "docker.sock"},
		"no such socket":  {func(h *host) { h.env["DOCKER_HOST"] = "unix://" + h.dir + "/none" }, problem.EngineUnreachable, "there is no such socket"},
		"stale socket":    {func(h *host) { h.stale("docker.sock") }, problem.EngineUnreachable, "nothing listens there"},
		"another machine": {func(h *host) { h.env["DOCKER_HOST"] = "ssh://u@h" }, problem.EngineUnreachable, "DOCKER_HOST=ssh://u@h does not name a unix socket"},
		"root's by name":  {func(h *host) { h.env["DOCKER_HOST"] = "unix:///var/run/docker.sock" }, problem.EngineRootful, "the socket of root's Docker"},
		"root's by owner": {func(h *host) {
			h.serveDocker("docker.sock", "1.44", true)
			h.listener(0)
		}, problem.EngineRootful, "belongs to root"},
		"root's behind a user's socket": {func(h *host) { h.serveDocker("docker.sock", "1.44", false) }, problem.EngineRootful, "runs as root"},
		"too old":                       {func(h *host) { h.serveDocker("docker.sock", "1.40", true) }, problem.EngineTooOld, "API version 1.40"},
		"no such context":               {func(h *host) { h.env["DOCKER_CONTEXT"] = "gone" }, problem.EngineUnreachable, `the docker context "gone" of DOCKER_CONTEXT: there is no such context`},
		"context without Docker": {func(h *host) {
			h.env["DOCKER_CONTEXT"] = "k"
			h.dockerContext(h.dir+"/.docker", "k", "")
		}, problem.EngineUnreachable, "it has no Docker endpoint"},
		"broken configuration": {func(h *host) { h.file(h.dir+"/.docker/config.json", "{") }, problem.EngineUnreachable, "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c.set(h)
			e, err := h.docker(t.Context())
			if err == nil {
				t.Fatal("connected", e.Close())
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v\nwant %s with %q", err, c.want.Code, c.text)
			}
		})
	}
}

// describe says which engines were connected to and which could not be.
func describe(all []*Connection, unusable []*Unusable) string {
	var out []string
	for _, c := range all {
		out = append(out, c.Name)
	}
	for _, u := range unusable {
		out = append(out, "!"+u.Name)
	}
	return strings.Join(out, " ")
}

func TestAuto(t *testing.T) {
	podman := func(h *host) { h.serve(userSocket, "5.4.2", true) }
	docker := func(h *host) { h.serveDocker("docker.sock", "1.44", true) }
	for name, c := range map[string]struct {
		set        []func(h *host)
		first, all string
		why        string
	}{
		"podman alone":     {[]func(*host){podman}, "podman", "podman", "only engine"},
		"docker alone":     {[]func(*host){docker}, "docker", "docker", "only engine"},
		"podman installed": {[]func(*host){func(h *host) { h.install("podman") }}, "podman", "podman", "only engine"},
		"both":             {[]func(*host){podman, docker}, "podman", "podman docker", "podman.sock, and it goes before Docker"},
		"the one that runs": {[]func(*host){docker, func(h *host) { h.install("podman") }}, "docker", "docker podman",
			"docker.sock, and Podman has no API service running"},
		"podman broken":    {[]func(*host){docker, func(h *host) { h.env["CONTAINER_HOST"] = "unix:///none" }}, "docker !podman", "docker !podman", "docker.sock"},
		"docker broken":    {[]func(*host){podman, func(h *host) { h.env["DOCKER_HOST"] = "unix:///none" }}, "podman", "podman !docker", "before Docker"},
		"docker elsewhere": {[]func(*host){podman, func(h *host) { h.env["DOCKER_HOST"] = "ssh://u@h" }}, "podman", "podman", "only engine"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for _, set := range c.set {
				set(h)
			}
			first, unusable, err := h.first(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if got := describe([]*Connection{first}, unusable); got != c.first || !strings.Contains(first.Why, c.why) {
				t.Errorf("the first is %s (%s), want %s (%s)", got, first.Why, c.first, c.why)
			}
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			all, unusable, err := h.all(t.Context(), Auto)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(all, unusable); got != c.all {
				t.Errorf("all are %s, want %s", got, c.all)
			}
			for _, c := range all {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNamedEngine(t *testing.T) {
	h := newHost(t)
	h.serve(userSocket, "5.4.2", true)
	h.serveDocker("docker.sock", "1.44", true)
	for _, c := range []struct{ flag, variable, want, why string }{
		{"docker", "", "docker", "--engine says so"},
		{"docker", "podman", "docker", "--engine says so"},
		{"", "docker", "docker", "RK_ENGINE says so"},
		{"auto", "docker", "podman", "goes before"},
		{"podman", "", "podman", "--engine says so"},
	} {
		h.env["RK_ENGINE"] = c.variable
		got, unusable, err := h.first(t.Context(), c.flag)
		if err != nil || len(unusable) > 0 || got.Name != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%+v: %+v, %v, %v", c, got, unusable, err)
			continue
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoneUsable(t *testing.T) {
	h := newHost(t)
	h.env["CONTAINER_HOST"], h.env["DOCKER_HOST"] = "unix:///none", "unix:///none2"
	for _, dial := range []func() error{
		func() error { _, _, err := h.first(t.Context(), ""); return err },
		func() error { _, _, err := h.all(t.Context(), ""); return err },
	} {
		err := dial()
		if !errors.Is(err, problem.EngineUnreachable) || !strings.Contains(err.Error(), "CONTAINER_HOST") || !strings.Contains(err.Error(), "DOCKER_HOST") {
			t.Errorf("got %v, want what is wrong with both", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.all(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
