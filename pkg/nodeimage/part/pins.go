// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/nodeimage/fetch"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Pin returns the SHA-256 of an artifact: the one that its project publishes
// beside it or, if it publishes none, that of the artifact as it is now.
func (o *Official) Pin(ctx context.Context, a Artifact) (string, error) {
	if a.Checksum == "" {
		return o.measure(ctx, a)
	}
	address, err := Mirrored(a.Checksum, o.Mirror)
	if err != nil {
		return "", err
	}
	text, err := o.client.Text(ctx, address)
	if err != nil {
		return "", err
	}
	sum, ok := published(text, path.Base(a.URL))
	if !ok {
		return "", problem.SourceUnreachable.
			With("Look at that address with a browser: it may be the login page of a network, or the project may publish its checksums elsewhere now.").
			Wrapf("%s does not tell the SHA-256 of %s", address, path.Base(a.URL))
	}
	return sum, nil
}

// measure fetches an artifact to take its checksum.
func (o *Official) measure(ctx context.Context, a Artifact) (_ string, err error) {
	address, err := Mirrored(a.URL, o.Mirror)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(o.Cache, "downloads")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "unpinned-"+path.Base(a.URL))
	if err := o.client.Download(ctx, fetch.File{URL: address, Path: file, Progress: o.progress("pins", path.Base(a.URL))}); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	f, err := describe("", file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.URL, err)
	}
	return f.SHA256, nil
}

// published finds the checksum of a file in what a project publishes: the
// checksum alone, or lines as sha256sum(1) writes them.
func published(text, name string) (string, bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || !sha256Re.MatchString(fields[0]) {
			continue
		}
		if len(fields) == 1 && len(strings.Fields(text)) == 1 || len(fields) == 2 && path.Base(strings.TrimPrefix(fields[1], "*")) == name {
			return fields[0], true
		}
	}
	return "", false
}
