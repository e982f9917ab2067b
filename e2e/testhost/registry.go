// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// base is the directory that holds everything: <key>/rootfs, hosts/<id> and lock.
type base struct{ path string }

// defaultBase is $RK_TESTHOST_DIR, or rk/testhost in the user's cache directory.
func defaultBase() (*base, error) {
	if dir := os.Getenv("RK_TESTHOST_DIR"); dir != "" {
		abs, err := filepath.Abs(dir)
		return &base{path: abs}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("no cache directory (%w): set RK_TESTHOST_DIR", err)
	}
	return &base{path: filepath.Join(cache, "rk", "testhost")}, nil
}

func (b *base) hosts() string        { return filepath.Join(b.path, "hosts") }
func (b *base) dir(id string) string { return filepath.Join(b.hosts(), id) }

// bridge is the name of the bridge that the hosts of this base share, at most 15 characters.
func (b *base) bridge() string {
	sum := sha256.Sum256([]byte(b.path))
	return "rkth" + hex.EncodeToString(sum[:4])
}

// state is what host.json records of a host.
type state struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	Release    Release `json:"release"`
	VM         bool    `json:"vm,omitempty"`
	Bridge     string  `json:"bridge"`
	Addr       string  `json:"addr"`
	Gateway    string  `json:"gateway"`
	Owner      process `json:"owner"`      // zero: the host outlives its owner
	Supervisor process `json:"supervisor"` // zero: not started yet
	Leader     process `json:"leader"`     // the container's PID 1, or QEMU; zero: still starting
}

const (
	stateFile = "host.json"
	idPrefix  = "rk" // the id names the cgroup and the veth device
)

func newID() (string, error) {
	s, err := randomHex(4)
	return idPrefix + s, err
}

func randomHex(n int) (string, error) {
	buf := make([]byte, n)
	if _, err := rand.Read(buf); err != nil {
		return "", err
	}
	return hex.EncodeToString(buf), nil
}

// lock serialises changes of the set of hosts, with clean in supervisor.sh.
func (b *base) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(b.path, 0o755); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(b.path, "lock"))
}

func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			discard(f)
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return func() { discard(f) }, nil
	case <-ctx.Done():
		go func() { <-locked; discard(f) }()
		return nil, fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx))
	}
}

// list returns the hosts on record, by name.
func (b *base) list() ([]state, error) {
	entries, err := os.ReadDir(b.hosts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var states []state
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(b.dir(e.Name()), stateFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // just being made or removed
		}
		if err != nil {
			return nil, err
		}
		var s state
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(b.dir(e.Name()), stateFile), err)
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b state) int { return strings.Compare(a.Name, b.Name) })
	return states, nil
}

func (b *base) save(s state) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir(s.ID), stateFile)
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// reserve puts a new host on record, with an address of its own, and makes the bridge.
func (b *base) reserve(ctx context.Context, id string, o Options) (state, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return state{}, err
	}
	defer unlock()
	states, err := b.list()
	if err != nil {
		return state{}, err
	}
	used := map[string]bool{}
	for _, s := range states {
		if s.Name == o.Name {
			return state{}, fmt.Errorf("a test host %q exists: remove it with %q, or take another name", o.Name, "testhost down "+o.Name)
		}
		used[s.Addr] = true
	}
	gateway, err := ensureBridge(ctx, b.bridge())
	if err != nil {
		return state{}, err
	}
	addr, err := freeAddr(gateway, used)
	if err != nil {
		return state{}, err
	}
	owner, err := findProcess(os.Getpid())
	if err != nil {
		return state{}, err
	}
	s := state{ID: id, Name: o.Name, Release: o.Release, VM: o.VM, Bridge: b.bridge(), Addr: addr, Gateway: gateway.String(), Owner: owner}
	if err := os.MkdirAll(b.dir(id), 0o755); err != nil {
		return state{}, err
	}
	return s, b.save(s)
}

// Info describes a host on record.
type Info struct {
	Name    string
	Release Release
	VM      bool
	Addr    string
	// Status is "running", "starting", "kept" (running, and outliving its owner) or "dead".
	Status string
	Owner  int // process id; 0 where the host outlives its owner
}

// List returns the hosts on record, by name.
func List() ([]Info, error) {
	b, err := defaultBase()
	if err != nil {
		return nil, err
	}
	states, err := b.list()
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(states))
	for _, s := range states {
		infos = append(infos, Info{Name: s.Name, Release: s.Release, VM: s.VM, Addr: s.Addr, Status: s.status(), Owner: s.Owner.PID})
	}
	return infos, nil
}

func (s state) status() string {
	switch {
	case s.stale():
		return "dead"
	case s.Leader == process{}:
		return "starting"
	case s.Owner == process{}:
		return "kept"
	default:
		return "running"
	}
}

// stale tells that nobody is left who will remove the host, or that its supervisor is
// about to.
func (s state) stale() bool {
	if s.Owner != (process{}) && !s.Owner.alive() {
		return true
	}
	return s.Supervisor != (process{}) && !s.Supervisor.alive()
}

// Prune removes the hosts whose owner or supervisor died, and returns their names.
func Prune(ctx context.Context) ([]string, error) {
	b, err := defaultBase()
	if err != nil {
		return nil, err
	}
	return b.prune(ctx)
}

func (b *base) prune(ctx context.Context) (names []string, err error) {
	if err := b.pruneStrays(ctx); err != nil {
		return nil, err
	}
	states, err := b.list()
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if !s.stale() {
			continue
		}
		h := &Host{base: b, state: s}
		err = errors.Join(err, h.Close())
		names = append(names, s.Name)
	}
	return names, err
}

// pruneStrays removes directories without a record: their owner was killed while it made
// or removed them.
func (b *base) pruneStrays(ctx context.Context) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(b.hosts())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if _, statErr := os.Stat(filepath.Join(b.dir(e.Name()), stateFile)); errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, os.RemoveAll(b.dir(e.Name())))
		}
	}
	return err
}

// clean removes what a dead supervisor left of a host.
func (b *base) clean(id string) error {
	out, err := supervisorCommand("clean", b.dir(id), b.bridge()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("clean up: %w: %s", err, out)
	}
	return nil
}
