// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rootless-kubernetes/rk/images"
)

func TestLoadSpecsErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"unknown field":  {map[string]string{"a": "tags: {part: x}\n"}, `unknown field "tags"`},
		"no tag":         {map[string]string{"a": "programs: {/a: a}\n"}, "images/a/image.yaml: tag needs either part or package"},
		"two tags":       {map[string]string{"a": "tag: {part: x, package: y}\n"}, "tag needs either part or package"},
		"base with tag":  {map[string]string{"a": "base: true\ntag: {part: x}\n"}, "a base has no tag"},
		"from no base":   {map[string]string{"a": "tag: {part: x}\nfrom: b\n", "b": "tag: {part: x}\n"}, `from: "b" is no base image`},
		"base on base":   {map[string]string{"a": "base: true\nfrom: b\n", "b": "base: true\n"}, "a base cannot stand on another one"},
		"relative path":  {map[string]string{"a": "tag: {part: x}\nprograms: {bin/a: a}\n"}, `programs: "bin/a" is no absolute path`},
		"all are listed": {map[string]string{"a": "from: x\n", "b": "from: y\n"}, "images/b/image.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := fstest.MapFS{}
			for image, text := range tc.files {
				fsys[image+"/image.yaml"] = &fstest.MapFile{Data: []byte(text)}
			}
			_, err := loadSpecs(fsys)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// What the plan's templates ask for by name.
func TestSpecsOfACluster(t *testing.T) {
	t.Parallel()
	specs, err := loadSpecs(images.FS)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range specs {
		if s.Base {
			continue
		}
		for _, name := range append(s.Aliases, s.Name) {
			if names[name] {
				t.Errorf("two images are called %s", name)
			}
			names[name] = true
		}
	}
	for _, want := range []string{
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns",
		"pause", "flannel", "local-path-provisioner", "local-path-helper", "busybox",
	} {
		if !names[want] {
			t.Errorf("there is no image %s", want)
		}
	}
}
