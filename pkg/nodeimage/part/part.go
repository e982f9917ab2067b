// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Part is a group of programs that come from one Go module at one version.
type Part struct {
	Name     string // e.g. "containerd", "kubernetes-v1.36"
	Module   string // Go module path; "" if there is nothing but Source
	Version  string // e.g. "v2.4.2"
	Binaries []Binary
	// Source is main.go of a program that is part of this repository.
	Source []byte

	// Cgo parts are linked statically against C libraries of the building machine.
	Cgo   bool
	CArch string   // the one GOARCH that has C code, "" for all
	CLibs []string // static libraries beside libc, without "lib" and ".a", e.g. "seccomp"
	// Stamps are string variables set by the linker: import path and name to value.
	Stamps map[string]string
}

// forArch returns the part as it is compiled for an architecture.
func (p Part) forArch(arch string) Part {
	p.Cgo = p.Cgo && (p.CArch == "" || p.CArch == arch)
	return p
}

// Binary is one program of a part.
type Binary struct {
	Name    string   // file name in the image, e.g. "kubelet"; unique among all parts
	Package string   // import path
	Tags    []string // build tags
}

// Built is a part whose programs are at hand.
type Built struct {
	Part   Part
	Files  []File // in the order of Part.Binaries
	Cached bool   // nothing had to be compiled or fetched
	From   string // FromModule, FromRelease or FromDir
}

// Where the programs of a part come from.
const (
	FromModule  = "module"
	FromRelease = "release"
	FromDir     = "dir"
)

// File is one program on disk. It belongs to its source: copy or hard-link it,
// never change it.
type File struct {
	Name   string // Binary.Name
	Path   string // absolute
	Size   int64  // bytes
	SHA256 string // hexadecimal
}

// Path returns where the program called name lies, "" if the part has none of that name.
func (b Built) Path(name string) string {
	for _, f := range b.Files {
		if f.Name == name {
			return f.Path
		}
	}
	return ""
}

// Source brings the programs of parts onto this machine. Implementations are
// safe for concurrent use.
type Source interface {
	// Fetch returns the programs of p, static and for the source's
	// architecture. Its errors wrap a problem.Problem where the user can do
	// something about them.
	Fetch(ctx context.Context, p Part) (Built, error)
}

// fetchLimit is how many parts are built at once. The go tool uses every
// processor for compiling, but links one program on about one of them.
const fetchLimit = 2

// FetchAll fetches parts, a few at a time, and returns them in the same
// order. The first error ends it.
func FetchAll(ctx context.Context, src Source, parts []Part) ([]Built, error) {
	out := make([]Built, len(parts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchLimit)
	for i, p := range parts {
		g.Go(func() error {
			b, err := src.Fetch(ctx, p)
			out[i] = b
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// Kind tells what an event is about.
type Kind string

// The kinds of events.
const (
	Cached      Kind = "cached"      // the part was built before
	Downloading Kind = "downloading" // Event.Detail: module and version, or artifact and bytes
	Elsewhere   Kind = "elsewhere"   // the part comes from another source; Event.Detail: why
	Compiling   Kind = "compiling"   // Event.Detail: Go package
	Done        Kind = "done"        // the part is at hand
)

// Event is one piece of progress. A part has many Downloading and Compiling
// events and one Cached or Done event.
type Event struct {
	Part   string
	Kind   Kind
	Detail string
}

// layout is where a program lies below a source's folder.
func layout(dir string, p Part, b Binary) string {
	return filepath.Join(dir, p.Name, b.Name)
}
