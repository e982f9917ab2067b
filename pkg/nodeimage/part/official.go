// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/rootless-kubernetes/rk/pkg/nodeimage/fetch"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Official is the source that fetches the artifacts which the projects
// publish. Each must have a checksum in Releases. Parts whose project publishes
// none, or whose artifacts are not pinned, come from another source.
type Official struct {
	Cache    string // folder, see DefaultCache; it is created
	Arch     string // GOARCH
	Releases *Releases
	Mirror   string      // http or https address of a server with the same files, see Mirrored; "" for the projects' own
	Else     Source      // of the other parts, a Module
	Report   func(Event) // may be nil; called from several goroutines

	client fetch.Client
}

// Fetch returns the programs of p from the cache, else fetches what is missing
// of their artifacts.
func (o *Official) Fetch(ctx context.Context, p Part) (Built, error) {
	at, artifacts := o.Releases.Artifacts(p, o.Arch)
	if missing := Unpinned(artifacts); len(artifacts) == 0 || len(missing) > 0 {
		return o.fetchElse(ctx, p, missing)
	}
	cache, err := filepath.Abs(o.Cache)
	if err != nil {
		return Built{}, err
	}
	entry := filepath.Join(cache, o.key(at, artifacts))
	found, ok, err := cached(entry, at)
	if err != nil {
		return Built{}, fmt.Errorf("looking for part %s in the cache: %w", p.Name, err)
	}
	if ok {
		o.report(Event{Part: p.Name, Kind: Cached, Detail: at.Version})
		return Built{Part: at, Files: found, Cached: true, From: FromRelease}, nil
	}
	files, err := o.download(ctx, cache, at, artifacts)
	if err != nil {
		return Built{}, fmt.Errorf("part %s: %w", p.Name, err)
	}
	made, err := o.unpack(ctx, at, artifacts, files, entry)
	if err != nil {
		return Built{}, err
	}
	for _, file := range files { // all that is needed of them is in the entry
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return Built{}, err
		}
	}
	o.report(Event{Part: p.Name, Kind: Done, Detail: at.Version})
	return Built{Part: at, Files: made, From: FromRelease}, nil
}

// fetchElse takes a part from the other source, and says why.
func (o *Official) fetchElse(ctx context.Context, p Part, unpinned []string) (Built, error) {
	why := "there is no official artifact"
	if len(unpinned) > 0 {
		why = "the official artifact has no pinned checksum"
	}
	o.report(Event{Part: p.Name, Kind: Elsewhere, Detail: why + "; compiling it from its Go module"})
	b, err := o.Else.Fetch(ctx, p)
	if len(unpinned) > 0 && errors.Is(err, problem.BuildToolMissing) {
		return b, problem.NotPinned.Wrapf("part %s, %s: %w", p.Name, strings.Join(unpinned, ", "), errors.Unwrap(err))
	}
	return b, err
}

// key names everything that decides the bytes of p's programs.
func (o *Official) key(p Part, artifacts []Artifact) string {
	inputs := map[string][]byte{}
	for _, a := range artifacts {
		for _, program := range slices.Sorted(maps.Keys(a.Members)) {
			inputs[program] = []byte(a.SHA256 + " " + a.Members[program])
		}
	}
	return key(p, o.Arch, "official", inputs)
}

// download brings the artifacts into the cache, side by side, and returns their files.
func (o *Official) download(ctx context.Context, cache string, p Part, artifacts []Artifact) ([]string, error) {
	files := make([]string, len(artifacts))
	g, ctx := errgroup.WithContext(ctx)
	for i, a := range artifacts {
		address, err := Mirrored(a.URL, o.Mirror)
		if err != nil {
			return nil, err
		}
		// One address has different content where its pin differs.
		files[i] = filepath.Join(cache, "downloads", a.SHA256[:16]+"-"+path.Base(a.URL))
		g.Go(func() error {
			return o.client.Download(ctx, fetch.File{URL: address, SHA256: a.SHA256, Path: files[i], Progress: o.progress(p.Name, path.Base(a.URL))})
		})
	}
	return files, g.Wait()
}

// megabyte is the unit of what is shown.
const megabyte = 1_000_000

// progress reports a download now and then.
func (o *Official) progress(part, name string) func(done, total int64) {
	var said int64
	return func(done, total int64) {
		if done-said < 2*megabyte && done != total {
			return
		}
		said = done
		detail := fmt.Sprintf("%s: %d MB", name, done/megabyte)
		if total > 0 {
			detail = fmt.Sprintf("%s: %d of %d MB", name, done/megabyte, total/megabyte)
		}
		o.report(Event{Part: part, Kind: Downloading, Detail: detail})
	}
}

// unpack takes the programs out of the artifacts, checks them and puts them in place.
func (o *Official) unpack(ctx context.Context, p Part, artifacts []Artifact, files []string, entry string) (_ []File, err error) {
	scratch, err := os.MkdirTemp(filepath.Dir(entry), ".unpack-"+p.Name+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	out := filepath.Join(scratch, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return nil, err
	}
	for i, a := range artifacts {
		if err := extract(ctx, files[i], a, out); err != nil {
			return nil, problem.BuildFailed.
				Withf("The artifact is the pinned one, so rk's releases.yaml does not fit it: report it, and build with '--source module'.").
				Wrapf("part %s, %s: %w", p.Name, a.URL, full(err, out))
		}
	}
	known, _ := o.Releases.find(p)
	for _, b := range p.Binaries {
		check := checkStatic
		if slices.Contains(known.Dynamic, b.Name) {
			check = checkForDebian
		}
		if err := check(filepath.Join(out, b.Name), o.Arch); err != nil {
			return nil, problem.BuildFailed.
				Withf("The artifact is the pinned one, so rk's releases.yaml does not fit it: report it, and build with '--source module'.").
				Wrapf("part %s: %w", p.Name, err)
		}
	}
	return store(out, entry, p)
}

func (o *Official) report(e Event) {
	if o.Report != nil {
		o.Report(e)
	}
}
