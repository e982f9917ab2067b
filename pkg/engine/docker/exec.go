// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/multiplex"
)

// Between two looks whether a process has ended whose output has: at first,
// and at most.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 250 * time.Millisecond
)

var errStopped = errors.New("the container has stopped meanwhile")

// Exec implements engine.Execer with three calls: create, start with the
// streams attached, inspect for the exit code.
//
// The start is not done by the client's ContainerExecAttach: it does not end
// with its context while the daemon has not answered, and drops the daemon's
// message when it refuses.
func (c *Client) Exec(ctx context.Context, id string, p engine.Process) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	created, err := c.api.ContainerExecCreate(ctx, id, execOptions(p))
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, answered(ctx, err))
	}
	if err := c.execStart(ctx, created.ID, p); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	exit, err := c.execResult(ctx, id, created.ID)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %s: %w", id, strings.Join(p.Argv, " "), err)
	}
	return exit, nil
}

func execOptions(p engine.Process) container.ExecOptions {
	o := container.ExecOptions{
		Cmd: p.Argv, User: p.User, WorkingDir: p.Dir, Env: environment(p.Env),
		AttachStdin: p.Stdin != nil, AttachStdout: true, AttachStderr: true,
	}
	if o.User == "" {
		o.User = "0" // by number, as not every image has names
	}
	if p.TTY != nil {
		o.Tty = true
		if p.TTY.Size != (engine.TTYSize{}) {
			o.ConsoleSize = &[2]uint{uint(p.TTY.Size.Rows), uint(p.TTY.Size.Columns)} // API 1.42; the client leaves it out before
		}
	}
	return o
}

// execResult waits for the end of a process whose output has ended: the
// daemon hears of the end of the one and of the other independently.
func (c *Client) execResult(ctx context.Context, id, session string) (int, error) {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		r, err := c.api.ContainerExecInspect(ctx, session)
		if err != nil {
			return 0, answered(ctx, err)
		}
		if !r.Running {
			return r.ExitCode, nil
		}
		if pause == lastLook { // which a container that stops may leave as it was
			d, err := c.api.ContainerInspect(ctx, id)
			if err != nil {
				return 0, answered(ctx, err)
			}
			if d.ContainerJSONBase != nil && d.State != nil && !d.State.Running {
				return 0, errStopped
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return 0, err
		}
	}
}

// sleep waits for a while between two looks at what the daemon has no call to wait for.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// execStart runs a session on a connection of its own until its output ends.
func (c *Client) execStart(ctx context.Context, session string, p engine.Process) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer conn.Close() //nolint:errcheck // all was read or has failed
	// Nothing but closing the connection interrupts a read.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	output, err := c.upgrade(ctx, conn, session, p.TTY != nil)
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
		err = terminalOutput(p.Stdout, output)
	} else {
		err = demultiplex(output, p.Stdout, p.Stderr)
	}
	if p.Stdin != nil && errors.Is(err, syscall.ECONNRESET) {
		// The daemon closed the connection with input in it that the process
		// did not read. The kernel delivers the output before this error.
		err = nil
	}
	return failure(ctx, err)
}

// upgrade starts an exec session over conn and returns its output.
func (c *Client) upgrade(ctx context.Context, conn net.Conn, session string, tty bool) (io.Reader, error) {
	url := "http://d/v" + c.api.ClientVersion() + "/exec/" + session + "/start"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(fmt.Sprintf(`{"Detach":false,"Tty":%t}`, tty)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	request.Header.Set("Content-Type", "application/json")
	if err := request.Write(conn); err != nil {
		return nil, unreachable(ctx, err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return reader, nil
	}
	defer response.Body.Close()
	return nil, refusal(response)
}

// terminalOutput passes on what a terminal shows, which is not multiplexed.
func terminalOutput(w io.Writer, r io.Reader) error {
	if w == nil {
		w = io.Discard
	}
	_, err := io.Copy(w, r)
	return err
}

// resizeTries is how often the first size is set: the daemon refuses it until
// the process runs, and versions before API 1.42 have no other way.
const resizeTries = 8

// follow sets the sizes of a terminal until stop is called.
func (c *Client) follow(ctx context.Context, session string, tty engine.TTY) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for try, pause := 0, firstLook; tty.Size != (engine.TTYSize{}) && try < resizeTries; try, pause = try+1, 2*pause {
			if c.resize(ctx, session, tty.Size) == nil || sleep(ctx, pause) != nil {
				break
			}
		}
		for {
			select {
			case size, ok := <-tty.Resize:
				if !ok {
					return
				}
				_ = c.resize(ctx, session, size) // a process that has ended has no terminal
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (c *Client) resize(ctx context.Context, session string, size engine.TTYSize) error {
	return c.api.ContainerExecResize(ctx, session, container.ResizeOptions{Height: uint(size.Rows), Width: uint(size.Columns)})
}

// refusal is the error that the daemon answered instead of an upgrade.
func refusal(response *http.Response) error {
	var model struct{ Message string }
	if err := json.NewDecoder(response.Body).Decode(&model); err != nil || model.Message == "" {
		model.Message = "unexpected status " + response.Status
	}
	e := &apiError{text: oneLine(model.Message)}
	if response.StatusCode == http.StatusNotFound {
		e.kind = engine.ErrNotFound
	}
	return e
}

// unreachable is the error of a request that was not answered.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
}

// demultiplex is [multiplex.Split]; a message of the daemon itself is its API's error.
func demultiplex(r io.Reader, stdout, stderr io.Writer) error {
	err := multiplex.Split(r, stdout, stderr)
	var said *multiplex.ServiceError
	if errors.As(err, &said) {
		return &apiError{text: oneLine(said.Error())}
	}
	return err
}
