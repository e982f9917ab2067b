// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// apiError is what the daemon answered instead of a result.
type apiError struct {
	text string
	kind error // the port's error that it is, or nil
}

func (e *apiError) Error() string { return e.text }
func (e *apiError) Unwrap() error { return e.kind }

// answered translates an error of Docker's client. A resource that does not
// exist means the same for all calls; the rest of the classification depends
// on the call (see classify).
func answered(ctx context.Context, err error) error {
	var broken *sourceError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &broken):
		return broken.error
	case client.IsErrConnectionFailed(err), isNetwork(err):
		return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
	}
	e := &apiError{text: message(err)}
	if errdefs.IsNotFound(err) {
		e.kind = engine.ErrNotFound
	}
	return e
}

// isNetwork says that a connection broke.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF)
}

// message is an error's text in one line, without what the client puts before it.
func message(err error) string {
	return oneLine(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
}

// pattern gives a text of the daemon's a meaning. The comments name where the
// text comes from.
type pattern struct {
	text *regexp.Regexp
	kind error
}

var (
	creating = []pattern{
		{regexp.MustCompile(`container name ".*" is already in use`), engine.ErrConflict}, // daemon/names.go
	}
	starting = []pattern{
		{regexp.MustCompile(`port is already allocated`), engine.ErrPortInUse},                           // libnetwork/portallocator: another container's
		{regexp.MustCompile(`(listen|bind|proxy|AddPort).*address already in use`), engine.ErrPortInUse}, // the userland proxy, RootlessKit's port drivers
		{regexp.MustCompile(`slirp_add_hostfwd failed`), engine.ErrPortInUse},                            // slirp4netns as port driver, which does not say why it cannot listen
	}
	networking = []pattern{
		{regexp.MustCompile(`network with name \S+ already exists`), engine.ErrConflict},         // libnetwork NetworkNameError
		{regexp.MustCompile(`[Pp]ool overlaps with other one`), engine.ErrConflict},              // libnetwork/ipamapi ErrPoolOverlap
		{regexp.MustCompile(`networks have overlapping IPv[46]`), engine.ErrConflict},            // libnetwork/drivers/bridge
		{regexp.MustCompile(`overlaps with (an )?existing (network|route)`), engine.ErrConflict}, // netutils ErrNetworkOverlaps
	}
)

var (
	attaching = []pattern{
		{regexp.MustCompile(`already exists in network|is already connected to network`), engine.ErrConflict}, // libnetwork ErrEndpointExists, daemon/container_operations.go
	}
	detaching = []pattern{
		{regexp.MustCompile(`is not connected to (the )?network`), engine.ErrNotFound}, // daemon/container_operations.go
	}
)

// classify gives err the kind that the first matching pattern says.
func classify(err error, patterns []pattern) error {
	var e *apiError
	if !errors.As(err, &e) || e.kind != nil {
		return err
	}
	for _, p := range patterns {
		if p.text.MatchString(e.text) {
			return &apiError{e.text, p.kind}
		}
	}
	return err
}

// failure translates an error of copying a stream, which is the connection's
// or the caller's.
func failure(ctx context.Context, err error) error {
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case isNetwork(err):
		return fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
	default:
		return err
	}
}

// source marks the errors of a request's body, which is the caller's.
type source struct{ io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	return n, err
}

type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// wrap adds what was done to an error, if there is one.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...) // the format is this package's
}

// removing says that somebody else removes the container already
// (daemon/delete.go, status 409).
func removing(err error) bool {
	var e *apiError
	return errors.As(err, &e) && strings.Contains(e.text, "removal of container") && strings.Contains(e.text, "already in progress")
}
