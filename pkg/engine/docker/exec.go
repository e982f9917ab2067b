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

	output, err := c.upgrade(ctx, conn, session)
	if err != nil {
		return err
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
	err = demultiplex(output, p.Stdout, p.Stderr)
	if p.Stdin != nil && errors.Is(err, syscall.ECONNRESET) {
		// The daemon closed the connection with input in it that the process
		// did not read. The kernel delivers the output before this error.
		err = nil
	}
	return failure(ctx, err)
}

// upgrade starts an exec session over conn and returns its output.
func (c *Client) upgrade(ctx context.Context, conn net.Conn, session string) (io.Reader, error) {
	url := "http://d/v" + c.api.ClientVersion() + "/exec/" + session + "/start"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"Detach":false,"Tty":false}`))
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
