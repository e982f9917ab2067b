// SPDX-License-Identifier: Apache-2.0

// Package node acts in one node of a cluster, written once over the engine
// port: run a command, read a file, put files.
//
// It must never import an engine adapter, a plan or client-go.
package node

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// Node is a node's container.
type Node struct {
	engine engine.Execer
	Name   string // the container's name or id
}

// New returns the node whose container has this name.
func New(e engine.Execer, name string) *Node { return &Node{engine: e, Name: name} }

// CommandError is a command that ended with another exit code than 0.
type CommandError struct {
	Node   string
	Argv   []string
	Exit   int
	Output string // standard output and standard error, trimmed
}

func (e *CommandError) Error() string {
	s := fmt.Sprintf("%s: %s: exit code %d", e.Node, strings.Join(e.Argv, " "), e.Exit)
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

// Output runs a command and returns its standard output. A *CommandError
// tells of an exit code other than 0.
func (n *Node) Output(ctx context.Context, argv ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	exit, err := n.engine.Exec(ctx, n.Name, engine.Process{Argv: argv, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name, strings.Join(argv, " "), err)
	}
	if exit != 0 {
		text := strings.TrimSpace(stdout.String() + "\n" + stderr.String())
		return stdout.Bytes(), &CommandError{Node: n.Name, Argv: argv, Exit: exit, Output: text}
	}
	return stdout.Bytes(), nil
}

// Stream runs a command and passes on what it prints, on both streams, while it
// runs. A *CommandError tells of an exit code other than 0.
func (n *Node) Stream(ctx context.Context, w io.Writer, argv ...string) error {
	exit, err := n.engine.Exec(ctx, n.Name, engine.Process{Argv: argv, Stdout: w, Stderr: w})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", n.Name, strings.Join(argv, " "), err)
	}
	if exit != 0 {
		return &CommandError{Node: n.Name, Argv: argv, Exit: exit}
	}
	return nil
}

// ReadFile returns a regular file's content. The container need not run. It
// wraps engine.ErrNotFound for a file that does not exist.
func (n *Node) ReadFile(ctx context.Context, name string) ([]byte, error) {
	stream, err := n.engine.CopyOut(ctx, n.Name, name)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", n.Name, name, err)
	}
	defer stream.Close()
	r := tar.NewReader(stream)
	h, err := r.Next()
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", n.Name, name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%s: read %s: not a regular file", n.Name, name)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", n.Name, name, err)
	}
	return data, nil
}

// File is a file to put into a node.
type File struct {
	Path     string // absolute
	Mode     uint32 // permission bits
	Data     []byte
	UID, GID int // of the owner in the node; 0 is root
}

// WriteFiles puts files with their missing parent directories (mode 0755)
// into the container in one go, which need not run yet. modTime is their time stamp.
func (n *Node) WriteFiles(ctx context.Context, files []File, modTime time.Time) error {
	archive, err := archiveOf(files, modTime)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	if err := n.engine.CopyIn(ctx, n.Name, "/", bytes.NewReader(archive)); err != nil {
		return fmt.Errorf("%s: copy files in: %w", n.Name, err)
	}
	return nil
}

func archiveOf(files []File, modTime time.Time) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dirs := map[string]bool{"/": true}
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("%q is not a clean absolute path", f.Path)
		}
		if err := addDirs(w, dirs, path.Dir(f.Path), modTime); err != nil {
			return nil, err
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.Path[1:], Mode: int64(f.Mode & 0o777), Size: int64(len(f.Data)), ModTime: modTime,
			Uid: f.UID, Gid: f.GID,
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// systemDirs exist in every node image and keep the mode that they have there.
var systemDirs = map[string]bool{"/etc": true, "/var": true, "/usr": true, "/run": true, "/opt": true, "/var/lib": true, "/root": true}

func addDirs(w *tar.Writer, done map[string]bool, dir string, modTime time.Time) error {
	if done[dir] {
		return nil
	}
	if err := addDirs(w, done, path.Dir(dir), modTime); err != nil {
		return err
	}
	done[dir] = true
	if systemDirs[dir] {
		return nil
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755, ModTime: modTime})
}
