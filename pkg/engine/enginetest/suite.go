// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

const (
	// testLabel marks every object of the suite; its value is the test's name.
	testLabel = "io.rk.enginetest"
	// patience bounds every wait for something that must happen.
	patience = time.Minute
)

// Options rule the suite.
type Options struct {
	// Binary is testprog, built statically for the engine's host. The Fake
	// runs nothing and takes any bytes.
	Binary []byte
	// Live says that containers run and their network and ports carry data.
	Live bool
	// FollowedPorts says that the engine's host forwards what listens in the
	// engine's network namespace when it comes to notice (pasta, RootlessKit's
	// "implicit" port driver): not at once, no ports of the ephemeral range, which
	// engines pick from, and the engine does not know of those that are taken.
	FollowedPorts bool
	// Volumes counts the engine's volumes, for the check that none is leaked.
	Volumes func(t *testing.T) int
}

// Run tests that an engine keeps the port's contract. newEngine connects to
// the engine; each part of the suite has its own connection. Everything made
// is removed, also when a test fails.
func Run(t *testing.T, newEngine func(t *testing.T) engine.Engine, o Options) {
	archive, err := DockerArchive(o.Binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name string
		run  func(s *suite)
	}{
		{"Info", (*suite).info},
		{"Images", (*suite).images},
		{"Containers", (*suite).containers},
		{"Exec", (*suite).exec},
		{"Copy", (*suite).copy},
		{"Networks", (*suite).networks},
		{"Attach", (*suite).attach},
		{"Ports", (*suite).ports},
		{"Host", (*suite).host},
		{"Cancelled", (*suite).cancelled},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := &suite{T: t, Engine: newEngine(t), Options: o, archive: archive}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			if _, err := s.InspectImage(t.Context(), ImageRef); errors.Is(err, engine.ErrNotFound) {
				s.load(archive)
			}
			part.run(s)
		})
	}
}

// suite is one test's view of the engine.
type suite struct {
	*testing.T
	engine.Engine
	Options
	archive []byte
}

// test runs a subtest and checks that it leaves no object behind.
func (s *suite) test(name string, f func(s *suite)) {
	s.Run(name, func(t *testing.T) {
		sub := *s
		sub.T = t
		volumes := -1
		if s.Volumes != nil {
			volumes = s.Volumes(t)
		}
		t.Cleanup(func() {
			sub.cleanUp()
			if volumes >= 0 && !t.Failed() {
				if n := s.Volumes(t); n != volumes {
					t.Errorf("the test began with %d volumes and ended with %d", volumes, n)
				}
			}
		})
		f(&sub)
	})
}

// cleanUp removes the test's objects. The test's context has ended by then.
func (s *suite) cleanUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
	defer cancel()
	sel := map[string]string{testLabel: s.label()}
	containers, err := s.ListContainers(ctx, sel)
	s.check(err)
	for _, c := range containers {
		s.check(s.RemoveContainer(ctx, c.ID))
	}
	networks, err := s.ListNetworks(ctx, sel)
	s.check(err)
	for _, n := range networks {
		s.check(s.RemoveNetwork(ctx, n.Name))
	}
}

// label is the test's name in the form that a label can have.
func (s *suite) label() string { return strings.ReplaceAll(s.Name(), "/", ".") }

// labels returns the test's label and further ones, given as "key=value".
func (s *suite) labels(more ...string) map[string]string {
	m := map[string]string{testLabel: s.label()}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

var serial atomic.Uint32

// unique makes a name for an object that no other test uses.
func (s *suite) unique(kind string) string {
	return fmt.Sprintf("rk-enginetest-%s-%d", kind, serial.Add(1))
}

// spec is a container that waits.
func (s *suite) spec(args ...string) engine.ContainerSpec {
	unlimited := int64(0)
	return engine.ContainerSpec{Name: s.unique("c"), Image: ImageRef, Labels: s.labels(), Command: args, PidsLimit: &unlimited}
}

// network creates a network of its own and returns it.
func (s *suite) network() engine.NetworkSpec {
	s.Helper()
	n := engine.NetworkSpec{
		Name: s.unique("n"), Labels: s.labels(),
		Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 211, byte(serial.Add(1)), 0}), 24),
	}
	s.must(s.CreateNetwork(s.Context(), n))
	return n
}

// create makes a container.
func (s *suite) create(spec engine.ContainerSpec) string {
	s.Helper()
	id, err := s.CreateContainer(s.Context(), spec)
	s.must(err)
	if id == "" {
		s.Fatal("a container was created without an id")
	}
	return id
}

// run makes a container and starts it.
func (s *suite) run(spec engine.ContainerSpec) string {
	s.Helper()
	id := s.create(spec)
	s.must(s.StartContainer(s.Context(), id))
	return id
}

// get finds a container by its id.
func (s *suite) get(id string) engine.Container {
	s.Helper()
	list, err := s.ListContainers(s.Context(), s.labels())
	s.must(err)
	for _, c := range list {
		if c.ID == id {
			return c
		}
	}
	s.Fatalf("container %s is not listed", id)
	return engine.Container{}
}

// await polls until a container is in state, as the port has no wait.
func (s *suite) await(id string, state engine.State) engine.Container {
	s.Helper()
	var c engine.Container
	s.eventually(func() bool {
		c = s.get(id)
		return c.State == state
	}, func() string { return fmt.Sprintf("container %s is %s, want %s", c.Name, c.State, state) })
	return c
}

func (s *suite) eventually(done func() bool, complaint func() string) {
	s.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			s.Fatal(complaint())
		}
	}
}

func (s *suite) load(archive []byte) []string {
	s.Helper()
	refs, err := s.LoadImage(s.Context(), newReader(archive))
	s.must(err)
	return refs
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) check(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}

// is checks that err wraps want.
func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error %v, want one that wraps %q", err, want)
	}
}

// fails checks that err is an error, but none of those with a meaning.
func (s *suite) fails(err error) {
	s.Helper()
	if err == nil {
		s.Error("no error")
	}
	for _, sentinel := range []error{engine.ErrNotFound, engine.ErrConflict, engine.ErrUnreachable, engine.ErrPortInUse} {
		if errors.Is(err, sentinel) {
			s.Errorf("error %v wraps %q", err, sentinel)
		}
	}
}

func equal[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}
