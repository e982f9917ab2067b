// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What ctr 2.4 and crictl 1.34 print.
const storeOutput = `x86_64
overlayfs
---
KEY                                                                     PARENT                                                                  KIND
0c4ecfbd8a33bd4ff1f4b3f8e6b0ee8e5f5a4b05f5b9ef1a8d5c7f1c4c3a9ce1        sha256:1111111111111111111111111111111111111111111111111111111111111111 Active
sha256:1111111111111111111111111111111111111111111111111111111111111111                                                                         Committed
sha256:2222222222222222222222222222222222222222222222222222222222222222 sha256:1111111111111111111111111111111111111111111111111111111111111111 Committed
extract-1-abcd sha256:3333333333333333333333333333333333333333333333333333333333333333                                                          Active
---
{"images":[
 {"id":"sha256:aa","repoTags":["docker.io/library/web:latest","localhost/web:latest"],"repoDigests":[],"size":"1234","uid":null,"username":"","spec":null,"pinned":true},
 {"id":"sha256:bb","repoTags":[],"repoDigests":["docker.io/library/db@sha256:cc"],"size":"","uid":{"value":"1"},"username":"","pinned":false}
]}
`

func TestImageStore(t *testing.T) {
	t.Parallel()
	s, err := New(&execer{stdout: storeOutput}, "n").ImageStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Arch != "amd64" || s.Snapshotter != "overlayfs" {
		t.Errorf("got %+v", s)
	}
	for chain, want := range map[string]bool{"1": true, "2": true, "3": false} {
		if got := s.HasLayer("sha256:" + strings.Repeat(chain, 64)); got != want {
			t.Errorf("layer %s: %t", chain, got)
		}
	}
	want := []Image{
		{ID: "sha256:aa", Tags: []string{"docker.io/library/web:latest", "localhost/web:latest"}, Digests: []string{}, Size: 1234, Pinned: true},
		{ID: "sha256:bb", Tags: []string{}, Digests: []string{"docker.io/library/db@sha256:cc"}},
	}
	if diff := cmp.Diff(want, s.Images); diff != "" {
		t.Error(diff)
	}
	img, ok := s.Find("sha256:aa")
	if !ok || !img.Has("localhost/web:latest") || img.Has("web") {
		t.Errorf("got %+v, %t", img, ok)
	}
	if _, ok := s.Find("sha256:cc"); ok {
		t.Error("found an image that is not there")
	}
	for _, bad := range []string{"", "x86_64\n", "x86_64\noverlayfs\n---\n---\nno JSON", "x86_64\noverlayfs\n---\n---\n" + `{"images":[{"size":"many"}]}`} {
		if _, err := New(&execer{stdout: bad}, "n").ImageStore(t.Context()); !errors.Is(err, errImageStore) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestImportImages(t *testing.T) {
	t.Parallel()
	if err := New(&execer{}, "n").ImportImages(t.Context(), "overlayfs", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	var failed *CommandError
	err := New(&execer{exit: 1, stderr: "ctr: no such snapshot\n"}, "n").ImportImages(t.Context(), "overlayfs", strings.NewReader("x"))
	if !errors.As(err, &failed) || failed.Output != "ctr: no such snapshot" {
		t.Errorf("got %v", err)
	}
}

func TestGoarch(t *testing.T) {
	t.Parallel()
	for machine, want := range map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"} {
		if got := goarch(machine); got != want {
			t.Errorf("%s: %s", machine, got)
		}
	}
}
