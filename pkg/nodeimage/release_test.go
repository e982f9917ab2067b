// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
)

// published serves the artifacts of all parts of the default release, with
// programs that hold their names, and returns what is known of them.
func published(t *testing.T, machine elf.Machine, arch string) (mirror string, releases *part.Releases) {
	t.Helper()
	releases, err := part.LoadReleases()
	if err != nil {
		t.Fatal(err)
	}
	versions, err := part.Load()
	if err != nil {
		t.Fatal(err)
	}
	release, err := versions.Release("")
	if err != nil {
		t.Fatal(err)
	}
	releases.Pins = map[string]string{}
	files := map[string][]byte{}
	for _, p := range versions.For(release) {
		_, artifacts := releases.Artifacts(p, arch)
		for _, a := range artifacts {
			data := artifact(t, machine, a)
			sum := sha256.Sum256(data)
			releases.Pins[a.URL] = hex.EncodeToString(sum[:])
			files[strings.TrimPrefix(a.URL, "https:/")] = data
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	return server.URL, releases
}

// artifact is a program, or an archive of some.
func artifact(t *testing.T, machine elf.Machine, a part.Artifact) []byte {
	t.Helper()
	var data, archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	for name, member := range a.Members {
		data.Reset()
		h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT)}
		copy(h.Ident[:], elf.ELFMAG)
		h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
		if err := binary.Write(&data, binary.LittleEndian, h); err != nil {
			t.Fatal(err)
		}
		data.WriteString(name)
		if member == "" {
			return data.Bytes()
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: member, Mode: 0o755, Size: int64(data.Len())}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// An image of official artifacts is laid out as any other; what has none comes
// from the other source.
func TestBuildFromRelease(t *testing.T) {
	t.Parallel()
	mirror, releases := published(t, elf.EM_AARCH64, "arm64")
	o := Options{
		CacheDir: t.TempDir(), Arch: "arm64",
		Source: &part.Official{Cache: t.TempDir(), Arch: "arm64", Releases: releases, Mirror: mirror, Else: programs{dir: t.TempDir()}},
	}
	first := mustBuild(t, o)
	got := map[string]string{}
	for _, p := range first.Parts {
		if p.From == part.FromRelease {
			got[p.Name] = p.Version
		}
	}
	want := map[string]string{
		"kubernetes-v1.36": "v1.36.3", "cni-flannel": "v0.9.1", "cni-plugins": "v1.9.1", "containerd": "v2.3.4", "coredns": "v1.14.2", "crictl": "v1.34.0",
		"etcd": "v3.6.8", "flannel": "v0.28.10", "fuse-overlayfs-snapshotter": "v2.1.7", "runc": "v1.5.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("official parts (-want +got):\n%s", diff)
	}
	compiled := mustBuild(t, Options{Source: programs{dir: t.TempDir()}, CacheDir: t.TempDir(), Arch: "arm64"})
	if diff := cmp.Diff(compiled.Images, first.Images); diff != "" {
		t.Errorf("images (-compiled +official):\n%s", diff)
	}
	if again := mustBuild(t, o); again.Digest != first.Digest || len(cachedLayers(again, false)) > 0 {
		t.Errorf("again: digest %s, made %v", again.Digest, cachedLayers(again, false))
	}
}
