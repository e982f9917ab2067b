// SPDX-License-Identifier: Apache-2.0

package docker

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
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// fakeAPI is a Docker daemon on a unix socket: it answers the requests of a
// test and records all of them but those of Dial.
type fakeAPI struct {
	*testing.T
	socket string

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // "METHOD /path below the version"
	requests []string
}

const apiVersion = "1.41"

var versioned = regexp.MustCompile(`^/v` + regexp.QuoteMeta(apiVersion) + `(/.*)$`)

// serveAPI starts a fake daemon and returns a connection to it.
func serveAPI(t *testing.T) (*fakeAPI, *Client) {
	t.Helper()
	t.Parallel()
	f := listen(t)
	f.answer("GET /version", http.StatusOK, map[string]any{"Version": "20.10.24", "ApiVersion": apiVersion})
	c, err := Dial(t.Context(), "unix://"+f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f.requests = nil
	return f, c
}

func listen(t *testing.T) *fakeAPI {
	t.Helper()
	dir, err := os.MkdirTemp("", "rk-docker-") //nolint:usetesting // t.TempDir is too long for a socket
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
	go server.Serve(l)                       //nolint:errcheck // ends with Close
	t.Cleanup(func() { _ = server.Close() }) // which does not wait for requests that hang
	return f
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_ping" {
		w.Header().Set("Api-Version", apiVersion)
		return
	}
	path := versioned.FindStringSubmatch(r.URL.Path)
	if path == nil {
		f.Errorf("request %s %s is not of the version agreed on", r.Method, r.URL.Path)
		http.NotFound(w, r)
		return
	}
	key := r.Method + " " + path[1]
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
	f.on(key, func(w http.ResponseWriter, _ *http.Request) { f.write(w, status, v) })
}

// answers lets requests be answered one after the other, and the last answer stay.
func (f *fakeAPI) answers(key string, list ...any) {
	f.on(key, func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		v := list[0]
		if len(list) > 1 {
			list = list[1:]
		}
		f.mu.Unlock()
		f.write(w, http.StatusOK, v)
	})
}

func (f *fakeAPI) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v == nil {
		return
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.Error(err)
	}
}

// fail lets a request fail as Docker does.
func (f *fakeAPI) fail(key string, status int, message string) {
	f.answer(key, status, map[string]string{"message": message})
}

func (f *fakeAPI) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
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

const (
	execCreate = "POST /containers/c/exec"
	execStart  = "POST /exec/s/start"
	execResult = "GET /exec/s/json"
)

// exec lets an exec session run: its connection is the process's.
func (f *fakeAPI) exec(exit int, process func(conn net.Conn, in *bufio.Reader)) {
	f.answer(execCreate, http.StatusCreated, map[string]string{"Id": "s"})
	f.on(execStart, func(w http.ResponseWriter, r *http.Request) {
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
	f.answer(execResult, http.StatusOK, map[string]any{"ExitCode": exit, "Running": false})
}

func frame(w io.Writer, stream byte, text string) {
	header := [8]byte{stream}
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	_, _ = w.Write(append(header[:], text...)) // a client that has gone is what some tests are about
}
