// SPDX-License-Identifier: Apache-2.0

package enginetest_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
)

func TestFakeConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(*testing.T) engine.Engine { return enginetest.NewProgFake() }, enginetest.Options{Binary: []byte("no program")})
}

const image = "localhost/node:v1"

func newFake(t *testing.T) (*enginetest.Fake, context.Context) {
	t.Helper()
	t.Parallel()
	return enginetest.NewFake(image), t.Context()
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	t.Run("Fail", func(t *testing.T) {
		f, ctx := newFake(t)
		f.Fail("StartContainer", "b", boom)
		for _, name := range []string{"a", "b"} {
			if _, err := f.CreateContainer(ctx, engine.ContainerSpec{Name: name, Image: image}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.StartContainer(ctx, "a"); err != nil {
			t.Error(err)
		}
		if err := f.StartContainer(ctx, "b"); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		f.ClearHooks()
		if err := f.StartContainer(ctx, "b"); err != nil {
			t.Error(err)
		}
	})
	t.Run("FailAt", func(t *testing.T) {
		f, ctx := newFake(t)
		f.FailAt(2, boom)
		for n := 1; n <= 3; n++ {
			if _, err := f.Info(ctx); (n == 2) != errors.Is(err, boom) {
				t.Errorf("call %d: %v", n, err)
			}
		}
	})
	t.Run("lost reply", func(t *testing.T) {
		f, ctx := newFake(t)
		f.After(func(_ context.Context, c enginetest.Call) error { return boom })
		if _, err := f.CreateContainer(ctx, engine.ContainerSpec{Name: "a", Image: image, Volumes: []string{"/var"}}); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		if diff := cmp.Diff([]string{"container a", "volume a:/var"}, f.Leftovers()); diff != "" {
			t.Error(diff)
		}
		if f.Empty() {
			t.Error("empty")
		}
	})
	t.Run("cancel", func(t *testing.T) {
		f, ctx := newFake(t)
		ctx, cancel := context.WithCancel(ctx)
		f.Before(func(context.Context, enginetest.Call) error { cancel(); return nil })
		err := f.CreateNetwork(ctx, engine.NetworkSpec{Name: "n", Subnet: netip.MustParsePrefix("10.1.0.0/24")})
		if !errors.Is(err, context.Canceled) || !f.Empty() {
			t.Errorf("error %v, left %v", err, f.Leftovers())
		}
	})
	t.Run("panic", func(t *testing.T) {
		f, ctx := newFake(t)
		f.Before(func(context.Context, enginetest.Call) error { panic("injected") })
		func() {
			defer func() {
				if recover() != "injected" {
					t.Error("no panic")
				}
			}()
			_, _ = f.Info(ctx)
		}()
		f.ClearHooks()
		if _, err := f.Info(ctx); err != nil { // no lock was left held
			t.Error(err)
		}
	})
	t.Run("block", func(t *testing.T) {
		f, ctx := newFake(t)
		ctx, cancel := context.WithCancel(ctx)
		entered := make(chan struct{})
		f.Before(func(ctx context.Context, _ enginetest.Call) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		})
		done := make(chan error)
		go func() { _, err := f.Info(ctx); done <- err }()
		<-entered
		if calls := f.Calls(); len(calls) != 1 || calls[0].Op != "Info" { // the Fake is not locked meanwhile
			t.Errorf("calls %v", calls)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCalls(t *testing.T) {
	f, ctx := newFake(t)
	id, err := f.CreateContainer(ctx, engine.ContainerSpec{Name: "a", Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.StartContainer(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Exec(ctx, id, engine.Process{Argv: []string{"ls", "-l"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveImage(ctx, image); err == nil {
		t.Error("an image in use was removed")
	}
	want := []enginetest.Call{
		{N: 1, Op: "CreateContainer", Target: "a"},
		{N: 2, Op: "StartContainer", Target: "a"},
		{N: 3, Op: "Exec", Target: "a", Detail: "ls -l"},
		{N: 4, Op: "RemoveImage", Target: image},
	}
	if diff := cmp.Diff(want, f.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestSameCallsSameIDs(t *testing.T) {
	t.Parallel()
	list := func() []engine.Container {
		f := enginetest.NewFake(image)
		for _, name := range []string{"a", "", "b"} {
			if _, err := f.CreateContainer(t.Context(), engine.ContainerSpec{Name: name, Image: image}); err != nil {
				t.Fatal(err)
			}
		}
		all, err := f.ListContainers(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	first := list()
	if diff := cmp.Diff(first, list(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if len(first) != 3 || first[0].ID == first[1].ID {
		t.Errorf("containers %+v", first)
	}
}

func TestConcurrentUse(t *testing.T) {
	f, ctx := newFake(t)
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		wg.Go(func() {
			spec := engine.ContainerSpec{Name: name, Image: image, Ports: []engine.PortMapping{{ContainerPort: 1, Protocol: "tcp"}}}
			if _, err := f.CreateContainer(ctx, spec); err != nil {
				t.Error(err)
			}
			if err := f.StartContainer(ctx, name); err != nil {
				t.Error(err)
			}
			if _, err := f.ListContainers(ctx, nil); err != nil {
				t.Error(err)
			}
			if err := f.StopContainer(ctx, name, 0); err != nil {
				t.Error(err)
			}
			if err := f.RemoveContainer(ctx, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !f.Empty() {
		t.Errorf("left: %v", f.Leftovers())
	}
	if n := len(f.Calls()); n != 30 {
		t.Errorf("%d calls", n)
	}
}

func TestForeignPort(t *testing.T) {
	f, ctx := newFake(t)
	f.TakePort(netip.MustParseAddrPort("0.0.0.0:6443"), "tcp")
	spec := engine.ContainerSpec{Name: "a", Image: image, Ports: []engine.PortMapping{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 6443, ContainerPort: 6443, Protocol: "tcp"}}}
	if _, err := f.CreateContainer(ctx, spec); err != nil {
		t.Fatal(err)
	}
	if err := f.StartContainer(ctx, "a"); !errors.Is(err, engine.ErrPortInUse) {
		t.Errorf("got %v", err)
	}
}

func TestCopyInUnderAnotherMount(t *testing.T) {
	f, ctx := newFake(t)
	if _, err := f.CreateContainer(ctx, engine.ContainerSpec{Name: "a", Image: image, Volumes: []string{"/var"}}); err != nil {
		t.Fatal(err)
	}
	archive := enginetest.Tar(t, map[string]string{"etc/x": "X", "var/lib/y": "Y"})
	if err := f.CopyIn(ctx, "a", "/", archive); err == nil || !strings.Contains(err.Error(), "/var/lib/y") {
		t.Errorf("got %v", err)
	}
	y := map[string]string{"y": "Y"}
	if err := f.CopyIn(ctx, "a", "/var/lib", enginetest.Tar(t, y)); err == nil {
		t.Error("copied into a volume of a container that never ran")
	}
	if err := f.StartContainer(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := f.CopyIn(ctx, "a", "/var/lib", enginetest.Tar(t, y)); err != nil {
		t.Error(err)
	}
	files, err := f.Files("a")
	if diff := cmp.Diff(map[string]string{"/var/lib/y": "Y"}, files); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestPull(t *testing.T) {
	f, ctx := newFake(t)
	f.AddRemoteImage("example.test/node:v2", engine.Image{Labels: map[string]string{"a": "b"}})
	if err := f.PullImage(ctx, "example.test/node:v2"); err != nil {
		t.Fatal(err)
	}
	img, err := f.InspectImage(ctx, "example.test/node:v2")
	if err != nil || img.Labels["a"] != "b" {
		t.Errorf("image %+v, error %v", img, err)
	}
}

func TestInitFunc(t *testing.T) {
	f, ctx := newFake(t)
	exited := make(chan struct{})
	f.InitFunc = func(ctx context.Context, s engine.ContainerSpec, out io.Writer) int {
		defer close(exited)
		_, _ = io.WriteString(out, "hello from "+s.Name)
		<-ctx.Done()
		return 7
	}
	if _, err := f.CreateContainer(ctx, engine.ContainerSpec{Name: "a", Image: image}); err != nil {
		t.Fatal(err)
	}
	if err := f.StartContainer(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := f.StopContainer(ctx, "a", time.Second); err != nil {
		t.Fatal(err)
	}
	<-exited
	var log strings.Builder
	if err := f.ContainerLogs(ctx, "a", &log); err != nil || log.String() != "hello from a" {
		t.Errorf("log %q, error %v", log.String(), err)
	}
	all, err := f.ListContainers(ctx, nil)
	if err != nil || !slices.ContainsFunc(all, func(c engine.Container) bool { return c.State == engine.StateExited && c.ExitCode == 7 }) {
		t.Errorf("containers %+v, error %v", all, err)
	}
}

func TestClosed(t *testing.T) {
	f, ctx := newFake(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Info(ctx); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}
