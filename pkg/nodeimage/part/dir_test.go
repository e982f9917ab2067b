// SPDX-License-Identifier: Apache-2.0

package part

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func TestDirNamesEveryProgramThatDoesNotFit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p := partNamed(t, "kubernetes-v1.36")
	write := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(root, p.Name, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("kubelet", program(elf.EM_X86_64, elf.PT_LOAD))
	write("kubeadm", program(elf.EM_AARCH64, elf.PT_LOAD))
	write("kubectl", program(elf.EM_X86_64, elf.PT_INTERP))
	write("kube-proxy", []byte("#!/bin/sh\n"))
	write("kube-scheduler", nil)

	_, err := (&Dir{Root: root, Arch: "amd64"}).Fetch(t.Context(), p)
	if !errors.Is(err, problem.SourceUnreachable) {
		t.Fatalf("got error %v", err)
	}
	got := strings.ReplaceAll(err.Error(), root, "ROOT")
	for _, want := range []string{
		"part kubernetes-v1.36",
		"ROOT/kubernetes-v1.36/kube-apiserver is missing",
		"ROOT/kubernetes-v1.36/kube-controller-manager is missing",
		"ROOT/kubernetes-v1.36/kubeadm is for EM_AARCH64, not for amd64",
		"ROOT/kubernetes-v1.36/kubectl is dynamically linked",
		"ROOT/kubernetes-v1.36/kube-proxy is no ELF executable",
		"ROOT/kubernetes-v1.36/kube-scheduler is no ELF executable",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if strings.Contains(got, "kubelet") {
		t.Errorf("%q names the kubelet, which is fine", got)
	}
	advice, _ := problem.Of(err)
	if want := "Put static linux/amd64 programs of k8s.io/kubernetes v1.36.3 there"; !strings.Contains(advice.Advice, want) {
		t.Errorf("advice %q lacks %q", advice.Advice, want)
	}
}

func TestDirTakesWhatExportWrote(t *testing.T) {
	t.Parallel()
	f := newTools(t)
	m := &Module{Cache: t.TempDir(), Arch: runtime.GOARCH, runner: f.run}
	parts := []Part{partNamed(t, "runc"), partNamed(t, "cni-plugins")}
	built, err := FetchAll(t.Context(), m, parts)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := Export(t.Context(), built, root); err != nil {
		t.Fatal(err)
	}
	again, err := FetchAll(t.Context(), &Dir{Root: root, Arch: runtime.GOARCH}, parts)
	if err != nil {
		t.Fatal(err)
	}
	withoutPath := cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Path" || p.Last().String() == ".Cached" || p.Last().String() == ".From"
	}, cmp.Ignore())
	if diff := cmp.Diff(built, again, withoutPath); diff != "" {
		t.Errorf("(-exported +found):\n%s", diff)
	}
	if got, want := again[0].Path("runc"), filepath.Join(root, "runc", "runc"); got != want {
		t.Errorf("runc lies at %s, want %s", got, want)
	}
}

func TestFetchAllReturnsTheFirstError(t *testing.T) {
	t.Parallel()
	_, err := FetchAll(t.Context(), &Dir{Root: filepath.Join(t.TempDir(), "none"), Arch: runtime.GOARCH}, allParts(t))
	if !errors.Is(err, problem.SourceUnreachable) {
		t.Errorf("got error %v", err)
	}
}
