// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestStoreMatchesContainerd imports an image into a real containerd and
// compares what that wrote with what we write. RK_TEST_CONTAINERD names the
// folder of containerd and ctr. It needs root.
func TestStoreMatchesContainerd(t *testing.T) {
	bin := os.Getenv("RK_TEST_CONTAINERD")
	if bin == "" {
		t.Skip("RK_TEST_CONTAINERD is not set")
	}
	dir := t.TempDir()
	ours, a := twoLayers(t)
	if err := a.save(filepath.Join(dir, "image.tar")); err != nil {
		t.Fatal(err)
	}
	importInto(t, bin, dir)

	metadata, err := ours.metadata("overlayfs")
	compare(t, build(t, metadata, err), filepath.Join(dir, "root", metadataDir, "meta.db"))
	snapshots, err := ours.snapshotMetadata()
	compare(t, build(t, snapshots, err), filepath.Join(dir, "root/io.containerd.snapshotter.v1.overlayfs/metadata.db"))
}

// twoLayers returns an image as a store and as an archive.
func twoLayers(t *testing.T) (*store, archive) {
	t.Helper()
	s := &store{epoch: epoch}
	var layers []layer
	id := 0
	for _, name := range []string{"base", "top"} {
		files := newTree()
		files.data("/etc/"+name, 0o644, bytes.Repeat([]byte(name), 2000))
		var l layer
		var err error
		if id, l, err = s.addLayer(id, files); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	img, err := assemble("amd64", epoch, v1.Config{Entrypoint: []string{"/x"}}, layers)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newArchive(img, "localhost/rk/two:v1", layers, epoch)
	if err != nil {
		t.Fatal(err)
	}
	s.images = []storedImage{{a.ref, a.manifest, a.config, s.snapshots[id-1].chainID}}
	return s, a
}

// importInto runs containerd in dir, imports image.tar and ends it again.
func importInto(t *testing.T, bin, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config := `version = 3
imports = []
root = "` + dir + `/root"
state = "` + dir + `/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "` + dir + `/sock"
[plugins."io.containerd.cri.v1.images"]
discard_unpacked_layers = true
`
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon := exec.CommandContext(ctx, filepath.Join(bin, "containerd"), "-c", filepath.Join(dir, "config.toml"))
	daemon.Cancel = func() error { return daemon.Process.Signal(os.Interrupt) }
	log := &bytes.Buffer{}
	booted := make(chan bool, 1)
	daemon.Stderr = &lineWriter{line: func(s string) {
		log.WriteString(s + "\n")
		if strings.Contains(s, "containerd successfully booted") {
			booted <- true
		}
	}}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-booted:
	case <-ctx.Done():
		t.Fatalf("containerd does not start:\n%s", log)
	}
	ctr := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, filepath.Join(bin, "ctr"), append([]string{"-a", dir + "/sock", "-n", namespace}, args...)...).CombinedOutput()
		return string(out), err
	}
	out, err := ctr("images", "import", "--local", "--discard-unpacked-layers", dir+"/image.tar")
	if err == nil {
		// The CRI plugin takes note of the image in its own time.
		for !strings.Contains(out, "io.cri-containerd.image=managed") && ctx.Err() == nil {
			out, err = ctr("images", "ls")
		}
	}
	if err == nil {
		out, err = ctr("content", "prune", "references") // collects garbage before it returns
	}
	cancel()
	_ = daemon.Wait() // it was interrupted
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, log)
	}
}

var (
	timeLine   = regexp.MustCompile(`(?m)^ *(createdat|updatedat) = .*\n`)
	keyNumber  = regexp.MustCompile(`k8s\.io/(\d)/`)
	onlyOurs   = regexp.MustCompile(`(?m)^ *io\.cri-containerd\.pinned = pinned\n`)
	onlyTheirs = regexp.MustCompile(`(?m)^ *(annotations|ingests|leases|io\.containerd\.image\.name = .*|org\.opencontainers\.image\.ref\.name = .*)\n`)
	sequence   = regexp.MustCompile(` sequence \d+`)
)

// compare compares two databases but for times, numbers that containerd takes
// from a sequence, empty buckets, pins, and the annotations of the archive.
func compare(t *testing.T, ours []byte, path string) {
	t.Helper()
	theirs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// containerd counts a snapshot when it is prepared and when it is committed.
	halve := strings.NewReplacer("k8s.io/2/", "k8s.io/1/", "k8s.io/4/", "k8s.io/2/")
	clean := func(s string) string {
		for _, re := range []*regexp.Regexp{timeLine, onlyOurs, onlyTheirs, sequence} {
			s = re.ReplaceAllString(s, "")
		}
		return s
	}
	want := clean(halve.Replace(dump(t, theirs)))
	if !keyNumber.MatchString(want) {
		t.Fatalf("%s has no snapshots:\n%s", path, want)
	}
	if diff := cmp.Diff(want, clean(dump(t, ours))); diff != "" {
		t.Errorf("%s (-containerd +ours):\n%s", filepath.Base(path), diff)
	}
}
