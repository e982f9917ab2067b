// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

func (s *suite) info() {
	i, err := s.Info(s.Context())
	s.must(err)
	if i.Name == "" || i.Version == "" || i.OCIRuntime == "" || i.StorageDriver == "" || !strings.HasPrefix(i.GraphRoot, "/") || i.Socket == "" {
		s.Errorf("incomplete: %+v", i)
	}
	if !i.Rootless {
		s.Error("not rootless")
	}
	if i.CgroupVersion != 1 && i.CgroupVersion != 2 {
		s.Errorf("cgroup version %d", i.CgroupVersion)
	}
	if !slices.IsSorted(i.Controllers) {
		s.Errorf("controllers are not sorted: %v", i.Controllers)
	}
}

func (s *suite) containers() {
	s.test("Lifecycle", (*suite).lifecycle)
	s.test("Listing", (*suite).listing)
	s.test("CreateErrors", (*suite).createErrors)
	s.test("Absent", (*suite).absent)

	s.test("ByName", func(s *suite) {
		spec := s.spec()
		id := s.create(spec)
		s.must(s.StartContainer(s.Context(), spec.Name))
		equal(s, "state", s.get(id).State, engine.StateRunning)
		exit, err := s.Exec(s.Context(), spec.Name, engine.Process{Argv: []string{program, "exit", "4"}})
		s.must(err)
		equal(s, "exit code", exit, 4)
		s.must(s.StopContainer(s.Context(), spec.Name, time.Second))
		s.must(s.RemoveContainer(s.Context(), spec.Name))
		list, err := s.ListContainers(s.Context(), s.labels())
		s.must(err)
		equal(s, "containers left", len(list), 0)
	})

	s.test("ExitCode", func(s *suite) {
		equal(s, "exit code", s.await(s.run(s.spec("exit", "3")), engine.StateExited).ExitCode, 3)
	})

	s.test("Logs", func(s *suite) {
		var out bytes.Buffer
		id := s.run(s.spec("echo", "to", "stdout"))
		s.await(id, engine.StateExited)
		s.must(s.ContainerLogs(s.Context(), id, &out))
		equal(s, "log", out.String(), "to stdout\n")

		out.Reset()
		id = s.run(s.spec("complain", "to", "stderr"))
		s.await(id, engine.StateExited)
		s.must(s.ContainerLogs(s.Context(), id, &out))
		equal(s, "log", out.String(), "to stderr\n")

		out.Reset()
		s.must(s.ContainerLogs(s.Context(), s.create(s.spec()), &out))
		equal(s, "log of a container that never ran", out.String(), "")
	})

	s.test("Inspect", func(s *suite) {
		spec := s.spec()
		spec.Env = map[string]string{"SEEN_IN": "description"}
		id := s.create(spec)
		text, err := s.InspectContainer(s.Context(), id)
		s.must(err)
		if !json.Valid(text) || !bytes.Contains(text, []byte(id)) || !bytes.Contains(text, []byte("SEEN_IN")) {
			s.Errorf("description: %s", text)
		}
		s.must(s.RemoveContainer(s.Context(), id))
		_, err = s.InspectContainer(s.Context(), id)
		s.is(err, engine.ErrNotFound)
	})
	s.test("Kill", func(s *suite) {
		if !s.Live {
			s.Skip("nothing to kill")
		}
		spec := s.spec()
		spec.StopSignal = "SIGUSR1" // testprog takes no notice
		id := s.run(spec)
		s.awaitLog(id, "waiting\n")
		s.must(s.StopContainer(s.Context(), id, time.Millisecond))
		c := s.get(id)
		equal(s, "state", c.State, engine.StateExited)
		equal(s, "exit code", c.ExitCode, 137)
	})

	s.test("Node", (*suite).nodeLike)
}

// awaitLog waits until a container's log is text.
func (s *suite) awaitLog(id, text string) {
	s.Helper()
	var out bytes.Buffer
	s.eventually(func() bool {
		out.Reset()
		s.must(s.ContainerLogs(s.Context(), id, &out))
		return out.String() == text
	}, func() string { return "log is " + out.String() })
}

func (s *suite) lifecycle() {
	ctx := s.Context()
	spec := s.spec()
	spec.Labels["a"] = "b=c"
	id := s.create(spec)

	c := s.get(id)
	equal(s, "name", c.Name, spec.Name)
	equal(s, "image", c.Image, spec.Image)
	equal(s, "state", c.State, engine.StateCreated)
	if c.Created.IsZero() {
		s.Error("no creation time")
	}
	for k, v := range spec.Labels {
		equal(s, "label "+k, c.Labels[k], v)
	}

	s.must(s.StopContainer(ctx, id, time.Second)) // stopping what does not run
	s.must(s.StartContainer(ctx, id))
	equal(s, "state once started", s.get(id).State, engine.StateRunning)
	s.must(s.StartContainer(ctx, id)) // starting what runs
	s.awaitLog(id, "waiting\n")
	s.must(s.StopContainer(ctx, id, 10*time.Second))
	c = s.get(id)
	equal(s, "state once stopped", c.State, engine.StateExited)
	equal(s, "exit code", c.ExitCode, 0)
	s.must(s.StopContainer(ctx, id, time.Second))

	s.must(s.StartContainer(ctx, id))
	equal(s, "state once started again", s.get(id).State, engine.StateRunning)
	s.must(s.RemoveContainer(ctx, id)) // removing what runs
	list, err := s.ListContainers(ctx, s.labels())
	s.must(err)
	equal(s, "containers left", len(list), 0)
	s.must(s.RemoveContainer(ctx, id)) // removing what is not there

	// The name is free again.
	s.create(spec)
}

func (s *suite) listing() {
	names := map[string]string{} // what a test calls it -> name
	for i, labels := range [][]string{{"color=red", "size=1"}, {"color=blue"}, {"color=red", "size=2"}, {"empty="}} {
		spec := s.spec()
		spec.Labels = s.labels(labels...)
		s.create(spec)
		names[string(rune('a'+i))] = spec.Name
	}
	for _, c := range []struct {
		sel  []string
		want string
	}{
		{nil, "abcd"},
		{[]string{"color="}, "abc"},
		{[]string{"color=red"}, "ac"},
		{[]string{"color=red", "size="}, "ac"},
		{[]string{"color=red", "size=2"}, "c"},
		{[]string{"color=blue", "size="}, ""},
		{[]string{"empty="}, "d"},
		{[]string{"colo=red"}, ""},
	} {
		list, err := s.ListContainers(s.Context(), s.labels(c.sel...))
		s.must(err)
		var got, want []string
		for _, c := range list {
			got = append(got, c.Name)
		}
		for _, short := range c.want {
			want = append(want, names[string(short)])
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			s.Errorf("selector %v: got %v, want %v", c.sel, got, want)
		}
	}
	all, err := s.ListContainers(s.Context(), nil)
	s.must(err)
	if len(all) < 4 {
		s.Errorf("%d containers without a selector", len(all))
	}
}

func (s *suite) createErrors() {
	ctx := s.Context()
	spec := s.spec()
	s.create(spec)
	_, err := s.CreateContainer(ctx, spec)
	s.is(err, engine.ErrConflict)

	noImage := s.spec()
	noImage.Image = "localhost/rk-enginetest-absent:v1"
	_, err = s.CreateContainer(ctx, noImage)
	s.is(err, engine.ErrNotFound)

	noNetwork := s.spec()
	noNetwork.Network = "rk-enginetest-absent"
	_, err = s.CreateContainer(ctx, noNetwork)
	s.is(err, engine.ErrNotFound)

	noNetwork.Volumes = []string{dataDir}
	_, err = s.CreateContainer(ctx, noNetwork)
	s.is(err, engine.ErrNotFound)

	list, err := s.ListContainers(ctx, s.labels())
	s.must(err)
	if len(list) != 1 || list[0].Name != spec.Name {
		s.Errorf("failed creations left something: %+v", list)
	}
}

func (s *suite) absent() {
	ctx, id := s.Context(), "rk-enginetest-absent"
	s.is(s.StartContainer(ctx, id), engine.ErrNotFound)
	s.is(s.StopContainer(ctx, id, time.Second), engine.ErrNotFound)
	s.is(s.ContainerLogs(ctx, id, new(bytes.Buffer)), engine.ErrNotFound)
	_, err := s.Exec(ctx, id, engine.Process{Argv: []string{program, "wait"}})
	s.is(err, engine.ErrNotFound)
	s.is(s.CopyIn(ctx, id, "/", bytes.NewReader(archiveOf(s.T, map[string]string{"x": ""}))), engine.ErrNotFound)
	_, err = s.CopyOut(ctx, id, "/")
	s.is(err, engine.ErrNotFound)
	s.must(s.RemoveContainer(ctx, id))
}

// nodeLike starts a container with everything that a Kubernetes node has.
func (s *suite) nodeLike() {
	n := s.network()
	ip := n.Subnet.Addr().Next().Next().Next()
	spec := s.spec()
	spec.Hostname = "some-node"
	spec.Env = map[string]string{"RK_TEST": "x=y z"}
	spec.Privileged, spec.Systemd, spec.CgroupNS = true, true, "private"
	spec.Tmpfs = map[string]string{"/run": "", "/tmp": "mode=1777"}
	spec.Volumes = []string{dataDir}
	spec.Devices = []string{"/dev/fuse"}
	spec.Network, spec.IP, spec.Aliases = n.Name, ip, []string{"an-alias"}
	spec.StopSignal = "SIGRTMIN+3"
	spec.RestartPolicy = "unless-stopped"
	id := s.run(spec)
	c := s.get(id)
	equal(s, "state", c.State, engine.StateRunning)
	equal(s, "address", c.IP, ip)

	equal(s, "whoami", s.output(id, engine.Process{Argv: []string{program, "whoami"}}), "0@some-node:"+dataDir+"\n")
	env := strings.Split(s.output(id, engine.Process{Argv: []string{program, "env"}}), "\n")
	if !slices.Contains(env, "RK_TEST=x=y z") {
		s.Errorf("environment: %q", env)
	}
	equal(s, "seed in the volume", s.output(id, engine.Process{Argv: []string{program, "cat", seedFile}}), seedText)
	if !s.Live {
		return
	}
	if got := s.output(id, engine.Process{Argv: []string{program, "stat", "/dev/fuse"}}); !strings.HasPrefix(got, "D") {
		s.Errorf("/dev/fuse is %s", got)
	}
	mounts := s.output(id, engine.Process{Argv: []string{program, "cat", "/proc/self/mountinfo"}})
	types := map[string]string{}
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		sep := slices.Index(fields, "-")
		types[fields[4]] = fields[sep+1]
	}
	for _, dir := range slices.Sorted(maps.Keys(spec.Tmpfs)) {
		equal(s, "file system of "+dir, types[dir], "tmpfs")
	}
	if _, ok := types[dataDir]; !ok {
		s.Errorf("no volume at %s in %s", dataDir, mounts)
	}
}
