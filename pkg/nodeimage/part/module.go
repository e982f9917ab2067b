// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Module is the source that compiles parts from their Go modules, which the
// go tool gets the way it is set up to (GOPROXY, GOPRIVATE and so on). What
// was built once is kept in a cache that knows every input, so that the same
// part again takes milliseconds.
type Module struct {
	Cache  string      // folder, see DefaultCache; it is created
	Arch   string      // GOARCH; cgo parts can be built for the machine's own only
	Report func(Event) // may be nil; called from several goroutines

	runner runner // nil: execute
}

// Fetch returns the programs of p from the cache, else builds them first.
func (m *Module) Fetch(ctx context.Context, p Part) (Built, error) {
	p = p.forArch(m.Arch)
	inputs, err := files(p)
	if err != nil {
		return Built{}, err
	}
	cache, err := filepath.Abs(m.Cache)
	if err != nil {
		return Built{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Built{}, fmt.Errorf("making the cache of parts: %w", err)
	}
	run := m.runner
	if run == nil {
		run = execute
	}
	tools, err := inspect(ctx, run, cache, p, m.Arch, requiredGo(inputs["go.mod"]))
	if err != nil {
		return Built{}, err
	}
	entry := filepath.Join(cache, key(p, m.Arch, tools.identity, inputs))
	found, ok, err := cached(entry, p)
	if err != nil {
		return Built{}, fmt.Errorf("looking for part %s in the cache: %w", p.Name, err)
	}
	if ok {
		m.report(Event{Part: p.Name, Kind: Cached, Detail: p.Version})
		return Built{Part: p, Files: found, Cached: true, From: FromModule}, nil
	}
	made, err := m.build(ctx, run, p, inputs, tools, entry)
	if err != nil {
		return Built{}, err
	}
	m.report(Event{Part: p.Name, Kind: Done, Detail: p.Version})
	return Built{Part: p, Files: made, From: FromModule}, nil
}

// build compiles p in a scratch folder beside the entry, checks the result
// and puts it in place.
func (m *Module) build(ctx context.Context, run runner, p Part, inputs map[string][]byte, tools toolchain, entry string) (_ []File, err error) {
	scratch, err := os.MkdirTemp(filepath.Dir(entry), ".build-"+p.Name+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	work, out := filepath.Join(scratch, "work"), filepath.Join(scratch, "out")
	for _, dir := range []string{work, out} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for name, data := range inputs {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	for _, c := range commands(p, m.Arch, out) {
		log := &buildLog{part: p.Name, report: m.report}
		if err := run(ctx, work, c.env, log, "go", c.args...); err != nil {
			return nil, explain(ctx, p, tools, log.text(), err)
		}
	}
	for _, b := range p.Binaries {
		if err := checkStatic(filepath.Join(out, b.Name), m.Arch); err != nil {
			return nil, fmt.Errorf("part %s was built wrongly: %w", p.Name, err)
		}
	}
	return store(out, entry, p)
}

func (m *Module) report(e Event) {
	if m.Report != nil {
		m.Report(e)
	}
}
