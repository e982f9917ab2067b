// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

var _ engine.Engine = (*Fake)(nil)

var errClosed = errors.New("the engine's connection is closed")

// Fake is an engine in memory that keeps the port's contract and passes Run.
// It is safe for concurrent use, and given the same calls it gives the same
// ids and times. The fields are set before the first call.
//
// Operations can be made to fail, block or panic: see Before, After, Fail and
// FailAt. What is left of them is told by Leftovers.
type Fake struct {
	hooks

	// Engine is what Info returns. Default: a rootless Podman with all
	// controllers delegated.
	Engine engine.Info

	// ExecFunc answers Exec. ctx ends when the caller's does. Output that it
	// writes after ctx has ended is dropped. Default: exit code 0, no output.
	ExecFunc func(ctx context.Context, c engine.Container, p engine.Process) (int, error)

	// InitFunc is the first process of every container: it runs from start
	// until it returns its exit code, or until ctx ends because the container
	// is stopped or removed. What it writes to out is the container's log.
	// Default: it waits for ctx and exits with 0.
	InitFunc func(ctx context.Context, s engine.ContainerSpec, out io.Writer) int

	mu         sync.Mutex
	closed     bool
	seq        int            // advances with every creation; the Fake's clock
	born       map[string]int // name -> how often it was created
	containers map[string]*fakeContainer
	networks   map[string]engine.Network
	images     map[string]fakeImage // by reference
	remote     map[string]fakeImage // what PullImage can fetch
	foreign    map[hostPort]bool    // host ports that something else holds
}

// NewFake returns a Fake with the default network "podman" (10.88.0.0/16) and
// an image under each of refs.
func NewFake(refs ...string) *Fake {
	f := &Fake{
		Engine: engine.Info{
			Name: "podman", Version: "5.4.2", Rootless: true,
			CgroupVersion: 2, CgroupManager: "systemd", Controllers: []string{"cpu", "memory", "pids"},
			OCIRuntime: "crun", StorageDriver: "overlay", GraphRoot: "/home/rk/.local/share/containers/storage", NativeOverlay: true,
			Socket: "fake", NetworkDriver: "pasta", UIDs: 65537, GIDs: 65537,
		},
		born:       map[string]int{},
		containers: map[string]*fakeContainer{},
		networks: map[string]engine.Network{
			defaultNetwork: {Name: defaultNetwork, Subnets: []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")}, Labels: map[string]string{}},
		},
		images:  map[string]fakeImage{},
		remote:  map[string]fakeImage{},
		foreign: map[hostPort]bool{},
	}
	for _, ref := range refs {
		f.AddImage(ref, engine.Image{})
	}
	return f
}

// TakePort lets something outside the engine hold a host port ("tcp" or
// "udp"), so that starting a container that publishes it fails.
func (f *Fake) TakePort(addr netip.AddrPort, protocol string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign[hostPort{addr.Addr(), addr.Port(), protocol}] = true
}

// Leftovers lists every container, anonymous volume and network that exists,
// except the default network: "container NAME", "network NAME", "volume
// CONTAINER:PATH", sorted.
func (f *Fake) Leftovers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := []string{}
	for _, c := range f.containers {
		left = append(left, "container "+c.spec.Name)
		for _, path := range c.spec.Volumes {
			left = append(left, "volume "+c.spec.Name+":"+path)
		}
	}
	for name := range f.networks {
		if name != defaultNetwork {
			left = append(left, "network "+name)
		}
	}
	slices.Sort(left)
	return left
}

// Empty reports whether there are no Leftovers.
func (f *Fake) Empty() bool { return len(f.Leftovers()) == 0 }

// Spec returns what a container was created from.
func (f *Fake) Spec(nameOrID string) (engine.ContainerSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(nameOrID)
	if err != nil {
		return engine.ContainerSpec{}, false
	}
	return c.spec, true
}

// Info returns f.Engine.
func (f *Fake) Info(ctx context.Context) (engine.Info, error) {
	var info engine.Info
	err := f.do(ctx, Call{Op: "Info"}, func() error {
		info = f.Engine
		info.Controllers = slices.Clone(f.Engine.Controllers)
		return f.open()
	})
	return info, err
}

// Close makes every later call fail with engine.ErrUnreachable.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// open reports whether the connection is still there.
func (f *Fake) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("%w: %w", engine.ErrUnreachable, errClosed)
	}
	return nil
}

// locked runs effect with the state locked, if the connection is open.
func (f *Fake) locked(effect func() error) func() error {
	return func() error {
		if err := f.open(); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return effect()
	}
}

// name resolves a container's name or id to its name, for Call.Target.
func (f *Fake) name(nameOrID string) string {
	if s, ok := f.Spec(nameOrID); ok {
		return s.Name
	}
	return nameOrID
}

// matches reports whether labels has every label of sel; an empty value in
// sel matches any value.
func matches(labels, sel map[string]string) bool {
	for k, want := range sel {
		got, ok := labels[k]
		if !ok || want != "" && got != want {
			return false
		}
	}
	return true
}

// cloneMap is maps.Clone that never returns nil.
func cloneMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
