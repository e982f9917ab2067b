// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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
