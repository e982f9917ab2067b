// SPDX-License-Identifier: Apache-2.0

// Package multiplex takes apart the stream in which the APIs of Docker and
// Podman carry standard output and standard error of a container or an exec
// session (Docker Engine API, "ContainerAttach", "Stream format"): each frame
// has a header of 8 bytes, the stream's number and three zeros, then the
// length of what follows as a big-endian 32-bit number.
//
// It must never import any package of this module, nor do I/O of its own.
package multiplex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Numbers of streams.
const (
	Stdin = iota // the service's answers put it with standard output
	Stdout
	Stderr
	Service // a message of the service itself
)

// ErrStream is wrapped by the error for a frame of a stream that is not known.
var ErrStream = errors.New("unknown stream in the engine's answer")

// ServiceError is what the service itself had to say. It ends a stream.
type ServiceError struct{ Message []byte }

func (e *ServiceError) Error() string { return string(bytes.TrimSpace(e.Message)) }

// Split copies the frames of r until it ends, each with one Write. A nil
// writer discards what is meant for it. A message of the service is a
// *ServiceError once the stream has ended; a stream that is cut off within a
// frame wraps io.ErrUnexpectedEOF.
func Split(r io.Reader, stdout, stderr io.Writer) error {
	var message bytes.Buffer
	writers := []io.Writer{Stdin: stdout, Stdout: stdout, Stderr: stderr, Service: &message}
	var header [8]byte
	var frame bytes.Buffer
	for {
		switch _, err := io.ReadFull(r, header[:]); {
		case errors.Is(err, io.EOF) && message.Len() > 0:
			return &ServiceError{message.Bytes()}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if int(header[0]) >= len(writers) {
			return fmt.Errorf("%w: %d", ErrStream, header[0])
		}
		frame.Reset()
		if n, err := io.CopyN(&frame, r, int64(binary.BigEndian.Uint32(header[4:]))); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("frame ends after %d bytes: %w", n, err)
		}
		if w := writers[header[0]]; w != nil {
			if _, err := w.Write(frame.Bytes()); err != nil {
				return err
			}
		}
	}
}
