// SPDX-License-Identifier: Apache-2.0

package part

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// extract copies the programs of an artifact, which lies in file, to a folder.
func extract(ctx context.Context, file string, a Artifact, to string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	missing := maps.Clone(a.Members)
	if !isTarball(a.URL) {
		for program := range missing {
			if err := writeProgram(ctx, filepath.Join(to, program), f); err != nil {
				return err
			}
		}
		return nil
	}
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(unzipped); len(missing) > 0; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it does not hold %s", strings.Join(slices.Sorted(maps.Values(missing)), ", "))
		}
		if err != nil {
			return err
		}
		for program, member := range missing {
			if h.Typeflag != tar.TypeReg || path.Clean(h.Name) != member {
				continue
			}
			if err := writeProgram(ctx, filepath.Join(to, program), r); err != nil {
				return err
			}
			delete(missing, program)
		}
	}
	return nil
}

func writeProgram(ctx context.Context, name string, content io.Reader) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, contextReader{ctx, content})
	return err
}

// contextReader ends with a context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// full is problem.DiskFull for an error that has that cause.
func full(err error, dir string) error {
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return problem.DiskFull.Withf("Programs are kept in %s. Free space there, or put the cache on another disk with XDG_CACHE_HOME.", filepath.Dir(dir)).Wrap(err)
}
