// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var (
	errNotRunning = errors.New("container is not running")
	errNoCommand  = errors.New("no command given")
	errCovered    = errors.New("the entry lies under another mount of the container, which may hide it")
)

// Exec implements engine.Execer by f.ExecFunc.
func (f *Fake) Exec(ctx context.Context, id string, p engine.Process) (exit int, err error) {
	call := Call{Op: "Exec", Target: f.name(id), Detail: strings.Join(p.Argv, " ")}
	err = f.do(ctx, call, func() error {
		var c engine.Container
		err := f.locked(func() error {
			found, err := f.find(id)
			switch {
			case err != nil:
				return err
			case found.state != engine.StateRunning:
				return fmt.Errorf("container %s: %w", found.spec.Name, errNotRunning)
			case len(p.Argv) == 0:
				return fmt.Errorf("container %s: %w", found.spec.Name, errNoCommand)
			}
			c = found.report()
			return nil
		})()
		if err != nil {
			return err
		}
		exit, err = f.exec(ctx, c, p)
		return err
	})
	if err != nil {
		return 0, err
	}
	return exit, nil
}

// exec runs ExecFunc and returns as soon as ctx ends, as an adapter must.
func (f *Fake) exec(ctx context.Context, c engine.Container, p engine.Process) (int, error) {
	if f.ExecFunc == nil {
		return 0, nil
	}
	stdout, stderr := &gate{w: p.Stdout}, &gate{w: p.Stderr}
	p.Stdout, p.Stderr = stdout, stderr
	if p.Stdin == nil {
		p.Stdin = bytes.NewReader(nil)
	}
	type result struct {
		exit int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		exit, err := f.ExecFunc(ctx, c, p)
		done <- result{exit, err}
	}()
	select {
	case r := <-done:
		return r.exit, r.err
	case <-ctx.Done():
		stdout.shut()
		stderr.shut()
		return 0, ctx.Err()
	}
}

// gate passes writes on until it is shut, so that a process which outlives
// its Exec cannot write into a buffer that its caller already reads.
type gate struct {
	mu sync.Mutex
	w  io.Writer
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w == nil {
		return len(p), nil
	}
	return g.w.Write(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w = nil
}

// CopyIn implements engine.Execer. Where engines differ, it is an error: an
// entry under a volume, tmpfs or bind mount that dir does not lie under, and
// anything under one before the container's first start.
func (f *Fake) CopyIn(ctx context.Context, id, dir string, stream io.Reader) error {
	return f.do(ctx, Call{Op: "CopyIn", Target: f.name(id), Detail: dir}, func() error {
		files := tree{}
		if err := files.unpack(dir, stream); err != nil {
			return fmt.Errorf("copy to %s: %w", dir, err)
		}
		return f.locked(func() error {
			c, err := f.find(id)
			if err != nil {
				return err
			}
			if !c.files.isDir(dir) {
				return fmt.Errorf("container %s: directory %s: %w", c.spec.Name, dir, engine.ErrNotFound)
			}
			mount := c.mountOf(dir)
			if c.state == engine.StateCreated {
				mount = "/"
			}
			for name := range files {
				if c.mountOf(name) != mount {
					return fmt.Errorf("container %s: copy to %s: %s: %w", c.spec.Name, dir, name, errCovered)
				}
			}
			c.files.merge(files)
			return nil
		})()
	})
}

// mountOf returns the mount that name lies on: the longest target of a
// volume, tmpfs or bind mount above it, or "/".
func (c *fakeContainer) mountOf(name string) string {
	targets := append([]string{}, c.spec.Volumes...)
	for target := range c.spec.Tmpfs {
		targets = append(targets, target)
	}
	for _, m := range c.spec.Mounts {
		targets = append(targets, m.Target)
	}
	best := "/"
	for _, target := range targets {
		if target = path.Clean(target); len(target) > len(best) && (name == target || strings.HasPrefix(name, target+"/")) {
			best = target
		}
	}
	return best
}

// CopyOut implements engine.Execer.
func (f *Fake) CopyOut(ctx context.Context, id, name string) (io.ReadCloser, error) {
	var out bytes.Buffer
	err := f.do(ctx, Call{Op: "CopyOut", Target: f.name(id), Detail: name}, f.locked(func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		if err := c.files.pack(name, &out); err != nil {
			return fmt.Errorf("container %s: %w", c.spec.Name, err)
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(&out), nil
}

// File returns a file of a container, as CopyIn or the image left it: its
// header and content.
func (f *Fake) File(nameOrID, name string) (*tar.Header, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(nameOrID)
	if err != nil {
		return nil, nil, err
	}
	e, ok := c.files[path.Clean(name)]
	if !ok {
		return nil, nil, fmt.Errorf("container %s: %s: %w", c.spec.Name, name, engine.ErrNotFound)
	}
	header := *e.header
	return &header, bytes.Clone(e.content), nil
}

// Files returns the regular files that CopyIn put into a container, by path.
func (f *Fake) Files(nameOrID string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(nameOrID)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name, e := range c.files {
		if e.copied && e.header.Typeflag == tar.TypeReg {
			files[name] = string(e.content)
		}
	}
	return files, nil
}
