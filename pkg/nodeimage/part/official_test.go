// SPDX-License-Identifier: Apache-2.0

package part

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// tarball is a .tar.gz with the given files.
func tarball(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mirror is a server of the projects' files, and what it was asked for.
type mirror struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte // by host and path
	asked []string
}

// newMirror has an artifact for every part that has some, with fitting programs.
func newMirror(t *testing.T, releases *Releases, arch string) *mirror {
	t.Helper()
	m := &mirror{files: map[string][]byte{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		data, ok := m.files[strings.TrimPrefix(r.URL.Path, "/")]
		m.asked = append(m.asked, r.URL.Path)
		m.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(m.Close)
	for _, p := range allParts(t) {
		_, artifacts := releases.Artifacts(p, arch)
		for _, a := range artifacts {
			m.add(t, a, p.Version, arch)
		}
	}
	return m
}

func (m *mirror) add(t *testing.T, a Artifact, version, arch string) {
	t.Helper()
	files := map[string][]byte{"./README": []byte(a.URL)}
	var data []byte
	for name, member := range a.Members {
		header := elf.PT_LOAD
		if name == "kubelet" {
			header = elf.PT_INTERP
		}
		data = append(program(machines[arch], header), name+version...)
		files[member] = data
	}
	if isTarball(a.URL) {
		data = tarball(t, files)
	}
	m.files[strings.TrimPrefix(a.URL, "https://")] = data
}

// pinned has the checksums of a mirror's files.
func (m *mirror) pin(r *Releases) *Releases {
	out := &Releases{Parts: r.Parts, Pins: map[string]string{}}
	for name, data := range m.files {
		out.Pins["https://"+name] = sha(data)
	}
	return out
}

func releases(t *testing.T) *Releases {
	t.Helper()
	r, err := LoadReleases()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// elsewhere notes which parts it was asked for.
type elsewhereSource struct {
	mu    sync.Mutex
	parts []string
	err   error
}

func (e *elsewhereSource) Fetch(_ context.Context, p Part) (Built, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.parts = append(e.parts, p.Name)
	return Built{Part: p, From: FromModule}, e.err
}

// Every part of every release comes, for both architectures: from artifacts
// where there are some.
func TestOfficialFetchesAll(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, releases(t), arch)
			other := &elsewhereSource{}
			var mu sync.Mutex
			var events []string
			o := &Official{
				Cache: t.TempDir(), Arch: arch, Releases: m.pin(releases(t)), Mirror: m.URL, Else: other,
				Report: func(e Event) {
					mu.Lock()
					defer mu.Unlock()
					events = append(events, fmt.Sprintf("%s %s %s", e.Part, e.Kind, e.Detail))
				},
			}
			built, err := FetchAll(t.Context(), o, allParts(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range built {
				for _, f := range b.Files {
					data, err := os.ReadFile(f.Path)
					if err != nil || !bytes.Contains(data, []byte(f.Name)) || sha(data) != f.SHA256 {
						t.Errorf("%s of %s is %q, %v", f.Name, b.Part.Name, data, err)
					}
				}
				if (len(b.Files) == len(b.Part.Binaries)) != (b.From == FromRelease) {
					t.Errorf("%s is from %q and has %d programs", b.Part.Name, b.From, len(b.Files))
				}
			}
			for _, name := range []string{"await", "local-path-provisioner", "pause"} {
				if !slices.Contains(other.parts, name) {
					t.Errorf("%s was not compiled", name)
				}
			}
			for _, name := range other.parts {
				if _, ok := releases(t).find(partNamed(t, name)); ok {
					t.Errorf("%s was compiled, and has an artifact", name)
				}
			}
			for _, want := range []string{
				"pause elsewhere there is no official artifact; compiling it from its Go module",
				"runc downloading runc." + arch + ": 0 of 0 MB",
				"etcd done v3.6.8",
			} {
				if !slices.Contains(events, want) {
					t.Errorf("no event %q", want)
				}
			}
			asked := len(m.asked)
			again, err := FetchAll(t.Context(), o, allParts(t))
			if err != nil || len(m.asked) != asked {
				t.Errorf("again: %d requests, %v", len(m.asked)-asked, err)
			}
			for _, b := range again {
				if b.From == FromRelease && !b.Cached {
					t.Errorf("%s is not cached", b.Part.Name)
				}
			}
			if left, err := os.ReadDir(filepath.Join(o.Cache, "downloads")); err != nil || len(left) > 0 {
				t.Errorf("downloads are left: %v, %v", left, err)
			}
		})
	}
}

// rk's own pins are for the artifacts of its own versions; what is not pinned
// is known here, so that nobody believes it is.
func TestOwnPins(t *testing.T) {
	t.Parallel()
	r := releases(t)
	used := map[string]bool{}
	var unpinned []string
	for _, arch := range []string{"amd64", "arm64"} {
		v := load(t)
		for _, release := range v.Kubernetes.Releases {
			for _, p := range v.For(release) {
				_, artifacts := r.Artifacts(p, arch)
				for _, a := range artifacts {
					used[a.URL] = true
				}
				for _, address := range Unpinned(artifacts) {
					if !slices.Contains(unpinned, address) {
						unpinned = append(unpinned, address)
					}
				}
			}
		}
	}
	for address := range r.Pins {
		if !used[address] {
			t.Errorf("nothing uses the pin of %s", address)
		}
	}
	want := []string{
		"https://github.com/coredns/coredns/releases/download/v1.14.2/coredns_1.14.2_linux_amd64.tgz",
		"https://github.com/flannel-io/flannel/releases/download/v0.28.10/flannel-v0.28.10-linux-amd64.tar.gz",
		"https://github.com/coredns/coredns/releases/download/v1.14.2/coredns_1.14.2_linux_arm64.tgz",
		"https://github.com/flannel-io/flannel/releases/download/v0.28.10/flannel-v0.28.10-linux-arm64.tar.gz",
	}
	if diff := cmp.Diff(want, unpinned); diff != "" {
		t.Errorf("artifacts without a pin (-want +got):\n%s", diff)
	}
}

func partOf(t *testing.T, name string) Part {
	t.Helper()
	parts := allParts(t)
	i := slices.IndexFunc(parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no part %s", name)
	}
	return parts[i]
}

func TestOfficialUnpinned(t *testing.T) {
	t.Parallel()
	other := &elsewhereSource{}
	m := newMirror(t, releases(t), "amd64")
	o := &Official{Cache: t.TempDir(), Arch: "amd64", Releases: &Releases{Parts: releases(t).Parts}, Mirror: m.URL, Else: other}
	if b, err := o.Fetch(t.Context(), partOf(t, "coredns")); err != nil || b.From != FromModule || len(m.asked) > 0 {
		t.Errorf("from %q, %v, requests %v", b.From, err, m.asked)
	}
	other.err = problem.BuildToolMissing.Wrap(errors.New("no go"))
	_, err := o.Fetch(t.Context(), partOf(t, "coredns"))
	if !errors.Is(err, problem.NotPinned) || !strings.Contains(err.Error(), "coredns_1.14.2_linux_amd64.tgz") {
		t.Errorf("error %v", err)
	}
	// A part without artifacts has nothing that could be pinned.
	if _, err := o.Fetch(t.Context(), partOf(t, "pause")); !errors.Is(err, problem.BuildToolMissing) {
		t.Errorf("error %v", err)
	}
}

func TestOfficialProblems(t *testing.T) {
	t.Parallel()
	const address = "github.com/etcd-io/etcd/releases/download/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz"
	etcd := func(data []byte) []byte { return tarball(t, map[string][]byte{"etcd-v3.6.8-linux-amd64/etcd": data}) }
	for name, c := range map[string]struct {
		data  []byte
		pin   string
		want  error
		says  string
		other bool // the server does not have it
	}{
		"another checksum":     {data: etcd(nil), pin: strings.Repeat("0", 64), want: problem.ChecksumMismatch, says: strings.Repeat("0", 64)},
		"not there":            {data: nil, other: true, pin: strings.Repeat("0", 64), want: problem.SourceUnreachable, says: "404 Not Found"},
		"no archive":           {data: []byte("this is a page, and no archive"), want: problem.BuildFailed, says: "gzip"},
		"no program in it":     {data: tarball(t, map[string][]byte{"etcd": nil}), want: problem.BuildFailed, says: "it does not hold etcd-v3.6.8-linux-amd64/etcd"},
		"another architecture": {data: etcd(program(elf.EM_AARCH64, elf.PT_LOAD)), want: problem.BuildFailed, says: "is for EM_AARCH64, not for amd64"},
		"a dynamic program":    {data: etcd(program(elf.EM_X86_64, elf.PT_INTERP)), want: problem.BuildFailed, says: "is dynamically linked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, &Releases{}, "amd64")
			if !c.other {
				m.files[address] = c.data
			}
			if c.pin == "" {
				c.pin = sha(c.data)
			}
			r := &Releases{Parts: releases(t).Parts, Pins: map[string]string{"https://" + address: c.pin}}
			o := &Official{Cache: t.TempDir(), Arch: "amd64", Releases: r, Mirror: m.URL + "/"}
			_, err := o.Fetch(t.Context(), partOf(t, "etcd"))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v", err)
			}
			entries, err := filepath.Glob(filepath.Join(o.Cache, "etcd-*"))
			if err != nil || len(entries) > 0 {
				t.Errorf("the cache has %v, %v", entries, err)
			}
			if scratch, err := filepath.Glob(filepath.Join(o.Cache, ".unpack-*")); err != nil || len(scratch) > 0 {
				t.Errorf("left: %v, %v", scratch, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := &Official{Cache: t.TempDir(), Arch: "amd64", Releases: releases(t), Mirror: "http://127.0.0.1:1"}
	if _, err := o.Fetch(ctx, partOf(t, "etcd")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	m := newMirror(t, releases(t), "amd64")
	sum := strings.Repeat("ab", 32)
	for address, text := range map[string]string{
		"dl.k8s.io/release/v1.36.3/bin/linux/amd64/kubelet.sha256":                                   sum, // no end of line
		"github.com/etcd-io/etcd/releases/download/v3.6.8/SHA256SUMS":                                strings.Repeat("0", 64) + "  etcd-v3.6.8-linux-arm64.tar.gz\n" + sum + "  etcd-v3.6.8-linux-amd64.tar.gz\n",
		"github.com/opencontainers/runc/releases/download/v1.5.1/runc.sha256sum":                     sum + " *runc.amd64\n",
		"github.com/coredns/coredns/releases/download/v1.14.2/coredns_1.14.2_linux_amd64.tgz.sha256": "<html>log in</html>",
	} {
		m.files[address] = []byte(text)
	}
	r := releases(t)
	o := &Official{Cache: t.TempDir(), Arch: "amd64", Releases: r, Mirror: m.URL}
	flannel := sha(m.files["github.com/flannel-io/flannel/releases/download/v0.28.10/flannel-v0.28.10-linux-amd64.tar.gz"])
	for name, want := range map[string]string{
		"kubernetes-v1.36": sum, "etcd": sum, "runc": sum, "coredns": "", "cni-plugins": "",
		"flannel": flannel, // publishes none
	} {
		_, artifacts := r.Artifacts(partOf(t, name), "amd64")
		got, err := o.Pin(t.Context(), artifacts[len(artifacts)-1])
		if got != want || (err != nil) != (want == "") || err != nil && !errors.Is(err, problem.SourceUnreachable) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Join(o.Cache, "downloads")); err != nil || len(left) > 0 {
		t.Errorf("downloads are left: %v, %v", left, err)
	}
}

func TestAddPins(t *testing.T) {
	t.Parallel()
	const address = "https://example.com/file"
	sum := strings.Repeat("ab", 32)
	data, err := FormatPins(map[string]string{address: sum})
	if err != nil {
		t.Fatal(err)
	}
	r := releases(t)
	for range 2 {
		if err := r.AddPins(data); err != nil || r.Pins[address] != sum {
			t.Errorf("%v, pin %q", err, r.Pins[address])
		}
	}
	for _, bad := range []string{
		"", "pins: {}", "pins: [", "other: 1",
		"pins: {https://example.com/file: " + strings.Repeat("cd", 32) + "}",
		"pins: {https://example.com/other: abc}",
		"pins: {http://example.com/other: " + sum + "}",
	} {
		if err := r.AddPins([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseReleasesRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"parts: [{name: nothing, url: https://example.com/x}]",
		"parts: [{name: runc, url: https://example.com/x, version: latest}]",
		"parts: [{name: runc, url: https://example.com/x.tgz}]",
		"parts: [{name: runc, url: https://example.com/x, member: x}]",
		"parts: [{name: runc, link: https://example.com/x}]",
		"pins: {https://example.com/x: 1}",
	} {
		if _, err := parseReleases([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
