// SPDX-License-Identifier: Apache-2.0

package docker

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
		Argv: []string{"a", "b"}, Env: map[string]string{"K": "v", "J": "w"}, Dir: "/d",
		Stdin: strings.NewReader("input"), Stdout: &stdout, Stderr: &stderr,
	})
	if exit != 3 || err != nil || stdout.String() != "out1 INPUT" || stderr.String() != "err" {
		t.Errorf("exit code %d, error %v, stdout %q, stderr %q", exit, err, &stdout, &stderr)
	}
	got, want := <-created, map[string]any{
		"Cmd": []any{"a", "b"}, "Env": []any{"J=w", "K=v"}, "User": "0", "WorkingDir": "/d",
		"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": false,
	}
	for k, v := range want {
		if diff := cmp.Diff(v, got[k]); diff != "" {
			t.Errorf("%s: %s", k, diff)
		}
	}
	if diff := cmp.Diff([]string{execCreate, execStart, execResult}, api.seen()); diff != "" {
		t.Error(diff)
	}
}

// The daemon may not have heard of the end of the process when its output ends.
func TestExecEndsLater(t *testing.T) {
	t.Run("exit code", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(conn net.Conn, _ *bufio.Reader) { frame(conn, 1, "x") })
		running := map[string]any{"Running": true}
		api.answers(execResult, running, running, running, map[string]any{"ExitCode": 7})
		exit, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"x"}})
		if exit != 7 || err != nil {
			t.Errorf("exit code %d, %v", exit, err)
		}
	})
	t.Run("the container stops", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(net.Conn, *bufio.Reader) {})
		api.answer(execResult, http.StatusOK, map[string]any{"Running": true})
		api.answer("GET /containers/c/json", http.StatusOK, map[string]any{"State": map[string]any{"Running": false}})
		if _, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"x"}}); !errors.Is(err, errStopped) {
			t.Errorf("got %v", err)
		}
	})
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
		api.fail(execCreate, http.StatusNotFound, "No such container: c")
		if err := exec(t, c, engine.Process{}); !errors.Is(err, engine.ErrNotFound) || err.Error() != "exec in container c: No such container: c" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not running", func(t *testing.T) {
		api, c := serveAPI(t)
		api.fail(execCreate, http.StatusConflict, "Container c is not running")
		if err := exec(t, c, engine.Process{}); err == nil || errors.Is(err, engine.ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stopped meanwhile", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, nil)
		api.fail(execStart, http.StatusConflict, "Container c is not running")
		if err := exec(t, c, engine.Process{}); err == nil || errors.Is(err, engine.ErrConflict) || !strings.Contains(err.Error(), "Container c is not running") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("message of the daemon", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(0, func(conn net.Conn, _ *bufio.Reader) { frame(conn, 3, "it\nbroke") })
		if err := exec(t, c, engine.Process{}); err == nil || !strings.HasSuffix(err.Error(), ": it broke") {
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
	t.Run("unread input", func(t *testing.T) {
		api, c := serveAPI(t)
		api.exec(4, func(conn net.Conn, _ *bufio.Reader) { frame(conn, 2, "its own words") })
		var stderr bytes.Buffer
		exit, err := c.Exec(t.Context(), "c", engine.Process{Argv: []string{"x"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20)), Stderr: &stderr})
		if exit != 4 || err != nil || stderr.String() != "its own words" {
			t.Errorf("exit code %d, error %v, stderr %q", exit, err, &stderr)
		}
	})
}

func TestExecCancel(t *testing.T) {
	for _, phase := range []string{"create", "start", "output", "result", "end"} {
		t.Run(phase, func(t *testing.T) {
			api, c := serveAPI(t)
			var came <-chan struct{}
			gone := make(chan struct{})
			api.exec(0, func(net.Conn, *bufio.Reader) {})
			switch phase {
			case "create":
				came = api.hang(execCreate)
			case "start":
				came = api.hang(execStart)
			case "output":
				printed := make(chan struct{})
				came = printed
				api.exec(0, func(conn net.Conn, in *bufio.Reader) {
					frame(conn, 1, "so far")
					close(printed)
					_, _ = in.ReadByte() // until the client goes
					close(gone)
				})
			case "result":
				came = api.hang(execResult)
			case "end": // of a process that runs on
				asked := make(chan struct{})
				var once sync.Once
				came = asked
				api.on(execResult, func(w http.ResponseWriter, _ *http.Request) {
					api.write(w, http.StatusOK, map[string]any{"Running": true})
					once.Do(func() { close(asked) })
				})
				api.answer("GET /containers/c/json", http.StatusOK, map[string]any{"State": map[string]any{"Running": true}})
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
	api.exec(0, func(conn net.Conn, in *bufio.Reader) { _, _ = io.Copy(frameWriter{conn}, in) })
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
