// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest/internal/prog"
)

// NewProgFake returns a Fake whose containers act as if they ran testprog,
// the program of the conformance image.
func NewProgFake() *Fake {
	f := NewFake()
	f.InitFunc = func(ctx context.Context, s engine.ContainerSpec, out io.Writer) int {
		args := s.Command
		if len(args) == 0 {
			args = []string{"wait"} // the image's default
		}
		return prog.Main(ctx, f.process(s, engine.Process{Argv: append([]string{program}, args...), Stdin: bytes.NewReader(nil), Stdout: out, Stderr: out}))
	}
	f.ExecFunc = func(ctx context.Context, c engine.Container, p engine.Process) (int, error) {
		if p.Argv[0] != program {
			return 127, nil
		}
		s, _ := f.Spec(c.ID)
		w := &firstError{}
		p.Stdout, p.Stderr = w.wrap(p.Stdout), w.wrap(p.Stderr)
		exit := prog.Main(ctx, f.process(s, p))
		return exit, w.err
	}
	return f
}

// firstError keeps the error of a caller's writer, which Exec returns.
type firstError struct{ err error }

func (e *firstError) wrap(w io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		n, err := w.Write(p)
		if err != nil && e.err == nil {
			e.err = err
		}
		return n, err
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// process is what p would see in a container made from s.
func (f *Fake) process(s engine.ContainerSpec, p engine.Process) prog.Process {
	env := []string{}
	for _, m := range []map[string]string{s.Env, p.Env} {
		for k, v := range m {
			env = append(env, k+"="+v)
		}
	}
	dir := p.Dir
	if dir == "" {
		dir = dataDir
	}
	uid, _ := strconv.Atoi(p.User) // none is root
	return prog.Process{
		Args: p.Argv[1:], Env: env, UID: uid, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr,
		Getwd:    func() (string, error) { return dir, nil },
		Hostname: func() (string, error) { return s.Hostname, nil },
		Winsize:  winsize(p.TTY),
		Open: func(name string) (prog.File, error) {
			header, content, err := f.File(s.Name, name)
			if err != nil {
				return nil, err
			}
			return fakeFile{bytes.NewReader(content), header}, nil
		},
	}
}

// winsize tells the size of a terminal after the changes that were made to it.
func winsize(tty *engine.TTY) func() (rows, columns uint16, err error) {
	if tty == nil {
		return func() (rows, columns uint16, err error) { return 0, 0, syscall.ENOTTY }
	}
	size := tty.Size
	return func() (rows, columns uint16, err error) {
		for {
			select {
			case size = <-tty.Resize:
			default:
				return size.Rows, size.Columns, nil
			}
		}
	}
}

type fakeFile struct {
	io.Reader
	header *tar.Header
}

func (f fakeFile) Close() error               { return nil }
func (f fakeFile) Stat() (fs.FileInfo, error) { return fakeInfo{f.header.FileInfo(), f.header}, nil }

type fakeInfo struct {
	fs.FileInfo
	header *tar.Header
}

func (i fakeInfo) Sys() any       { return i }
func (i fakeInfo) String() string { return fmt.Sprintf("%d:%d", i.header.Uid, i.header.Gid) }
