// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// fakeAPI is an API service on a unix socket: it answers the requests of a
// test and records all of them but pings.
type fakeAPI struct {
	*testing.T
	socket string

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // "METHOD /path below libpod"
	requests []string
}

// serveAPI starts a fake API service and returns a connection to it.
func serveAPI(t *testing.T) (*fakeAPI, *Client) {
	t.Helper()
	t.Parallel()
	dir, err := os.MkdirTemp("", "rk-podman-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fakeAPI{T: t, socket: filepath.Join(dir, "s"), handlers: map[string]http.HandlerFunc{}}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() })
	c, err := Dial(t.Context(), "unix://"+f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return f, c
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(r.URL.Path, "/libpod")
	if path == "/_ping" {
		w.Header().Set("Libpod-API-Version", "4.3.1")
		return
	}
	key := r.Method + " " + path
	f.mu.Lock()
	f.requests = append(f.requests, key)
	h, ok := f.handlers[key]
	f.mu.Unlock()
	if !ok {
		f.Errorf("unexpected request %s", key)
		http.NotFound(w, r)
		return
	}
	h(w, r)
}

func (f *fakeAPI) on(key string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[key] = h
}

// answer lets a request be answered with a status and JSON.
func (f *fakeAPI) answer(key string, status int, v any) {
	f.on(key, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if v == nil {
			return
		}
		if err := json.NewEncoder(w).Encode(v); err != nil {
			f.Error(err)
		}
	})
}

// fail lets a request fail as Podman does.
func (f *fakeAPI) fail(key string, status int, message string) {
	f.answer(key, status, map[string]any{"cause": message, "message": message, "response": status})
}

func (f *fakeAPI) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// hang lets a request be answered once the test is over, and tells when it has come.
func (f *fakeAPI) hang(key string) <-chan struct{} {
	came := make(chan struct{})
	f.on(key, func(_ http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
	})
	return came
}

// stream lets an exec session start: the connection is the process's.
func (f *fakeAPI) stream(session string, process func(conn net.Conn, in *bufio.Reader)) {
	f.on("POST /exec/"+session+"/start", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if string(body) != `{"Detach":false,"Tty":false}` || err != nil {
			f.Errorf("start: %s, %v", body, err)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			f.Error(err)
			return
		}
		defer conn.Close() //nolint:errcheck // all was read or has failed
		_, _ = fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		process(conn, rw.Reader)
	})
}

func frame(w io.Writer, stream byte, text string) {
	header := [8]byte{stream}
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	_, _ = w.Write(append(header[:], text...)) // a client that has gone is what some tests are about
}

const (
	execCreate = "POST /containers/c/exec"
	execResult = "GET /exec/s/json"
)

func (f *fakeAPI) exec(exit int, process func(conn net.Conn, in *bufio.Reader)) {
	f.answer(execCreate, http.StatusCreated, map[string]string{"Id": "s"})
	f.stream("s", process)
	f.answer(execResult, http.StatusOK, map[string]any{"ExitCode": exit, "Running": false})
}

func TestExec(t *testing.T) {
	api, c := serveAPI(t)
	api.exec(3, func(conn net.Conn, in *bufio.Reader) {
		frame(conn, 1, "out1 ")
		frame(conn, 2, "err")
		frame(conn, 1, "")
		all, err := io.ReadAll(in) // ends with the half-close
		if err != nil {
			t.Error(err)
		}
		frame(conn, 1, strings.ToUpper(string(all)))
	})
	created := make(chan map[string]any, 1)
	api.on(execCreate, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		created <- body
		_, _ = fmt.Fprint(w, `{"Id": "s"}`)
	})
	var stdout, stderr bytes.Buffer
	exit, err := c.Exec(t.Context(), "c", engine.Process{
		Argv: []string{"a", "b"}, Env: map[string]string{"K": "v"}, User: "1", Dir: "/d",
		Stdin: strings.NewReader("input"), Stdout: &stdout, Stderr: &stderr,
	})
	if exit != 3 || err != nil || stdout.String() != "out1 INPUT" || stderr.String() != "err" {
		t.Errorf("exit code %d, error %v, stdout %q, stderr %q", exit, err, &stdout, &stderr)
	}
	got, want := <-created, map[string]any{
		"Cmd": []any{"a", "b"}, "Env": []any{"K=v"}, "User": "1", "WorkingDir": "/d", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
	}
	for k, v := range want {
		if diff := cmp.Diff(v, got[k]); diff != "" {
			t.Errorf("%s: %s", k, diff)
		}
	}
	if diff := cmp.Diff([]string{execCreate, "POST /exec/s/start", execResult}, api.seen()); diff != "" {
		t.Error(diff)
	}
}

func TestExecErrors(t *testing.T) {
	exec := func(t *testing.T, c *Client, p engine.Process) error {
		t.Helper()
		p.Argv = []string{"x"}
		_, err := c.Exec(t.Context(), "c", p)
		return err
	}
	t.Run("no container", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(execCreate, http.StatusNotFound, "no container with name or ID c found: no such container")
		if err := exec(t, c, engine.Process{}); !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), "no such container") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stopped meanwhile", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, nil)
		api.fail("POST /exec/s/start", http.StatusConflict, "container c is not running")
		if err := exec(t, c, engine.Process{}); err == nil || errors.Is(err, engine.ErrConflict) || !strings.Contains(err.Error(), "container c is not running") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("message of the service", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(conn net.Conn, _ *bufio.Reader) {
			frame(conn, 3, `{"cause":"x","message":"crun: executable file not found","response":500}`)
		})
		if err := exec(t, c, engine.Process{}); err == nil || !strings.HasSuffix(err.Error(), "crun: executable file not found") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut off in a frame", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(conn net.Conn, _ *bufio.Reader) { _, _ = conn.Write([]byte{1, 0, 0, 0, 0, 0, 0, 9, 'x'}) })
		if err := exec(t, c, engine.Process{}); !errors.Is(err, engine.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown stream", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(conn net.Conn, _ *bufio.Reader) { frame(conn, 9, "x") })
		if err := exec(t, c, engine.Process{}); !errors.Is(err, errStream) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("runs on", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(net.Conn, *bufio.Reader) {})
		api.answer(execResult, http.StatusOK, map[string]any{"Running": true})
		if err := exec(t, c, engine.Process{}); !errors.Is(err, errStillRunning) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unread input", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(4, func(conn net.Conn, _ *bufio.Reader) {
			frame(conn, 2, "Error: read unixpacket @->/proc/self/fd/15/attach: read: connection reset by peer\n")
			frame(conn, 2, "its own words")
		})
		var stderr bytes.Buffer
		exit, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"x"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20)), Stderr: &stderr})
		if exit != 4 || err != nil || stderr.String() != "its own words" {
			t.Errorf("exit code %d, error %v, stderr %q", exit, err, &stderr)
		}
	})
}

func TestExecCancel(t *testing.T) {
	for _, phase := range []string{"create", "start", "output", "result"} {
		t.Run(phase, func(t *testing.T) {
			api, c := serveAPI(t)
			var came <-chan struct{}
			gone := make(chan struct{})
			api.exec(0, func(net.Conn, *bufio.Reader) {})
			switch phase {
			case "create":
				came = api.hang(execCreate)
			case "start":
				came = api.hang("POST /exec/s/start")
			case "output":
				printed := make(chan struct{})
				came = printed
				api.stream("s", func(conn net.Conn, in *bufio.Reader) {
					frame(conn, 1, "so far")
					close(printed)
					_, _ = in.ReadByte() // until the client goes
					close(gone)
				})
			case "result":
				came = api.hang(execResult)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-came
				cancel()
			}()
			if _, err := c.Exec(ctx, "c", engine.Process{Argv: []string{"x"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if phase == "output" {
				<-gone
			}
		})
	}
}

func TestConcurrentExec(t *testing.T) {
	api, c := serveAPI(t)
	api.answer(execCreate, http.StatusCreated, map[string]string{"Id": "s"})
	api.stream("s", func(conn net.Conn, in *bufio.Reader) { _, _ = io.Copy(frameWriter{conn}, in) })
	api.answer(execResult, http.StatusOK, map[string]any{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var out bytes.Buffer
			text := strings.Repeat(fmt.Sprint(i), 1000)
			if _, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"cat"}, Stdin: strings.NewReader(text), Stdout: &out}); err != nil || out.String() != text {
				t.Errorf("%d: %q, %v", i, &out, err)
			}
		})
	}
	wg.Wait()
}

type frameWriter struct{ w io.Writer }

func (f frameWriter) Write(p []byte) (int, error) { frame(f.w, 1, string(p)); return len(p), nil }

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
			if _, err := client.CreateContainer(t.Context(), nodeSpec); !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "create container rk-demo-control-plane: ") {
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
