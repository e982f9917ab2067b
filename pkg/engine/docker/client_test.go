// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

const (
	create      = "POST /containers/create"
	findNetwork = "GET /networks/rk-demo"
)

func TestCreateContainer(t *testing.T) {
	ready := func(t *testing.T) (*fakeAPI, *Client) {
		api, c := serveAPI(t)
		api.answer(findNetwork, http.StatusOK, map[string]string{"Name": "rk-demo"})
		return api, c
	}
	t.Run("requests", func(t *testing.T) {
		api, c := ready(t)
		api.answer(create, http.StatusCreated, map[string]string{"Id": "abc"})
		api.answer("POST /containers/abc/start", http.StatusNoContent, nil)
		id, err := c.CreateContainer(t.Context(), nodeSpec)
		if id != "abc" || err != nil {
			t.Errorf("%s, %v", id, err)
		}
		if err := c.StartContainer(t.Context(), id); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{findNetwork, create, "POST /containers/abc/start"}, api.seen()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no network", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(findNetwork, http.StatusNotFound, "network rk-demo not found")
		if _, err := c.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not repeated", func(t *testing.T) {
		api, c := ready(t)
		api.on(create, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		})
		if _, err := c.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, engine.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		if n := len(api.seen()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("cancelled meanwhile", func(t *testing.T) {
		api, c := ready(t)
		ctx, cancel := context.WithCancel(t.Context())
		api.on(create, func(w http.ResponseWriter, _ *http.Request) {
			cancel()
			api.write(w, http.StatusCreated, map[string]string{"Id": "abc"})
		})
		removed := ""
		api.on("DELETE /containers/abc", func(w http.ResponseWriter, r *http.Request) {
			removed = r.URL.Query().Encode()
			w.WriteHeader(http.StatusNoContent)
		})
		if _, err := c.CreateContainer(ctx, nodeSpec); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if removed != "force=1&v=1" {
			t.Errorf("removed with %q", removed)
		}
	})
	for _, c := range []struct {
		status  int
		message string
		want    error
	}{
		{http.StatusNotFound, "No such image: localhost/x:v1", engine.ErrNotFound},
		{http.StatusConflict, `Conflict. The container name "/a" is already in use by container "1". You have to remove (or rename) that container to be able to reuse that name.`, engine.ErrConflict},
	} {
		t.Run(c.message[:10], func(t *testing.T) {
			api, client := ready(t)
			api.fail(create, c.status, c.message)
			if _, err := client.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "create container rk-demo-control-plane: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	api, c := serveAPI(t)
	for message, taken := range map[string]bool{
		"driver failed programming external connectivity on endpoint a (1): Bind for 127.0.0.1:6443 failed: port is already allocated":                                                                          true,
		"driver failed programming external connectivity on endpoint a (1): Error starting userland proxy: error while calling PortManager.AddPort(): listen tcp4 127.0.0.1:6443: bind: address already in use": true,
		"failed to set up container networking: driver failed programming external connectivity on endpoint a (1): failed to bind host port for 127.0.0.1:6443:10.0.0.2:6443/tcp: address already in use":       true,
		"driver failed programming external connectivity on endpoint a (1): Error starting userland proxy: error while calling PortManager.AddPort(): cannot expose privileged port 443":                        false,
		"failed to set up container networking: Address already in use": false, // a static IP
		"driver failed programming external connectivity on endpoint a (1): Error starting userland proxy: error while calling PortManager.AddPort(): reply.Error: map[desc:bad request: add_hostfwd: slirp_add_hostfwd failed]": true,
		"OCI runtime create failed: runc create failed": false,
	} {
		api.fail("POST /containers/c/start", http.StatusInternalServerError, message)
		if err := c.StartContainer(t.Context(), "c"); err == nil || errors.Is(err, engine.ErrPortInUse) != taken {
			t.Errorf("%s: got %v", message, err)
		}
	}
}

func TestStopContainer(t *testing.T) {
	const stop, inspect, list = "POST /containers/c/stop", "GET /containers/c/json", "GET /containers/json"
	stopped := map[string]any{"Id": "c", "State": map[string]any{"Running": false}}
	listed := func(state string) []map[string]any { return []map[string]any{{"Id": "c", "State": state}} }
	t.Run("rounds up", func(t *testing.T) {
		api, c := serveAPI(t)
		api.answer(inspect, http.StatusOK, stopped)
		api.answer(list, http.StatusOK, listed("exited"))
		for grace, want := range map[time.Duration]string{0: "0", -1: "0", 1: "1", time.Second: "1", 1500 * time.Millisecond: "2"} {
			got := ""
			api.on(stop, func(w http.ResponseWriter, r *http.Request) {
				got = r.URL.Query().Get("t")
				w.WriteHeader(http.StatusNoContent)
			})
			if err := c.StopContainer(t.Context(), "c", grace); err != nil || got != want {
				t.Errorf("%v: timeout %s, %v", grace, got, err)
			}
		}
	})
	t.Run("the list is late", func(t *testing.T) {
		api, c := serveAPI(t)
		api.answer(stop, http.StatusNotModified, nil)
		api.answer(inspect, http.StatusOK, stopped)
		api.answers(list, listed("running"), listed("running"), listed("exited"))
		if err := c.StopContainer(t.Context(), "c", 0); err != nil {
			t.Error(err)
		}
		if n := len(api.seen()); n != 7 {
			t.Errorf("%d requests: %v", n, api.seen())
		}
	})
	t.Run("started again", func(t *testing.T) {
		api, c := serveAPI(t)
		api.answer(stop, http.StatusNoContent, nil)
		api.answer(inspect, http.StatusOK, map[string]any{"Id": "c", "State": map[string]any{"Running": true}})
		if err := c.StopContainer(t.Context(), "c", 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("absent", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(stop, http.StatusNotFound, "No such container: c")
		if err := c.StopContainer(t.Context(), "c", 0); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRemoveContainer(t *testing.T) {
	const remove = "DELETE /containers/c"
	t.Run("by somebody else", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusConflict, "removal of container c is already in progress")
		api.answer("POST /containers/c/wait", http.StatusOK, map[string]int{"StatusCode": 0})
		if err := c.RemoveContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
	t.Run("by somebody else, meanwhile", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusConflict, "removal of container c is already in progress")
		api.fail("POST /containers/c/wait", http.StatusNotFound, "No such container: c")
		if err := c.RemoveContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
	t.Run("left", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusInternalServerError, "device or resource busy")
		if err := c.RemoveContainer(t.Context(), "c"); err == nil || err.Error() != "remove container c: device or resource busy" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("absent", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusNotFound, "No such container: c")
		if err := c.RemoveContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
}

func TestListContainers(t *testing.T) {
	api, c := serveAPI(t)
	filters := ""
	api.on("GET /containers/json", func(w http.ResponseWriter, r *http.Request) {
		filters = r.URL.Query().Get("filters")
		api.write(w, http.StatusOK, []map[string]any{
			{"Id": "2", "Names": []string{"/b"}, "State": "running", "NetworkSettings": map[string]any{"Networks": map[string]any{"n": map[string]any{"IPAddress": "10.0.0.2"}}}},
			{"Id": "1", "Names": []string{"/a"}, "State": "exited"},
			{"Id": "4", "Names": []string{"/d"}, "State": "created"},
		})
	})
	api.answer("GET /containers/1/json", http.StatusOK, map[string]any{"State": map[string]any{"ExitCode": 3}})
	api.fail("GET /containers/4/json", http.StatusNotFound, "No such container: 4") // removed meanwhile
	list, err := c.ListContainers(t.Context(), map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprint(c.Name, " ", c.State, " ", c.ExitCode, " ", c.IP))
	}
	if diff := cmp.Diff([]string{"a exited 3 invalid IP", "b running 0 10.0.0.2", "d created 0 invalid IP"}, got); diff != "" {
		t.Error(diff)
	}
	if filters != `{"label":{"k=v":true}}` {
		t.Errorf("filters %s", filters)
	}
}

func TestCopyIn(t *testing.T) {
	const archive = "PUT /containers/c/archive"
	t.Run("query", func(t *testing.T) {
		api, c := serveAPI(t)
		api.on(archive, func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if got := r.URL.Query().Encode(); got != "noOverwriteDirNonDir=true&path=%2Fetc" || string(body) != "tar" || err != nil {
				t.Errorf("query %s, body %s, %v", got, body, err)
			}
		})
		if err := c.CopyIn(t.Context(), "c", "/etc", strings.NewReader("tar")); err != nil {
			t.Error(err)
		}
	})
	t.Run("broken source", func(t *testing.T) {
		api, c := serveAPI(t)
		broken := errors.New("broken")
		api.on(archive, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the stream ended as if it were whole")
			}
		})
		err := c.CopyIn(t.Context(), "c", "/etc", io.MultiReader(strings.NewReader(strings.Repeat("some", 1<<20)), errReader{broken}))
		if !errors.Is(err, broken) || errors.Is(err, engine.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestImages(t *testing.T) {
	const load, pull, remove = "POST /images/load", "POST /images/create", "DELETE /images/localhost/x:v1"
	says := func(api *fakeAPI, key string, lines ...string) {
		api.on(key, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, strings.Join(lines, "\r\n"))
		})
	}
	t.Run("load", func(t *testing.T) {
		api, c := serveAPI(t)
		says(api, load, `{"status":"Loading layer","progressDetail":{"current":1,"total":2}}`, `{"stream":"The image localhost/x:v1 already exists, renaming the old one\n"}`,
			`{"stream":"Loaded image: localhost/x:v1\n"}`, `{"stream":"Loaded image: localhost/y:v1\n"}`, `{"stream":"Loaded image ID: sha256:1\n"}`)
		refs, err := c.LoadImage(t.Context(), strings.NewReader(""))
		if diff := cmp.Diff([]string{"localhost/x:v1", "localhost/y:v1"}, refs); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
	t.Run("load fails at last", func(t *testing.T) {
		api, c := serveAPI(t)
		says(api, load, `{"stream":"Loaded image: localhost/x:v1\n"}`, `{"errorDetail":{"message":"no space left on device"},"error":"no space left on device"}`)
		if _, err := c.LoadImage(t.Context(), strings.NewReader("")); err == nil || err.Error() != "load image: no space left on device" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("pull", func(t *testing.T) {
		api, c := serveAPI(t)
		says(api, pull, `{"status":"Pulling"}`)
		if err := c.PullImage(t.Context(), "localhost/x:v1"); err != nil {
			t.Error(err)
		}
		says(api, pull, `{"error":"manifest unknown"}`)
		if err := c.PullImage(t.Context(), "localhost/x:v1"); err == nil || err.Error() != "pull image localhost/x:v1: manifest unknown" {
			t.Errorf("got %v", err)
		}
		api.fail(pull, http.StatusNotFound, "manifest for x not found")
		if err := c.PullImage(t.Context(), "localhost/x:v1"); err == nil || errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("remove", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusNotFound, "No such image: localhost/x:v1")
		if err := c.RemoveImage(t.Context(), "localhost/x:v1"); err != nil {
			t.Error(err)
		}
		api.fail(remove, http.StatusConflict, "conflict: unable to remove repository reference (must force) - container 1 is using its referenced image")
		if err := c.RemoveImage(t.Context(), "localhost/x:v1"); err == nil || errors.Is(err, engine.ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNetworkErrors(t *testing.T) {
	api, c := serveAPI(t)
	n := engine.NetworkSpec{Name: "n", Subnet: netip.MustParsePrefix("10.200.0.0/24")}
	for message, want := range map[string]bool{
		"network with name n already exists":                                                              true,
		"Pool overlaps with other one on this address space":                                              true,
		"invalid pool request: Pool overlaps with other one on this address space":                        true,
		"cannot create network 1 (br-1): conflicts with network 2 (br-2): networks have overlapping IPv4": true,
		"operation not permitted":                                                                         false,
	} {
		api.fail("POST /networks/create", http.StatusForbidden, message)
		if err := c.CreateNetwork(t.Context(), n); err == nil || errors.Is(err, engine.ErrConflict) != want {
			t.Errorf("%s: got %v", message, err)
		}
	}
	api.fail("DELETE /networks/n", http.StatusNotFound, "network n not found")
	if err := c.RemoveNetwork(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	api.fail("DELETE /networks/n", http.StatusForbidden, "error while removing network: network n id 1 has active endpoints")
	if err := c.RemoveNetwork(t.Context(), "n"); err == nil {
		t.Error("no error")
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"", "tcp://127.0.0.1:1", "unix://relative", "/run/docker.sock"} {
		if _, err := Dial(t.Context(), uri); !errors.Is(err, errScheme) {
			t.Errorf("%q: got %v", uri, err)
		}
	}
	if _, err := Dial(t.Context(), "unix://"+filepath.Join(t.TempDir(), "none")); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	for want, version := range map[error]types.Version{
		ErrTooOld: {Version: "19.3.15", APIVersion: "1.40"},
		ErrPodman: {Version: "5.4.2", APIVersion: "1.41", Components: []types.ComponentVersion{{Name: "Podman Engine"}}},
		nil:       {Version: "29.0.0", APIVersion: "1.52", Components: []types.ComponentVersion{{Name: "Engine"}}},
	} {
		if err := check(version); !errors.Is(err, want) {
			t.Errorf("%+v: got %v, want %v", version, err, want)
		}
	}
}

// TestDaemonGone is about a daemon that ends between two calls.
func TestDaemonGone(t *testing.T) {
	api, c := serveAPI(t)
	if err := os.Remove(api.socket); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(t.Context()); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"x"}}); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// TestReuse checks that calls one after the other share a connection.
func TestReuse(t *testing.T) {
	api, c := serveAPI(t)
	api.answer("GET /networks", http.StatusOK, []any{})
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}})
	for range 5 {
		if _, err := c.ListNetworks(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if reused < 4 {
		t.Errorf("%d of 5 calls reused the connection", reused)
	}
}

func TestConnectNetwork(t *testing.T) {
	const connect, disconnect = "POST /networks/n/connect", "POST /networks/n/disconnect"
	api, c := serveAPI(t)
	var body string
	api.on(connect, func(_ http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if body = string(data); err != nil {
			t.Error(err)
		}
	})
	ip := netip.MustParseAddr("10.200.0.254")
	if err := c.ConnectNetwork(t.Context(), "n", "c", ip); err != nil {
		t.Error(err)
	}
	if !strings.Contains(body, `"Container":"c"`) || !strings.Contains(body, `"IPv4Address":"10.200.0.254"`) {
		t.Errorf("body %s", body)
	}
	for message, want := range map[string]error{
		"endpoint with name c already exists in network n": engine.ErrConflict,
		"network n not found":                              engine.ErrNotFound,
	} {
		status := http.StatusForbidden
		if errors.Is(want, engine.ErrNotFound) {
			status = http.StatusNotFound
		}
		api.fail(connect, status, message)
		if err := c.ConnectNetwork(t.Context(), "n", "c", ip); !errors.Is(err, want) {
			t.Errorf("%s: got %v", message, err)
		}
	}
	for message, status := range map[string]int{
		"container 1 is not connected to network n":     http.StatusInternalServerError,
		"container 1 is not connected to the network n": http.StatusForbidden,
		"No such container: c":                          http.StatusNotFound,
	} {
		api.fail(disconnect, status, message)
		if err := c.DisconnectNetwork(t.Context(), "n", "c"); err != nil {
			t.Errorf("%s: got %v", message, err)
		}
	}
	api.fail(disconnect, http.StatusInternalServerError, "it went wrong")
	if err := c.DisconnectNetwork(t.Context(), "n", "c"); err == nil || err.Error() != "disconnect container c from network n: it went wrong" {
		t.Errorf("got %v", err)
	}
}
