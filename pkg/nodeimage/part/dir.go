// SPDX-License-Identifier: Apache-2.0

package part

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Dir is the source for machines without a network: the programs lie in a
// folder as Root/PART/PROGRAM, e.g. Root/runc/runc, as [Export] lays them out.
type Dir struct {
	Root   string
	Arch   string      // GOARCH
	Report func(Event) // may be nil
}

// Fetch returns the programs of p where they lie. An error names each that is
// missing, dynamically linked or for another architecture.
func (d *Dir) Fetch(ctx context.Context, p Part) (Built, error) {
	if err := ctx.Err(); err != nil {
		return Built{}, err
	}
	root, err := filepath.Abs(d.Root)
	if err != nil {
		return Built{}, err
	}
	out := Built{Part: p, Cached: true, From: FromDir}
	var bad []string
	for _, b := range p.Binaries {
		path := layout(root, p, b)
		err := checkStatic(path, d.Arch)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s is missing", path)
		}
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		f, err := describe(b.Name, path)
		if err != nil {
			return Built{}, err
		}
		out.Files = append(out.Files, f)
	}
	if len(bad) > 0 {
		return Built{}, problem.SourceUnreachable.
			Withf("Put static linux/%s programs of %s %s there: %s/PROGRAM.", d.Arch, cmp.Or(p.Module, p.Name), p.Version, filepath.Join(root, p.Name)).
			Wrapf("part %s: %s", p.Name, strings.Join(bad, "; "))
	}
	if d.Report != nil {
		d.Report(Event{Part: p.Name, Kind: Cached, Detail: p.Version})
	}
	return out, nil
}

// Export copies built parts into a folder that [Dir] can use elsewhere.
func Export(ctx context.Context, parts []Built, root string) error {
	for _, built := range parts {
		if err := os.MkdirAll(filepath.Join(root, built.Part.Name), 0o755); err != nil {
			return err
		}
		for i, b := range built.Part.Binaries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := copyFile(built.Files[i].Path, layout(root, built.Part, b)); err != nil {
				return fmt.Errorf("exporting part %s: %w", built.Part.Name, err)
			}
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
