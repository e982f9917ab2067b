// SPDX-License-Identifier: Apache-2.0

package node

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// execer is one container that answers with what the test set.
type execer struct {
	exit           int
	stdout, stderr string
	err            error
	in             []byte // what CopyIn got
	out            []byte // what CopyOut gives
}

func (e *execer) Exec(_ context.Context, _ string, p engine.Process) (int, error) {
	fmt.Fprint(p.Stdout, e.stdout)
	fmt.Fprint(p.Stderr, e.stderr)
	return e.exit, e.err
}

func (e *execer) CopyIn(_ context.Context, _, _ string, r io.Reader) (err error) {
	e.in, err = io.ReadAll(r)
	return errors.Join(err, e.err)
}

func (e *execer) CopyOut(context.Context, string, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(e.out)), e.err
}

func TestOutput(t *testing.T) {
	t.Parallel()
	out, err := New(&execer{stdout: "v1\n"}, "n").Output(t.Context(), "kubelet", "--version")
	if err != nil || string(out) != "v1\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = New(&execer{exit: 3, stderr: "no such token\n"}, "n").Output(t.Context(), "kubeadm", "token")
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Exit != 3 || err.Error() != "n: kubeadm token: exit code 3: no such token" {
		t.Errorf("got %v", err)
	}
	if _, err = New(&execer{err: engine.ErrNotFound}, "n").Output(t.Context(), "x"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestWriteFiles(t *testing.T) {
	t.Parallel()
	e := &execer{}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	err := New(e, "n").WriteFiles(t.Context(), []File{
		{Path: "/etc/kubernetes/pki/ca.key", Mode: 0o600, Data: []byte("k")},
		{Path: "/etc/rk/node.env", Mode: 0o644, Data: []byte("env")},
		{Path: "/etc/kubernetes/admin.conf", Mode: 0o600, Data: []byte("conf")},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(e.in)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(now) {
			t.Errorf("%s: time %s", h.Name, h.ModTime)
		}
		got = append(got, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
	want := "etc/kubernetes/ 755,etc/kubernetes/admin.conf 600,etc/kubernetes/pki/ 755,etc/kubernetes/pki/ca.key 600,etc/rk/ 755,etc/rk/node.env 644"
	if strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
	for _, bad := range []string{"etc/x", "/etc/../x", "/"} {
		if err := New(e, "n").WriteFiles(t.Context(), []File{{Path: bad}}, now); err == nil {
			t.Errorf("path %q was taken", bad)
		}
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	archive, err := archiveOf([]File{{Path: "/a", Data: []byte("text")}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := New(&execer{out: archive}, "n").ReadFile(t.Context(), "/a")
	if err != nil || string(data) != "text" {
		t.Errorf("got %q, %v", data, err)
	}
	dir, err := archiveOf([]File{{Path: "/d/a"}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(&execer{out: dir}, "n").ReadFile(t.Context(), "/d"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := New(&execer{err: engine.ErrNotFound}, "n").ReadFile(t.Context(), "/a"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := New(&execer{out: []byte("garbage")}, "n").ReadFile(t.Context(), "/a"); err == nil {
		t.Error("garbage was read")
	}
}
