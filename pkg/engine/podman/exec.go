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
	"regexp"
	"strings"
	"syscall"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/api/handlers"
	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/errorhandling"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/multiplex"
)

var errStillRunning = errors.New("its output has ended but it still runs")

// Exec implements engine.Execer with three calls: create, start with the
// streams attached, inspect for the exit code.
//
// The start is not done by the bindings' ExecStartAndAttach: it swaps the
// transport of the shared connection for each call (a race between concurrent
// ones), does not end with its context, and looks at this process's terminal.
func (c *Client) Exec(ctx context.Context, id string, p engine.Process) (int, error) {
	session, err := c.execCreate(ctx, id, p)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	if err := c.execStart(ctx, session, p); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	var d *define.InspectExecSession
	err = c.do(ctx, func(ctx context.Context) (err error) {
		d, err = containers.ExecInspect(ctx, session, nil)
		return err
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	case d.Running:
		return 0, fmt.Errorf("exec in container %s: %s: %w", id, strings.Join(p.Argv, " "), errStillRunning)
	}
	return d.ExitCode, nil
}

func (c *Client) execCreate(ctx context.Context, id string, p engine.Process) (session string, err error) {
	config := new(handlers.ExecCreateConfig)
	config.Cmd, config.User, config.WorkingDir = p.Argv, p.User, p.Dir
	config.AttachStdin, config.AttachStdout, config.AttachStderr = p.Stdin != nil, true, true
	if config.User == "" {
		config.User = "0" // by number, as not every image has names
	}
	config.Tty = p.TTY != nil
	for k, v := range p.Env {
		config.Env = append(config.Env, k+"="+v)
	}
	err = c.do(ctx, func(ctx context.Context) (err error) {
		session, err = containers.ExecCreate(ctx, id, config)
		return err
	})
	return session, err
}

// execStart runs a session on a connection of its own until its output ends.
func (c *Client) execStart(ctx context.Context, session string, p engine.Process) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return noAnswer(ctx, err)
	}
	defer conn.Close() //nolint:errcheck // all was read or has failed
	// Nothing but closing the connection interrupts a read.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	output, err := upgrade(ctx, conn, session, p.TTY)
	if err != nil {
		return err
	}
	if p.TTY != nil {
		defer c.follow(ctx, session, *p.TTY)()
	}
	if p.Stdin != nil {
		go func() {
			// A process need not read all of its input, so a failure here is none of Exec's.
			_, _ = io.Copy(conn, p.Stdin)
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}()
	}
	if p.TTY != nil {
		return failure(ctx, terminalOutput(p.Stdout, output))
	}
	if p.Stdin == nil {
		return failure(ctx, demultiplex(output, p.Stdout, p.Stderr))
	}
	err = demultiplex(output, p.Stdout, unread{p.Stderr})
	if errors.Is(err, syscall.ECONNRESET) {
		// The service closed the connection with input in it that the process
		// did not read. The kernel delivers the output before this error.
		err = nil
	}
	return failure(ctx, err)
}

// upgrade starts an exec session over conn and returns its output.
func upgrade(ctx context.Context, conn net.Conn, session string, tty *engine.TTY) (io.Reader, error) {
	start := struct {
		Detach bool
		Tty    bool
		Height uint16 `json:"h,omitempty"`
		Width  uint16 `json:"w,omitempty"`
	}{Tty: tty != nil}
	if tty != nil {
		start.Height, start.Width = tty.Size.Rows, tty.Size.Columns
	}
	text, err := json.Marshal(start)
	if err != nil {
		return nil, err
	}
	body := bytes.NewReader(text)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d/v4.0.0/libpod/exec/"+session+"/start", body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	request.Header.Set("Content-Type", "application/json")
	if err := request.Write(conn); err != nil {
		return nil, noAnswer(ctx, err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, noAnswer(ctx, err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return reader, nil
	}
	defer response.Body.Close()
	err = (&bindings.APIResponse{Response: response, Request: request}).Process(nil)
	if err == nil {
		err = &errorhandling.ErrorModel{Message: "unexpected status " + response.Status}
	}
	return nil, answered(err)
}

// terminalOutput passes on what a terminal shows, which is not multiplexed. The
// service ends the connection when the process ends, with input in it or not.
func terminalOutput(w io.Writer, r io.Reader) error {
	if w == nil {
		w = io.Discard
	}
	if _, err := io.Copy(w, r); !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return nil
}

// follow sets the sizes of a terminal until stop is called.
func (c *Client) follow(ctx context.Context, session string, tty engine.TTY) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case size, ok := <-tty.Resize:
				if !ok {
					return
				}
				options := new(containers.ResizeExecTTYOptions).WithHeight(int(size.Rows)).WithWidth(int(size.Columns))
				// A process that has ended has no terminal.
				_ = c.do(ctx, func(ctx context.Context) error { return containers.ResizeExecTTY(ctx, session, options) })
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// demultiplex is multiplex.Split with a message of the service as an apiError.
func demultiplex(r io.Reader, stdout, stderr io.Writer) error {
	err := multiplex.Split(r, stdout, stderr)
	var message *multiplex.ServiceError
	if errors.As(err, &message) {
		return &apiError{text: serviceMessage(message.Message)}
	}
	return err
}

// unread drops what the service says on stderr when a process ends without
// having read its input: that it lost the connection to it. It is no output
// of the process. (Podman 4; libpod's hijackWriteError.)
type unread struct{ stderr io.Writer }

var unreadNotice = regexp.MustCompile(`^Error: (read|write) unix(packet)? \S+: (read|write): (connection reset by peer|broken pipe)\n$`)

// Write takes one frame.
func (u unread) Write(frame []byte) (int, error) {
	if u.stderr == nil || unreadNotice.Match(frame) {
		return len(frame), nil
	}
	return u.stderr.Write(frame)
}

// serviceMessage is the text of a message, which may be an error model.
func serviceMessage(b []byte) string {
	var model errorhandling.ErrorModel
	if json.Unmarshal(b, &model) == nil && model.Message != "" {
		b = []byte(model.Message)
	}
	return oneLine(string(b))
}
