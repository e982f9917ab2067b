// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// content is a file of some size that is different everywhere.
func content(name string) []byte {
	var b bytes.Buffer
	for i := range 40_000 {
		fmt.Fprintf(&b, "%s %d\n", name, i)
	}
	return b.Bytes()
}

// site is a server of one file.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	etag     string
	noRange  bool
	cutAt    int   // the connection breaks after so many bytes, once
	answers  []int // status codes of the first answers
	requests []string
}

func newSite(t *testing.T, data []byte) *site {
	t.Helper()
	s := &site{data: data, etag: `"1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, strings.TrimSpace(r.Header.Get("Range")+" "+r.Header.Get("If-Range")))
	if len(s.answers) > 0 {
		code := s.answers[0]
		s.answers = s.answers[1:]
		w.WriteHeader(code)
		return
	}
	w.Header().Set("ETag", s.etag)
	if s.cutAt > 0 {
		cut := s.cutAt
		s.cutAt = 0
		w.Header().Set("Content-Length", strconv.Itoa(len(s.data)))
		_, _ = w.Write(s.data[:cut])
		w.(http.Flusher).Flush() //nolint:forcetypeassert // it is one
		panic(http.ErrAbortHandler)
	}
	if s.noRange {
		_, _ = w.Write(s.data)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.data))
}

func (s *site) set(f func(*site)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func client() *Client {
	return &Client{
		Proxy:   http.ProxyFromEnvironment,
		backoff: func(int) time.Duration { return time.Millisecond },
	}
}

// left are the names in the folder of a file.
func left(t *testing.T, f File) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func fileOf(t *testing.T, s *site) File {
	t.Helper()
	return File{URL: s.URL + "/file", SHA256: sumOf(s.data), Path: filepath.Join(t.TempDir(), "downloads", "file")}
}

func wantFile(t *testing.T, f File, want []byte) {
	t.Helper()
	got, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d other ones", len(got), len(want))
	}
	if names := left(t, f); !slices.Equal(names, []string{"file"}) {
		t.Errorf("there is %v", names)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	f := fileOf(t, s)
	var done, total int64
	f.Progress = func(d, n int64) { done, total = d, n }
	c := client()
	for range 2 { // the second time it is there
		if err := c.Download(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, f, s.data)
	if n := int64(len(s.data)); done != n || total != n {
		t.Errorf("progress %d of %d, want %d", done, total, n)
	}
	if diff := cmp.Diff([]string{""}, s.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestDownloadResumes(t *testing.T) {
	t.Parallel()
	data, other := content("a"), content("b")
	const cut = 100_000
	for name, c := range map[string]struct {
		change   func(*site)
		want     []byte
		requests []string
	}{
		"goes on":                    {func(*site) {}, data, []string{"", `bytes=100000- "1"`}},
		"no ranges":                  {func(s *site) { s.noRange = true }, data, []string{"", `bytes=100000- "1"`}},
		"another file":               {func(s *site) { s.data, s.etag = other, `"2"` }, other, []string{"", `bytes=100000- "1"`}},
		"no tag, and another file":   {func(s *site) { s.data, s.etag = other, "" }, other, []string{"", "bytes=100000-", ""}},
		"weak tag":                   {func(s *site) { s.etag = `W/"1"` }, data, []string{"", "bytes=100000-"}},
		"a shorter file, and no tag": {func(s *site) { s.data, s.etag = other[:50], "" }, other[:50], []string{"", "bytes=100000-", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, data)
			f := fileOf(t, s)
			if strings.Contains(name, "tag") {
				s.etag = ""
			}
			// The process ends in the middle: the file is taken up by another one.
			ctx, cancel := context.WithCancel(t.Context())
			s.cutAt = cut
			first := f
			first.Progress = func(n, _ int64) {
				if n == cut {
					cancel()
				}
			}
			if err := client().Download(ctx, first); !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v", err)
			}
			if names := left(t, f); !slices.Equal(names, []string{"file.part", "file.state"}) {
				t.Fatalf("there is %v", names)
			}
			s.set(c.change)
			f.SHA256 = sumOf(c.want)
			if err := client().Download(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			wantFile(t, f, c.want)
			if diff := cmp.Diff(c.requests, s.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// A broken connection is taken up by the same call.
func TestDownloadSurvivesACut(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	s.cutAt = 200_000
	f := fileOf(t, s)
	if err := client().Download(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	wantFile(t, f, s.data)
	if diff := cmp.Diff([]string{"", `bytes=200000- "1"`}, s.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestDownloadRetries(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	s.answers = []int{503, 429, 502, 500}
	f := fileOf(t, s)
	if err := client().Download(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	wantFile(t, f, s.data)

	s.requests, s.answers = nil, []int{503, 503, 503, 503, 503, 503}
	f.Path += "2"
	if err := client().Download(t.Context(), f); !errors.Is(err, problem.SourceUnreachable) || !strings.Contains(err.Error(), "503") {
		t.Errorf("error %v", err)
	}
	if len(s.requests) != attempts {
		t.Errorf("%d requests, want %d", len(s.requests), attempts)
	}
}

func TestDownloadRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	s.answers = []int{404}
	f := fileOf(t, s)
	err := client().Download(t.Context(), f)
	if !errors.Is(err, problem.SourceUnreachable) || !strings.Contains(err.Error(), f.URL+": the server answered 404 Not Found") {
		t.Errorf("error %v", err)
	}
	if len(s.requests) != 1 {
		t.Errorf("%d requests for what is not there", len(s.requests))
	}
}

func TestDownloadUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := File{URL: "http://" + address + "/file", Path: filepath.Join(t.TempDir(), "file")}
	err = client().Download(t.Context(), f)
	if !errors.Is(err, problem.SourceUnreachable) || !strings.Contains(err.Error(), f.URL+", without a proxy: ") {
		t.Errorf("error %v", err)
	}
}

func TestDownloadWrongChecksum(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	f := fileOf(t, s)
	f.SHA256 = sumOf([]byte("another"))
	err := client().Download(t.Context(), f)
	if !errors.Is(err, problem.ChecksumMismatch) || !strings.Contains(err.Error(), f.SHA256) || !strings.Contains(err.Error(), sumOf(s.data)) {
		t.Errorf("error %v", err)
	}
	if names := left(t, f); !slices.Equal(names, []string{"file.bad"}) {
		t.Errorf("there is %v", names)
	}
	// What was refused is not taken up again, and goes away.
	f.SHA256 = sumOf(s.data)
	if err := client().Download(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	wantFile(t, f, s.data)
}

// A connection that brings nothing is given up, and taken up again.
func TestDownloadStalls(t *testing.T) {
	t.Parallel()
	data := content("a")
	first := true
	var mu sync.Mutex
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		stall := first
		first = false
		mu.Unlock()
		if stall {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:1000])
			w.(http.Flusher).Flush() //nolint:forcetypeassert // it is one
			select {
			case <-r.Context().Done():
			case <-release:
			}
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	f := File{URL: server.URL, SHA256: sumOf(data), Path: filepath.Join(t.TempDir(), "file")}
	c := client()
	c.stall = 50 * time.Millisecond
	if err := c.Download(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	wantFile(t, f, data)
}

// Two that want one file fetch it once.
func TestDownloadTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	f := fileOf(t, s)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { errs[i] = client().Download(t.Context(), f) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Path); err != nil || !bytes.Equal(got, s.data) {
		t.Error("another file", err)
	}
	if len(s.requests) != 1 {
		t.Errorf("%d requests", len(s.requests))
	}
}

// One that waits for another's download can be cancelled.
func TestDownloadWaitsForTheLock(t *testing.T) {
	t.Parallel()
	s := newSite(t, content("a"))
	f := fileOf(t, s)
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	held, err := openPartial(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client().Download(ctx, f) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := held.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client().Download(t.Context(), f); err != nil {
		t.Error(err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	s := newSite(t, []byte("abc  file\n"))
	if got, err := client().Text(t.Context(), s.URL); err != nil || got != "abc  file\n" {
		t.Errorf("%q, %v", got, err)
	}
	s.set(func(s *site) { s.data = make([]byte, 2<<20) })
	if _, err := client().Text(t.Context(), s.URL); !errors.Is(err, problem.SourceUnreachable) {
		t.Errorf("a large file: %v", err)
	}
	s.set(func(s *site) { s.answers = []int{404} })
	if _, err := client().Text(t.Context(), s.URL); !errors.Is(err, problem.SourceUnreachable) {
		t.Errorf("no file: %v", err)
	}
}

// The proxy of the environment is used, and named in errors without its
// password. net/http reads the environment once in a process, so this is a new one.
func TestProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("RK_TEST_FETCH_TO"); path != "" {
		err := (&Client{backoff: func(int) time.Duration { return time.Millisecond }}).
			Download(t.Context(), File{URL: "http://release.example.com/file", Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	data := content("a")
	var asked string
	var status int
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(proxy.Close)
	path := filepath.Join(t.TempDir(), "file")
	run := func() ([]byte, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.v")
		cmd.Env = append(os.Environ(), "RK_TEST_FETCH_TO="+path, "HTTP_PROXY="+strings.Replace(proxy.URL, "http://", "http://user:secret@", 1), "NO_PROXY=")
		return cmd.CombinedOutput()
	}
	if out, err := run(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Error("another file", err)
	}
	if want := "http://release.example.com/file Basic dXNlcjpzZWNyZXQ="; asked != want {
		t.Errorf("the proxy was asked for %q, want %q", asked, want)
	}
	status = 503
	path += "2"
	out, err := run()
	if err == nil || !strings.Contains(string(out), "http://release.example.com/file, through the proxy http://user:xxxxx@127.0.0.1:") || strings.Contains(string(out), "secret") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTemporary(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		&statusError{code: 500}:                   true,
		&statusError{code: 501}:                   false,
		&statusError{code: 403}:                   false,
		&net.DNSError{IsNotFound: true}:           false,
		&net.DNSError{IsTimeout: true}:            true,
		&localError{errors.New("full")}:           false,
		errStalled:                                true,
		&permanentError{errors.New("no address")}: false,
	} {
		if got := temporary(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
