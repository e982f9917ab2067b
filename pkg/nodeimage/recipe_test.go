// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"archive/tar"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/images"
	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
)

func TestLoadRecipeErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ yaml, want string }{
		"unknown field": {"epoch: 2026-01-01T00:00:00Z\npackage: [x]\n", `unknown field "package"`},
		"no epoch":      {"packages: [x]\n", "epoch is missing"},
		"bad pattern":   {"epoch: 2026-01-01T00:00:00Z\nexclude: [\"/[\"]\n", "is not a pattern"},
		"relative":      {"epoch: 2026-01-01T00:00:00Z\nexclude: [usr]\n", "is not a pattern of an absolute path"},
		"bad mode":      {"epoch: 2026-01-01T00:00:00Z\ndirs: {/x: \"0999\"}\n", `mode "0999" is not an octal number`},
		"number mode":   {"epoch: 2026-01-01T00:00:00Z\ndirs: {/x: 755}\n", "mode 755 is not a string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadRecipe(fstest.MapFS{"rootfs.yaml": {Data: []byte(tc.yaml)}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestExcluded(t *testing.T) {
	t.Parallel()
	r := &recipe{Exclude: []string{"/etc/*-", "/dev/**", "/etc/systemd/system/*.wants/**", "/usr/bin/apt", "/usr/share/doc/*/**"}, Keep: []string{"/usr/share/doc/*/copyright"}}
	for name, want := range map[string]bool{
		"/etc/passwd-":                 true,
		"/etc/passwd":                  false,
		"/etc/x/passwd-":               false,
		"/dev":                         false,
		"/dev/null":                    true,
		"/dev/a/b":                     true,
		"/device":                      false,
		"/usr/bin/apt":                 true,
		"/usr/bin/aptly":               false,
		"/usr/share/doc/apt":           false,
		"/usr/share/doc/apt/copyright": false,
		"/usr/share/doc/apt/README":    true,
		"/etc/systemd/system/multi-user.target.wants":   false,
		"/etc/systemd/system/multi-user.target.wants/x": true,
	} {
		if got := r.excluded(name); got != want {
			t.Errorf("excluded(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestStrip(t *testing.T) {
	t.Parallel()
	raw := &bytes.Buffer{}
	tw := tar.NewWriter(raw)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./dev/", Mode: 0o755},
		{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666},
		{Typeflag: tar.TypeReg, Name: "./etc/x", Mode: 0o644, Uname: "root"},
		{Typeflag: tar.TypeReg, Name: "./var/log/dpkg.log", Mode: 0o644},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	if err := strip(out, raw, &recipe{Epoch: epoch, Exclude: []string{"/dev/**", "/var/log/**"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"5 0755 dev/", "0 0644 etc/x"}, list(t, out.Bytes())); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestStripDanglingHardLink(t *testing.T) {
	t.Parallel()
	raw := &bytes.Buffer{}
	tw := tar.NewWriter(raw)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "./usr/bin/perl", Mode: 0o755},
		{Typeflag: tar.TypeLink, Name: "./usr/bin/perl5", Linkname: "./usr/bin/perl"},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	err := strip(&bytes.Buffer{}, raw, &recipe{Epoch: epoch, Exclude: []string{"/usr/bin/perl"}})
	if err == nil || !strings.Contains(err.Error(), "exclude both") {
		t.Errorf("error %v, want one that says to exclude both", err)
	}
}

// realOverlay returns the overlay that is really laid over a node's root.
func realOverlay(t *testing.T) (*recipe, *tree) {
	t.Helper()
	r, err := loadRecipe(nodeimagedata.Rootfs)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := r.overlay(nodeimagedata.Rootfs, map[string]any{"Images": map[string]string{"pause": "localhost/rk/pause:v1"}})
	if err != nil {
		t.Fatal(err)
	}
	return r, overlay
}

func content(t *testing.T, tr *tree, name string) string {
	t.Helper()
	e, ok := tr.entries[name]
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	buf := &bytes.Buffer{}
	if err := copyFile(buf, e); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// The options that https://kubernetes.io/docs/tasks/administer-cluster/kubelet-in-userns/
// asks for, in the names of version 3 of containerd's configuration.
func TestContainerdConfig(t *testing.T) {
	t.Parallel()
	_, overlay := realOverlay(t)
	at := func(m any, keys ...string) any {
		for _, k := range keys {
			table, ok := m.(map[string]any)
			if !ok {
				return nil
			}
			m = table[k]
		}
		return m
	}
	const runtime, imgs = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
	runc := []string{"plugins", runtime, "containerd", "runtimes", "runc", "options"}
	for _, tc := range []struct {
		file string
		keys []string
		want any
	}{
		{"/etc/containerd/config.toml", []string{"version"}, int64(3)},
		{"/etc/containerd/config.toml", []string{"plugins", runtime, "disable_apparmor"}, true},
		{"/etc/containerd/config.toml", []string{"plugins", runtime, "restrict_oom_score_adj"}, true},
		{"/etc/containerd/config.toml", []string{"plugins", runtime, "disable_hugetlb_controller"}, true},
		{"/etc/containerd/config.toml", []string{"plugins", imgs, "snapshotter"}, "overlayfs"},
		{"/etc/containerd/config.toml", []string{"plugins", imgs, "pinned_images", "sandbox"}, "localhost/rk/pause:v1"},
		{"/usr/lib/rk/containerd.d/cgroup-delegated.toml", append(runc, "SystemdCgroup"), true},
		{"/usr/lib/rk/containerd.d/cgroup-none.toml", append(runc, "SystemdCgroup"), false},
		{"/usr/lib/rk/containerd.d/cgroup-none.toml", append(runc, "BinaryName"), "/usr/local/bin/crun-no-cgroups"},
		{"/usr/lib/rk/containerd.d/snapshotter-fuse-overlayfs.toml", []string{"plugins", imgs, "snapshotter"}, "fuse-overlayfs"},
	} {
		parsed := map[string]any{}
		if _, err := toml.Decode(content(t, overlay, tc.file), &parsed); err != nil {
			t.Fatalf("%s: %v", tc.file, err)
		}
		if got := at(parsed, tc.keys...); got != tc.want {
			t.Errorf("%s: %s = %v, want %v", tc.file, strings.Join(tc.keys, "."), got, tc.want)
		}
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	r, overlay := realOverlay(t)
	for name, want := range map[string]string{
		"/etc/systemd/system/sys-kernel-debug.mount":                     "/dev/null",
		"/etc/systemd/system/multi-user.target.wants/containerd.service": "/usr/lib/systemd/system/containerd.service",
		"/etc/systemd/system/multi-user.target.wants/kubelet.service":    "/usr/lib/systemd/system/kubelet.service",
	} {
		if got := overlay.entries[name].header.Linkname; got != want {
			t.Errorf("%s links to %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"/usr/lib/rk/setup", "/usr/local/bin/crun-no-cgroups"} {
		if got := overlay.entries[name].header.Mode; got != 0o755 {
			t.Errorf("%s has mode %o, want 755", name, got)
		}
	}
	for _, unit := range r.Enable {
		if slices.Contains(r.Mask, unit) {
			t.Errorf("%s is both enabled and masked", unit)
		}
	}
	r.Enable = append(r.Enable, "no-such.service")
	if _, err := r.overlay(nodeimagedata.Rootfs, map[string]any{"Images": map[string]string{"pause": "p"}}); err == nil || !strings.Contains(err.Error(), "no-such.service") {
		t.Errorf("error %v, want one that names the missing unit", err)
	}
	if _, err := r.overlay(nodeimagedata.Rootfs, map[string]any{}); err == nil {
		t.Error("a template without its data is no error")
	}
}

// Every program that the recipe and the images name is one of a part.
func TestProgramsExist(t *testing.T) {
	t.Parallel()
	versions, err := part.Load()
	if err != nil {
		t.Fatal(err)
	}
	r, _ := realOverlay(t)
	specs, err := loadSpecs(images.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range versions.Kubernetes.Releases {
		have, parts := map[string]bool{}, map[string]bool{"kubernetes": true}
		for _, p := range versions.For(release) {
			parts[p.Name] = true
			for _, b := range p.Binaries {
				have[b.Name] = true
			}
		}
		for dir, names := range r.Programs {
			for _, name := range names {
				if !have[name] {
					t.Errorf("%s: no part has %s/%s", release.Version, dir, name)
				}
			}
		}
		for _, s := range specs {
			for to, name := range s.Programs {
				if !have[name] {
					t.Errorf("%s: image %s: no part has %s (%s)", release.Version, s.Name, name, to)
				}
			}
			if s.Tag.Part != "" && !parts[s.Tag.Part] {
				t.Errorf("image %s: there is no part %s", s.Name, s.Tag.Part)
			}
		}
	}
}
