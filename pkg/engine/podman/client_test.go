// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

const create = "POST /containers/create"

func TestCreateContainer(t *testing.T) {
	t.Run("one request", func(t *testing.T) {
		api, c := serveAPI(t)
		api.answer(create, http.StatusCreated, map[string]string{"Id": "abc"})
		api.answer("POST /containers/abc/start", http.StatusNoContent, nil)
		id, err := c.CreateContainer(t.Context(), nodeSpec)
		if id != "abc" || err != nil {
			t.Errorf("%s, %v", id, err)
		}
		if err := c.StartContainer(t.Context(), id); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{create, "POST /containers/abc/start"}, api.seen()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not repeated", func(t *testing.T) {
		api, c := serveAPI(t)
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
		if n := len(api.seen()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		_, c := serveAPI(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.CreateContainer(ctx, nodeSpec); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled meanwhile", func(t *testing.T) {
		api, c := serveAPI(t)
		ctx, cancel := context.WithCancel(t.Context())
		api.on(create, func(w http.ResponseWriter, _ *http.Request) {
			cancel()
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, `{"Id": "abc"}`)
		})
		removed := url.Values{}
		api.fail("GET /containers/abc/json", http.StatusInternalServerError, "database is locked") // it is removed all the same
		api.on("DELETE /containers/abc", func(w http.ResponseWriter, r *http.Request) { removed = r.URL.Query(); _, _ = fmt.Fprint(w, "[]") })
		if _, err := c.CreateContainer(ctx, nodeSpec); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if removed["force"][0] != "true" || removed["volumes"][0] != "true" {
			t.Errorf("removed with %v", removed)
		}
	})
	for _, c := range []struct {
		status  int
		message string
		want    error
	}{
		{http.StatusInternalServerError, "localhost/x: image not known", engine.ErrNotFound},
		{http.StatusNotFound, "no such image: localhost/x: image not known", engine.ErrNotFound},
		{http.StatusInternalServerError, "creating container storage: the container name \"a\" is already in use by 1", engine.ErrConflict},
	} {
		t.Run(c.message, func(t *testing.T) {
			api, client := serveAPI(t)
			api.fail(create, c.status, c.message)
			api.answer("GET /containers/json", http.StatusOK, []any{})
			if _, err := client.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "create container rk-demo-control-plane: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestNameTakenByStorage: a name that no container has, but storage that one left.
func TestNameTakenByStorage(t *testing.T) {
	const taken = `creating container storage: the container name "rk-demo-control-plane" is already in use by 1`
	for name, test := range map[string]struct {
		image   string
		removal int // status
		want    error
	}{
		"removed, and made again":  {nodeSpec.Image, http.StatusOK, nil},
		"it cannot be removed":     {nodeSpec.Image, http.StatusInternalServerError, engine.ErrStorageLeft},
		"it is of another program": {"localhost/other:v1", http.StatusOK, engine.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			api, c := serveAPI(t)
			removed := false
			api.on(create, func(w http.ResponseWriter, _ *http.Request) {
				if removed {
					w.WriteHeader(http.StatusCreated)
					_, _ = fmt.Fprint(w, `{"Id": "abc"}`)
					return
				}
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = fmt.Fprintf(w, `{"message": %q, "response": 500}`, taken)
			})
			api.answer("GET /containers/json", http.StatusOK, []map[string]any{
				{"Id": "1", "Names": []string{nodeSpec.Name}, "State": "storage", "Image": test.image},
			})
			api.on("DELETE /containers/"+nodeSpec.Name, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.removal)
				if removed = test.removal == http.StatusOK; removed {
					_, _ = fmt.Fprint(w, `[{"Id": "1"}]`)
				} else {
					_, _ = fmt.Fprint(w, `{"message": "directory not empty", "response": 500}`)
				}
			})
			if _, err := c.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestStopContainer(t *testing.T) {
	const stop = "POST /containers/c/stop"
	t.Run("rounds up", func(t *testing.T) {
		api, c := serveAPI(t)
		for grace, want := range map[time.Duration]string{0: "0", -1: "0", 1: "1", time.Second: "1", 1500 * time.Millisecond: "2"} {
			got := ""
			api.on(stop, func(w http.ResponseWriter, r *http.Request) {
				got = r.URL.Query().Get("timeout")
				w.WriteHeader(http.StatusNoContent)
			})
			if err := c.StopContainer(t.Context(), "c", grace); err != nil || got != want {
				t.Errorf("%v: timeout %s, %v", grace, got, err)
			}
		}
	})
	for state, ok := range map[string]bool{"configured": true, "created": true, "paused": false, "running": false} {
		t.Run(state, func(t *testing.T) {
			api, c := serveAPI(t)
			api.fail(stop, http.StatusInternalServerError, "can only stop created or running containers: container state improper")
			api.answer("GET /containers/c/json", http.StatusOK, map[string]any{"State": map[string]any{"Status": state}})
			if err := c.StopContainer(t.Context(), "c", 0); (err == nil) != ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRemoveContainer(t *testing.T) {
	const remove = "DELETE /containers/c"
	t.Run("removed in spite of an error", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusInternalServerError, "cleaning up container c: remove aardvark entries")
		api.fail("GET /containers/c/json", http.StatusNotFound, "no such container")
		api.answer("GET /containers/json", http.StatusOK, []map[string]any{{"Id": "d", "Names": []string{"d"}, "State": "storage"}})
		if err := c.RemoveContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
	for name, second := range map[string]error{"the storage stays": engine.ErrStorageLeft, "the storage goes at the second try": nil} {
		t.Run(name, func(t *testing.T) {
			api, c := serveAPI(t)
			api.fail("GET /containers/c/json", http.StatusNotFound, "no such container")
			api.answer("GET /containers/json", http.StatusOK, []map[string]any{{"Id": "c", "Names": []string{"rk-demo-worker"}, "State": "storage"}})
			tries := 0
			api.on(remove, func(w http.ResponseWriter, _ *http.Request) {
				if tries++; tries == 2 && second == nil {
					_, _ = fmt.Fprint(w, `[{"Id": "c"}]`)
					return
				}
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = fmt.Fprint(w, `{"message": "replacing mount point: directory not empty", "response": 500}`)
			})
			if err := c.RemoveContainer(t.Context(), "c"); !errors.Is(err, second) || (err == nil) != (second == nil) || tries != 2 {
				t.Errorf("got %v after %d tries", err, tries)
			}
		})
	}
	t.Run("waits for a copy", func(t *testing.T) {
		api, c := serveAPI(t)
		api.answer("GET /containers/c/json", http.StatusOK, map[string]any{"Id": "c", "State": map[string]any{"Status": "created"}})
		looks := 0
		api.on("GET /containers/showmounted", func(w http.ResponseWriter, _ *http.Request) {
			if looks++; looks < 3 {
				_, _ = fmt.Fprint(w, `{"c": "/merged"}`)
				return
			}
			_, _ = fmt.Fprint(w, `{"d": "/merged"}`)
		})
		api.on(remove, func(w http.ResponseWriter, _ *http.Request) {
			if looks != 3 {
				t.Errorf("removed after %d looks", looks)
			}
			_, _ = fmt.Fprint(w, `[{"Id": "c"}]`)
		})
		if err := c.RemoveContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
	t.Run("left", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusInternalServerError, "device or resource busy")
		api.answer("GET /containers/c/json", http.StatusOK, map[string]any{})
		if err := c.RemoveContainer(t.Context(), "c"); err == nil || err.Error() != "remove container c: device or resource busy" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("absent", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(remove, http.StatusNotFound, "no such container")
		api.fail("GET /containers/c/json", http.StatusNotFound, "no such container")
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
		_, _ = fmt.Fprint(w, `[
			{"Id": "2", "Names": ["b"], "State": "running", "Networks": ["n"]},
			{"Id": "1", "Names": ["a"], "State": "exited", "Networks": ["n"]},
			{"Id": "3", "Names": ["c"], "State": "running", "Networks": ["podman"]},
			{"Id": "4", "Names": ["d"], "State": "running", "Networks": ["n"]}]`)
	})
	api.answer("GET /containers/2/json", http.StatusOK, map[string]any{"NetworkSettings": map[string]any{"Networks": map[string]any{"n": map[string]any{"IPAddress": "10.0.0.2"}}}})
	api.fail("GET /containers/4/json", http.StatusNotFound, "no such container") // removed meanwhile
	list, err := c.ListContainers(t.Context(), map[string]string{"k": "v", "l": ""})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprint(c.Name, " ", c.State, " ", c.IP))
	}
	if diff := cmp.Diff([]string{"a exited invalid IP", "b running 10.0.0.2", "c running invalid IP", "d running invalid IP"}, got); diff != "" {
		t.Error(diff)
	}
	if filters != `{"label":["k=v","l"]}` {
		t.Errorf("filters %s", filters)
	}
}

func TestCopyIn(t *testing.T) {
	const archive = "PUT /containers/c/archive"
	t.Run("query", func(t *testing.T) {
		api, c := serveAPI(t)
		api.on(archive, func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if got := r.URL.Query().Encode(); got != "copyUIDGID=false&path=%2Fetc" || string(body) != "tar" || err != nil {
				t.Errorf("query %s, body %s, %v", got, body, err)
			}
		})
		if err := c.CopyIn(t.Context(), "c", "/etc", strings.NewReader("tar")); err != nil {
			t.Error(err)
		}
	})
	t.Run("error", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(archive, http.StatusInternalServerError, "no space left on device")
		if err := c.CopyIn(t.Context(), "c", "/etc", strings.NewReader("tar")); err == nil || err.Error() != "copy to c:/etc: no space left on device" {
			t.Errorf("got %v", err)
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
		if n := len(api.seen()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestRemoveImage(t *testing.T) {
	const remove = "DELETE /images/localhost/x:v1"
	api, c := serveAPI(t)
	api.fail(remove, http.StatusNotFound, "image not known")
	if err := c.RemoveImage(t.Context(), "localhost/x:v1"); err != nil {
		t.Error(err)
	}
	api.fail(remove, http.StatusConflict, "image is in use by a container")
	if err := c.RemoveImage(t.Context(), "localhost/x:v1"); err == nil || errors.Is(err, engine.ErrConflict) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

func TestNetworkErrors(t *testing.T) {
	api, c := serveAPI(t)
	n := engine.NetworkSpec{Name: "n", Subnet: netip.MustParsePrefix("10.200.0.0/24")}
	for message, want := range map[string]error{
		"network name n already used: network already exists":                   engine.ErrConflict,
		"subnet 10.200.0.0/24 is already used on the host or by another config": engine.ErrConflict,
	} {
		api.fail("POST /networks/create", http.StatusInternalServerError, message)
		if err := c.CreateNetwork(t.Context(), n); !errors.Is(err, want) {
			t.Errorf("%s: got %v", message, err)
		}
	}
	api.fail("DELETE /networks/n", http.StatusNotFound, "network not found")
	if err := c.RemoveNetwork(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	api.fail("DELETE /networks/n", http.StatusInternalServerError, `"n" has associated containers with it`)
	if err := c.RemoveNetwork(t.Context(), "n"); err == nil {
		t.Error("no error")
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
	if !strings.Contains(body, `"container":"c"`) || !strings.Contains(body, `"static_ips":["10.200.0.254"]`) {
		t.Errorf("body %s", body)
	}
	for message, want := range map[string]error{
		"container c is already connected to network n":               engine.ErrConflict,
		"unable to find network with name or ID n: network not found": engine.ErrNotFound,
	} {
		api.fail(connect, http.StatusInternalServerError, message)
		if err := c.ConnectNetwork(t.Context(), "n", "c", ip); !errors.Is(err, want) {
			t.Errorf("%s: got %v", message, err)
		}
	}
	for message, status := range map[string]int{
		"container c is not connected to network n": http.StatusInternalServerError,
		"no such container":                         http.StatusNotFound,
	} {
		api.fail(disconnect, status, message)
		if err := c.DisconnectNetwork(t.Context(), "n", "c"); err != nil {
			t.Errorf("%s: got %v", message, err)
		}
	}
	api.fail(disconnect, http.StatusInternalServerError, "netavark: exit status 1")
	if err := c.DisconnectNetwork(t.Context(), "n", "c"); err == nil || err.Error() != "disconnect container c from network n: netavark: exit status 1" {
		t.Errorf("got %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"", "tcp://127.0.0.1:1", "unix://relative", "/run/podman.sock"} {
		if _, err := Dial(t.Context(), uri); !errors.Is(err, errScheme) {
			t.Errorf("%q: got %v", uri, err)
		}
	}
	if _, err := Dial(t.Context(), "unix://"+filepath.Join(t.TempDir(), "none")); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// TestServiceGone is about a service that ends between two calls.
func TestServiceGone(t *testing.T) {
	api, c := serveAPI(t)
	if err := os.Remove(api.socket); err != nil {
		t.Fatal(err)
	}
	c.conn.Client.CloseIdleConnections()
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
	api.answer("GET /containers/json", http.StatusOK, []any{})
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}})
	for range 5 {
		if _, err := c.ListContainers(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if reused != 4 {
		t.Errorf("%d of 4 calls reused the connection", reused)
	}
}
