// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// beyondPipe is more than a pipe, a socket buffer and a channel hold together.
const beyondPipe = 3_000_000

// output runs a process that must succeed and returns what it printed.
func (s *suite) output(id string, p engine.Process) string {
	s.Helper()
	var stdout, stderr bytes.Buffer
	p.Stdout, p.Stderr = &stdout, &stderr
	exit, err := s.Exec(s.Context(), id, p)
	s.must(err)
	if exit != 0 || stderr.Len() > 0 {
		s.Fatalf("%v: exit code %d, stderr %q", p.Argv, exit, stderr.String())
	}
	return stdout.String()
}

func (s *suite) exec() {
	s.test("ExitCodes", func(s *suite) {
		id := s.run(s.spec())
		for _, c := range []struct {
			arg  string
			want int
		}{{"0", 0}, {"1", 1}, {"3", 3}, {"255", 255}} {
			exit, err := s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "exit", c.arg}})
			s.must(err)
			equal(s, "exit code", exit, c.want)
		}
	})

	s.test("NoSuchCommand", func(s *suite) {
		id := s.run(s.spec())
		exit, err := s.Exec(s.Context(), id, engine.Process{Argv: []string{"/no/such/program"}})
		if err == nil && exit != 126 && exit != 127 {
			s.Errorf("exit code %d and no error", exit)
		}
		exit, err = s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "exit", "0"}})
		s.must(err)
		equal(s, "exit code after that", exit, 0)
	})

	s.test("NotRunning", func(s *suite) {
		_, err := s.Exec(s.Context(), s.create(s.spec()), engine.Process{Argv: []string{program, "exit", "0"}})
		s.fails(err)
	})

	s.test("Streams", (*suite).streams)
	s.test("Stdin", (*suite).stdin)
	s.test("TTY", (*suite).tty)

	s.test("Context", func(s *suite) {
		id := s.run(s.spec())
		who := engine.Process{Argv: []string{program, "whoami"}, User: "1234", Dir: "/tmp"}
		got := s.output(id, who)
		if !strings.HasPrefix(got, "1234@") || !strings.HasSuffix(got, ":/tmp\n") {
			s.Errorf("whoami: %q", got)
		}
		got = s.output(id, engine.Process{Argv: []string{program, "whoami"}})
		if !strings.HasPrefix(got, "0@") || !strings.HasSuffix(got, ":"+dataDir+"\n") {
			s.Errorf("whoami by default: %q", got)
		}
		env := s.output(id, engine.Process{Argv: []string{program, "env"}, Env: map[string]string{"A": "b=c", "EMPTY": ""}})
		if !slices.Contains(strings.Split(env, "\n"), "A=b=c") || !slices.Contains(strings.Split(env, "\n"), "EMPTY=") {
			s.Errorf("environment: %q", env)
		}
	})

	s.test("Cancel", (*suite).execCancel)

	s.test("Concurrent", func(s *suite) {
		id := s.run(s.spec())
		var wg sync.WaitGroup
		for _, word := range strings.Split("abcdefgh", "") {
			wg.Go(func() {
				var out bytes.Buffer
				exit, err := s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "echo", word}, Stdout: &out})
				s.check(err)
				equal(s, "exit code", exit, 0)
				equal(s, "output", out.String(), word+"\n")
			})
		}
		wg.Wait()
	})
}

// tty runs a process on a terminal whose size changes.
func (s *suite) tty() {
	id := s.run(s.spec())
	exit, err := s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "tty"}, Stdin: strings.NewReader("size?\n")})
	s.must(err)
	equal(s, "exit code without a terminal", exit, 1)
	in, keyboard := io.Pipe()
	resize := make(chan engine.TTYSize)
	var out syncBuffer
	type result struct {
		exit int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		exit, err := s.Exec(s.Context(), id, engine.Process{
			Argv: []string{program, "tty"}, Stdin: in, Stdout: &out,
			TTY: &engine.TTY{Size: engine.TTYSize{Rows: 33, Columns: 101}, Resize: resize},
		})
		done <- result{exit, errors.Join(err, in.Close())}
	}()
	typed := func(line string) {
		_, err := io.WriteString(keyboard, line+"\n")
		s.check(err)
	}
	shows := func(size string) {
		s.Helper()
		s.eventually(func() bool {
			typed("size?")
			return strings.Contains(string(out.Bytes()), "size "+size)
		}, func() string { return "the terminal does not show " + size + ": " + string(out.Bytes()) })
	}
	shows("33x101")
	sent := make(chan struct{})
	go func() { defer close(sent); resize <- engine.TTYSize{Rows: 44, Columns: 120} }()
	shows("44x120")
	<-sent
	typed("end")
	r := <-done
	s.must(r.err)
	equal(s, "exit code", r.exit, 0)
	s.must(keyboard.Close())
}

func (s *suite) streams() {
	id := s.run(s.spec())
	var stdout, stderr bytes.Buffer
	reset := func() { stdout.Reset(); stderr.Reset() }
	exit, err := s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "echo", "out"}, Stdout: &stdout, Stderr: &stderr})
	s.must(err)
	equal(s, "exit code, stdout and stderr of echo", [3]any{exit, stdout.String(), stderr.String()}, [3]any{0, "out\n", ""})

	reset()
	exit, err = s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "complain", "err"}, Stdout: &stdout, Stderr: &stderr})
	s.must(err)
	equal(s, "exit code, stdout and stderr of complain", [3]any{exit, stdout.String(), stderr.String()}, [3]any{0, "", "err\n"})

	for _, c := range []struct {
		name           string
		stdout, stderr *bytes.Buffer
	}{{"both", &stdout, &stderr}, {"stdout only", &stdout, nil}, {"stderr only", nil, &stderr}, {"neither", nil, nil}} {
		reset()
		p := engine.Process{Argv: []string{program, "flood", "3000000"}}
		if c.stdout != nil {
			p.Stdout = c.stdout
		}
		if c.stderr != nil {
			p.Stderr = c.stderr
		}
		exit, err := s.Exec(s.Context(), id, p)
		s.must(err)
		equal(s, c.name+": exit code", exit, 0)
		for want, b := range map[string]*bytes.Buffer{"o": c.stdout, "e": c.stderr} {
			if b != nil && b.String() != strings.Repeat(want, beyondPipe) {
				s.Errorf("%s: got %d bytes, %d of them %q", c.name, b.Len(), strings.Count(b.String(), want), want)
			}
		}
	}

	reset()
	_, err = s.Exec(s.Context(), id, engine.Process{Argv: []string{program, "flood", "3000000"}, Stdout: failingWriter{}})
	s.is(err, errFull)
}

var errFull = errors.New("no space")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func (s *suite) stdin() {
	id := s.run(s.spec())
	cat := []string{program, "cat"}
	equal(s, "cat of no stdin", s.output(id, engine.Process{Argv: cat}), "")
	equal(s, "cat of an empty stdin", s.output(id, engine.Process{Argv: cat, Stdin: strings.NewReader("")}), "")
	equal(s, "cat of a word", s.output(id, engine.Process{Argv: cat, Stdin: strings.NewReader("word")}), "word")
	long := strings.Repeat("0123456789", beyondPipe/10)
	if got := s.output(id, engine.Process{Argv: cat, Stdin: strings.NewReader(long)}); got != long {
		s.Errorf("cat of %d bytes returned %d", len(long), len(got))
	}
	// What the process does not read does not hold it up.
	equal(s, "unread stdin", s.output(id, engine.Process{Argv: []string{program, "echo", "x"}, Stdin: strings.NewReader(long)}), "x\n")
	// Neither does a stdin that never ends.
	never, w := io.Pipe()
	defer w.Close() //nolint:errcheck // a pipe's never fails
	equal(s, "endless stdin", s.output(id, engine.Process{Argv: []string{program, "echo", "y"}, Stdin: never}), "y\n")
}

func (s *suite) execCancel() {
	id := s.run(s.spec())
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	running, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Exec(ctx, id, engine.Process{Argv: []string{program, "wait"}, Stdout: stdout})
		done <- err
	}()
	// Once it has spoken, it runs.
	if _, err := io.ReadFull(running, make([]byte, len("waiting\n"))); err != nil {
		s.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		s.is(err, context.Canceled)
	case <-time.After(patience):
		s.Fatal("Exec did not return when it was cancelled")
	}
	equal(s, "exec after that", s.output(id, engine.Process{Argv: []string{program, "echo", "fine"}}), "fine\n")
	equal(s, "state", s.get(id).State, engine.StateRunning)
}

func (s *suite) copy() {
	s.test("Created", func(s *suite) { // files that a container has when it starts
		id := s.create(s.spec())
		s.copyIn(id, "/", map[string]string{"etc/new/a": "A", "data/sub/seed": "replaced"})
		s.copyIn(id, "/etc", map[string]string{"b": "B"})
		s.must(s.StartContainer(s.Context(), id))
		equal(s, "content", s.cat(id, "/etc/new/a", "/etc/b", seedFile), "ABreplaced")
	})
	s.test("BesideVolume", func(s *suite) { // a volume shows the image's content all the same
		spec := s.spec()
		spec.Volumes = []string{dataDir}
		id := s.create(spec)
		s.copyIn(id, "/", map[string]string{"etc/a": "A"})
		s.copyIn(id, "/etc", map[string]string{"b": "B"})
		s.must(s.StartContainer(s.Context(), id))
		equal(s, "content", s.cat(id, "/etc/a", "/etc/b", seedFile), "AB"+seedText)
	})
	s.test("EmptyVolume", func(s *suite) { // unless it shall not
		spec := s.spec()
		spec.Volumes, spec.EmptyVolumes = []string{dataDir}, true
		id := s.create(spec)
		s.copyIn(id, "/etc", map[string]string{"a": "A"})
		s.must(s.StartContainer(s.Context(), id))
		equal(s, "content", s.cat(id, "/etc/a"), "A")
		_, err := s.CopyOut(s.Context(), id, seedFile)
		s.is(err, engine.ErrNotFound)
		s.copyIn(id, dataDir, map[string]string{"b": "B"})
		equal(s, "content of the volume", s.cat(id, dataDir+"/b"), "B")
	})
	s.test("Running", func(s *suite) {
		spec := s.spec()
		spec.Volumes = []string{dataDir}
		id := s.run(spec)
		s.copyIn(id, "/data/sub", map[string]string{"dir/a": "A"})
		s.copyIn(id, "/etc", map[string]string{"b": strings.Repeat("b", beyondPipe)})
		equal(s, "content", s.cat(id, "/data/sub/dir/a", seedFile), "A"+seedText)
		equal(s, "length", len(s.cat(id, "/etc/b")), beyondPipe)
	})
	s.test("Stopped", func(s *suite) {
		spec := s.spec()
		spec.Volumes = []string{dataDir}
		id := s.run(spec)
		s.must(s.StopContainer(s.Context(), id, 10*time.Second))
		s.copyIn(id, "/data", map[string]string{"a": "A"})
		s.copyIn(id, "/etc", map[string]string{"b": "B"})
		equal(s, "a, while stopped", s.copyOut(id, "/data/a")["a"], "A")
		s.must(s.StartContainer(s.Context(), id))
		equal(s, "content", s.cat(id, "/data/a", "/etc/b", seedFile), "AB"+seedText)
	})
	s.test("Interrupted", (*suite).copyInterrupted)
	s.test("Attributes", (*suite).copyAttributes)
	s.test("Out", (*suite).copyOuts)
	s.test("Errors", func(s *suite) {
		id := s.create(s.spec())
		files := archiveOf(s.T, map[string]string{"x": "X"})
		if err := s.CopyIn(s.Context(), id, "/no/such/dir", bytes.NewReader(files)); err == nil {
			equal(s, "file in a directory that was made", s.copyOut(id, "/no/such/dir/x")["x"], "X")
		} else {
			s.is(err, engine.ErrNotFound)
		}
		s.is(s.CopyIn(s.Context(), id, "/etc", io.MultiReader(bytes.NewReader(files[:512]), iotestReader{errFull})), errFull)
		s.fails(s.CopyIn(s.Context(), id, "/etc", bytes.NewReader(files[:512])))
		_, err := s.CopyOut(s.Context(), id, "/no/such/file")
		s.is(err, engine.ErrNotFound)
	})
}

type iotestReader struct{ err error }

func (r iotestReader) Read([]byte) (int, error) { return 0, r.err }

// copyInterrupted removes a container that was just being filled: its name is free at once.
func (s *suite) copyInterrupted() {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("d%d/f", i)] = strings.Repeat("x", 10000)
	}
	archive := archiveOf(s.T, files)
	for range 5 {
		ctx, cancel := context.WithCancel(s.Context())
		id := s.create(s.spec())
		half := io.MultiReader(bytes.NewReader(archive[:len(archive)/2]), readerFunc(func([]byte) (int, error) {
			cancel() // then the engine holds what it was sent so far
			<-ctx.Done()
			return 0, ctx.Err()
		}))
		s.is(s.CopyIn(ctx, id, "/etc", half), context.Canceled)
		name := s.get(id).Name
		s.must(s.RemoveContainer(s.Context(), id))
		again := s.spec()
		again.Name = name
		s.must(s.RemoveContainer(s.Context(), s.create(again)))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (s *suite) copyAttributes() {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	s.must(w.WriteHeader(&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 12, Gid: 34}))
	s.must(w.WriteHeader(&tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 12, Gid: 34, Size: 1}))
	_, err := w.Write([]byte("f"))
	s.must(err)
	s.must(w.WriteHeader(&tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "f"}))
	s.must(w.Close())
	id := s.create(s.spec())
	s.must(s.CopyIn(s.Context(), id, "/etc", &buf))
	s.must(s.StartContainer(s.Context(), id))
	equal(s, "mode and owner", s.output(id, engine.Process{Argv: []string{program, "stat", "/etc/d", "/etc/d/f"}}), "drwxr-x--- 12:34\n-rw-r----- 12:34\n")
	if s.Live { // the Fake follows no symlinks
		equal(s, "through the symlink", s.cat(id, "/etc/d/l"), "f")
	}
}

func (s *suite) copyOuts() {
	id := s.create(s.spec())
	s.copyIn(id, "/etc", map[string]string{"d/a": "A", "d/e/b": "B"})
	check := func(name string, want map[string]string) {
		s.Helper()
		if got := s.copyOut(id, name); !maps.Equal(got, want) {
			s.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for range 2 { // created, then running
		check("/etc/d/a", map[string]string{"a": "A"})
		check("/etc/d", map[string]string{"d/": "", "d/a": "A", "d/e/": "", "d/e/b": "B"})
		check(seedFile, map[string]string{path.Base(seedFile): seedText})
		s.must(s.StartContainer(s.Context(), id))
	}
}

func (s *suite) copyIn(id, dir string, files map[string]string) {
	s.Helper()
	s.must(s.CopyIn(s.Context(), id, dir, bytes.NewReader(archiveOf(s.T, files))))
}

// copyOut returns what CopyOut's stream holds; directories have names that
// end in a slash.
func (s *suite) copyOut(id, name string) map[string]string {
	s.Helper()
	stream, err := s.CopyOut(s.Context(), id, name)
	s.must(err)
	defer stream.Close()
	files := map[string]string{}
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		s.must(err)
		content, err := io.ReadAll(r)
		s.must(err)
		key := path.Clean(h.Name)
		if h.Typeflag == tar.TypeDir {
			key += "/"
		}
		files[key] = string(content)
	}
}

func (s *suite) cat(id string, names ...string) string {
	s.Helper()
	return s.output(id, engine.Process{Argv: append([]string{program, "cat"}, names...)})
}

// archiveOf makes the content of Tar.
func archiveOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Tar is a tar stream of files of root's, mode 0644, by name.
func Tar(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	return bytes.NewReader(archiveOf(t, files))
}

// newReader hides that a stream can seek, as a pipe cannot.
func newReader(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }
