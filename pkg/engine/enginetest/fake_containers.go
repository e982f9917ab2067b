// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// epoch is when a Fake's clock starts; each creation is one second later.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// firstFreePort is where a Fake starts to look for a host port to publish on.
const firstFreePort = 40000

type fakeContainer struct {
	id       string
	spec     engine.ContainerSpec
	imageID  string
	ports    []engine.PortMapping  // spec.Ports with host ports filled in
	ip       netip.Addr            // while running
	attached map[string]netip.Addr // further networks, and the address in each
	state    engine.State
	exitCode int
	created  time.Time
	stop     context.CancelFunc // of the first process, while running
	stopped  chan struct{}      // closed once it has exited
	log      syncBuffer
	files    tree
}

type hostPort struct {
	ip       netip.Addr
	port     uint16
	protocol string
}

// clashes reports whether both cannot be bound at once; the unspecified
// address covers every other.
func (p hostPort) clashes(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.wild() || q.wild())
}

func (p hostPort) wild() bool { return !p.ip.IsValid() || p.ip.IsUnspecified() }

// CreateContainer implements engine.Containers.
func (f *Fake) CreateContainer(ctx context.Context, s engine.ContainerSpec) (id string, err error) {
	err = f.do(ctx, Call{Op: "CreateContainer", Target: s.Name}, f.locked(func() error {
		id, err = f.create(s)
		return err
	}))
	if err != nil {
		return "", err
	}
	return id, nil
}

func (f *Fake) create(s engine.ContainerSpec) (string, error) {
	if s.Name == "" {
		s.Name = "fake-" + strconv.Itoa(f.seq+1)
	}
	if _, err := f.find(s.Name); err == nil {
		return "", fmt.Errorf("container %s: %w", s.Name, engine.ErrConflict)
	}
	img, ok := f.images[s.Image]
	if !ok {
		return "", fmt.Errorf("image %s: %w", s.Image, engine.ErrNotFound)
	}
	if _, ok := f.networks[s.Network]; s.Network != "" && !ok {
		return "", fmt.Errorf("network %s: %w", s.Network, engine.ErrNotFound)
	}
	f.seq++
	f.born[s.Name]++
	c := &fakeContainer{
		id:   fakeID("container", s.Name, strconv.Itoa(f.born[s.Name])),
		spec: s, imageID: img.ID,
		ports:   slices.Clone(s.Ports),
		state:   engine.StateCreated,
		created: epoch.Add(time.Duration(f.seq) * time.Second),
		files:   maps.Clone(img.files),
	}
	for i := range c.ports {
		if c.ports[i].HostPort == 0 {
			c.ports[i].HostPort = f.freePort(c.ports[i])
		}
	}
	if s.EmptyVolumes {
		for _, path := range s.Volumes {
			c.files.clear(path)
		}
	}
	f.containers[c.id] = c
	return c.id, nil
}

// freePort finds a host port that no container publishes, running or not.
func (f *Fake) freePort(p engine.PortMapping) uint16 {
	for port := uint16(firstFreePort); ; port++ {
		want := hostPort{p.HostIP, port, p.Protocol}
		taken := f.foreign[want]
		for _, c := range f.containers {
			taken = taken || slices.ContainsFunc(c.ports, func(q engine.PortMapping) bool { return want.clashes(published(q)) })
		}
		if !taken {
			return port
		}
	}
}

func published(p engine.PortMapping) hostPort { return hostPort{p.HostIP, p.HostPort, p.Protocol} }

// StartContainer implements engine.Containers.
func (f *Fake) StartContainer(ctx context.Context, id string) error {
	return f.do(ctx, Call{Op: "StartContainer", Target: f.name(id)}, f.locked(func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		if c.state == engine.StateRunning {
			return nil
		}
		return f.start(ctx, c)
	}))
}

func (f *Fake) start(ctx context.Context, c *fakeContainer) error {
	for _, p := range c.ports {
		if f.portTaken(published(p)) {
			return fmt.Errorf("container %s: %s:%d/%s: %w", c.spec.Name, p.HostIP, p.HostPort, p.Protocol, engine.ErrPortInUse)
		}
	}
	ip, err := f.assign(c)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the container outlives the call that starts it
	c.ip, c.stop, c.stopped = ip, cancel, make(chan struct{})
	c.state, c.exitCode = engine.StateRunning, 0
	go func() {
		code := f.initProcess(ctx, c)
		f.mu.Lock()
		defer f.mu.Unlock()
		c.state, c.exitCode, c.ip = engine.StateExited, code, netip.Addr{}
		cancel()
		close(c.stopped)
	}()
	return nil
}

func (f *Fake) initProcess(ctx context.Context, c *fakeContainer) int {
	if f.InitFunc != nil {
		return f.InitFunc(ctx, c.spec, &c.log)
	}
	<-ctx.Done()
	return 0
}

func (f *Fake) portTaken(p hostPort) bool {
	for q := range f.foreign {
		if p.clashes(q) {
			return true
		}
	}
	for _, c := range f.containers {
		if c.state == engine.StateRunning && slices.ContainsFunc(c.ports, func(q engine.PortMapping) bool { return p.clashes(published(q)) }) {
			return true
		}
	}
	return false
}

// StopContainer implements engine.Containers. It waits for InitFunc to
// return; grace is not used.
func (f *Fake) StopContainer(ctx context.Context, id string, _ time.Duration) error {
	return f.do(ctx, Call{Op: "StopContainer", Target: f.name(id)}, func() error {
		var stopped chan struct{}
		err := f.locked(func() error {
			c, err := f.find(id)
			if err == nil && c.state == engine.StateRunning {
				c.stop()
				stopped = c.stopped
			}
			return err
		})()
		if err != nil || stopped == nil {
			return err
		}
		select {
		case <-stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// RemoveContainer implements engine.Containers.
func (f *Fake) RemoveContainer(ctx context.Context, id string) error {
	return f.do(ctx, Call{Op: "RemoveContainer", Target: f.name(id)}, f.locked(func() error {
		c, err := f.find(id)
		if err != nil {
			return nil // an absent container is success
		}
		if c.stop != nil {
			c.stop()
		}
		delete(f.containers, c.id)
		return nil
	}))
}

// ListContainers implements engine.Containers.
func (f *Fake) ListContainers(ctx context.Context, sel map[string]string) ([]engine.Container, error) {
	list := []engine.Container{}
	err := f.do(ctx, Call{Op: "ListContainers"}, f.locked(func() error {
		for _, c := range f.containers {
			if matches(c.spec.Labels, sel) {
				list = append(list, c.report())
			}
		}
		slices.SortFunc(list, func(a, b engine.Container) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return list, nil
}

// InspectContainer implements engine.Containers: it tells what was asked for.
func (f *Fake) InspectContainer(ctx context.Context, id string) (text []byte, err error) {
	err = f.do(ctx, Call{Op: "InspectContainer", Target: f.name(id)}, f.locked(func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		text, err = json.Marshal(map[string]any{"Id": c.id, "State": c.report().State, "Config": c.spec})
		return err
	}))
	if err != nil {
		return nil, err
	}
	return text, nil
}

// ContainerLogs implements engine.Containers.
func (f *Fake) ContainerLogs(ctx context.Context, id string, w io.Writer) error {
	return f.do(ctx, Call{Op: "ContainerLogs", Target: f.name(id)}, func() error {
		var out []byte
		err := f.locked(func() error {
			c, err := f.find(id)
			if err == nil {
				out = c.log.Bytes()
			}
			return err
		})()
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	})
}

// find looks a container up by id or name. The caller holds f.mu.
func (f *Fake) find(nameOrID string) (*fakeContainer, error) {
	if c, ok := f.containers[nameOrID]; ok {
		return c, nil
	}
	for _, c := range f.containers {
		if c.spec.Name == nameOrID {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %s: %w", nameOrID, engine.ErrNotFound)
}

func (c *fakeContainer) report() engine.Container {
	ip := c.ip
	if !ip.IsValid() {
		ip = c.spec.IP
	}
	return engine.Container{
		ID: c.id, Name: c.spec.Name, Image: c.spec.Image, Labels: cloneMap(c.spec.Labels),
		State: c.state, ExitCode: c.exitCode, IP: ip, Ports: slices.Clone(c.ports), Created: c.created,
	}
}

// fakeID is a 64-digit id that depends on its parts alone.
func fakeID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d %s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// syncBuffer is a bytes.Buffer for concurrent use.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
