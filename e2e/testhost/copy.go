// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// CopyIn copies the file or directory src of this machine to dst in the host, as owner
// (a user there; default UserName): directories that are missing are made, existing
// files replaced, modes kept. dst is the copy itself, not the directory to put it in.
func (h *Host) CopyIn(ctx context.Context, src, dst, owner string) error {
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	if owner == "" {
		owner = UserName
	}
	const asUser = `exec setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups sh -euc "$2" sh "$3" "$4"`
	if !info.IsDir() {
		f, err := os.Open(src)
		if err != nil {
			return err
		}
		defer discard(f)
		cmd := h.enter(ctx, "sh", "-c", asUser, "sh", owner,
			`mkdir -p "$(dirname "$1")"; rm -f "$1"; cat >"$1"; chmod "$2" "$1"`, dst, fmt.Sprintf("%o", info.Mode().Perm()))
		cmd.Stdin = f
		return h.copied(cmd, src, dst)
	}
	pack := exec.CommandContext(ctx, "tar", "-C", src, "-cf", "-", ".")
	unpack := h.enter(ctx, "sh", "-c", asUser, "sh", owner, `mkdir -p "$1"; tar -C "$1" --no-same-owner -xf -`, dst, "")
	return h.pipe(pack, unpack, src, dst)
}

// CopyOut copies the file or directory src of the host to dst on this machine, as CopyIn
// does; the copy belongs to the user of this process.
func (h *Host) CopyOut(ctx context.Context, src, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if h.enter(ctx, "test", "-d", src).Run() == nil {
		if err := os.MkdirAll(dst, 0o755); err != nil {
			return err
		}
		pack := h.enter(ctx, "tar", "-C", src, "-cf", "-", ".")
		unpack := exec.CommandContext(ctx, "tar", "-C", dst, "--no-same-owner", "-xf", "-")
		return h.pipe(pack, unpack, src, dst)
	}
	mode, err := run(h.enter(ctx, "stat", "--dereference", "--format=%a", src))
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	var perm os.FileMode
	if _, err := fmt.Sscanf(mode, "%o", &perm); err != nil {
		return fmt.Errorf("mode of %s: %w", src, err)
	}
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	cmd := h.enter(ctx, "cat", src)
	cmd.Stdout = f
	err = h.copied(cmd, src, dst)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (h *Host) copied(cmd *exec.Cmd, src, dst string) error {
	var stderr tail
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", src, dst, err, &stderr)
	}
	return nil
}

// pipe runs pack with its output in unpack.
func (h *Host) pipe(pack, unpack *exec.Cmd, src, dst string) error {
	var stderr tail
	pack.Stderr = &stderr
	var err error
	if unpack.Stdin, err = pack.StdoutPipe(); err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	err = h.copied(unpack, src, dst)
	if packErr := pack.Wait(); packErr != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", src, dst, packErr, &stderr)
	}
	return err
}
