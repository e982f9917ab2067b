// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const (
	lockSuffix = ".lock"    // kubectl's convention: client-go, tools/clientcmd/config.go, lockFile
	lockMarker = "rk, pid " // content of a lock of rk: one that can be told to be abandoned
	// lockPatience is how long one and the same lock of another program is
	// respected. kubectl holds it for milliseconds.
	lockPatience = 10 * time.Second
	lockInterval = 5 * time.Millisecond // between two looks at it
)

// lockFile takes the lock of a kubeconfig file and returns its release.
//
// The lock is kubectl's: the file path.lock, made with O_EXCL, removed at the
// end. So rk, kubectl and kind exclude each other. kubectl's lock stays for
// ever when its owner is killed; rk's does not, because the owner holds an
// flock(2) on it too, which ends with the process: the next rk takes it over.
func lockFile(ctx context.Context, path string, patience time.Duration) (release func() error, err error) {
	name := path + lockSuffix
	var other fs.FileInfo // the lock that is waited for
	var since time.Time
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrExist) {
			f, err = takeOver(name)
		}
		if err != nil {
			return nil, problem.KubeconfigUnwritable.Wrapf("lock %s: %w", path, err)
		}
		if f != nil {
			ok, err := own(f, name)
			if err != nil {
				return nil, problem.KubeconfigUnwritable.Wrapf("lock %s: %w", path, errors.Join(err, f.Close()))
			}
			if ok {
				return func() error { return errors.Join(os.Remove(name), f.Close()) }, nil
			}
		}
		if info, err := os.Lstat(name); err != nil {
			other = nil
		} else if other == nil || !os.SameFile(info, other) || !info.ModTime().Equal(other.ModTime()) {
			other, since = info, time.Now()
		} else if time.Since(since) > patience {
			return nil, problem.KubeconfigLocked.Withf(
				"Wait for the other program (kubectl, kind, an IDE) to finish. If none runs, its lock was left behind: 'rm %s'.", name).
				Wrapf("%s exists since %s", name, info.ModTime().Format(time.DateTime))
		}
		select {
		case <-ctx.Done():
			return nil, problem.KubeconfigLocked.Wrapf("wait for %s: %w", name, ctx.Err())
		case <-time.After(lockInterval):
		}
	}
}

// takeOver opens an existing lock if it is one of rk; nil if it is not, or is gone.
func takeOver(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil || !strings.HasPrefix(string(content), lockMarker) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// own makes f, the file of this name when it was opened, this process's lock.
// It reports false, with f closed, if another owner has it or it was removed
// meanwhile.
func own(f *os.File, name string) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false, f.Close()
	case err != nil && !errors.Is(err, syscall.ENOLCK) && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOSYS):
		return false, err
	case err != nil: // a file system without flock: exclusion by O_EXCL alone, as kubectl does it
		if info, serr := f.Stat(); serr != nil || info.Size() > 0 {
			return false, errors.Join(serr, f.Close())
		}
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, now) {
		return false, f.Close()
	}
	if err != nil {
		return false, err
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%s%d\n", lockMarker, os.Getpid()), 0)
	return err == nil, err
}

// withLock calls f while the kubeconfig at path is locked. f gets the path of
// the file itself, to which path may be a symbolic link; both are locked, so
// that writers that know it by different names exclude each other.
func withLock(ctx context.Context, path string, f func(target string) error) (err error) {
	release, err := lockFile(ctx, path, lockPatience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	target, err := linkTarget(path)
	if err != nil {
		return problem.KubeconfigUnreadable.Wrap(err)
	}
	if target != path {
		release, err := lockFile(ctx, target, lockPatience)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return f(target)
}

// linkTarget follows symbolic links at path, also to a file that does not
// exist yet; path itself if it is none.
func linkTarget(path string) (string, error) {
	for range 40 { // the kernel's own limit
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}
