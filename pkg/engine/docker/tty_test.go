// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// A terminal's output is not multiplexed, and its sizes are passed on.
func TestExecTTY(t *testing.T) {
	api, c := serveAPI(t)
	api.answer(execCreate, http.StatusCreated, map[string]string{"Id": "s"})
	resized := make(chan string)
	api.on("POST /exec/s/resize", func(w http.ResponseWriter, r *http.Request) {
		resized <- r.URL.Query().Get("h") + "x" + r.URL.Query().Get("w")
		w.WriteHeader(http.StatusOK)
	})
	api.on(execStart, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if string(body) != `{"Detach":false,"Tty":true}` || err != nil {
			t.Errorf("start: %s, %v", body, err)
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close() //nolint:errcheck // all was read or has failed
		_, _ = fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		for range 2 {
			_, _ = fmt.Fprintln(conn, <-resized)
		}
	})
	api.answer(execResult, http.StatusOK, map[string]any{"ExitCode": 5})
	resize := make(chan engine.TTYSize, 1)
	resize <- engine.TTYSize{Rows: 40, Columns: 120}
	var out bytes.Buffer
	exit, err := c.Exec(t.Context(), "c", engine.Process{
		Argv: []string{"sh"}, Stdout: &out, TTY: &engine.TTY{Size: engine.TTYSize{Rows: 24, Columns: 80}, Resize: resize},
	})
	if exit != 5 || err != nil || out.String() != "24x80\n40x120\n" {
		t.Errorf("exit code %d, error %v, output %q", exit, err, &out)
	}
}

func TestSaveImages(t *testing.T) {
	api, c := serveAPI(t)
	const inspect, save = "GET /images/localhost/x:v1/json", "GET /images/get"
	api.answer(inspect, http.StatusOK, map[string]any{"Id": "sha256:1"})
	api.on(save, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, strings.Join(r.URL.Query()["names"], ","))
	})
	stream, err := c.SaveImages(t.Context(), []string{"localhost/x:v1", "localhost/x:v1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); string(got) != "localhost/x:v1,localhost/x:v1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	api.fail(save, http.StatusInternalServerError, "no space left on device")
	if _, err := c.SaveImages(t.Context(), []string{"localhost/x:v1"}); err == nil || err.Error() != "save images: no space left on device" {
		t.Errorf("got %v", err)
	}
	api.fail(inspect, http.StatusNotFound, "No such image")
	if _, err := c.SaveImages(t.Context(), []string{"localhost/x:v1"}); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
