// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/multiplex"
)

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
		if err := exec(t, c, engine.Process{}); !errors.Is(err, multiplex.ErrStream) {
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
