// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/cli"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// twoEngines is a user's machine with a Podman and a Docker.
type twoEngines struct {
	*testing.T
	podman, docker *enginetest.Fake
	down           bool // Docker does not answer
	home           string
	machine        cli.Machine
}

func newTwoEngines(t *testing.T) *twoEngines {
	t.Parallel()
	return &twoEngines{T: t, podman: enginetest.NewFake(), docker: enginetest.NewFake(), home: t.TempDir(), machine: testHost(t.TempDir(), t.Cleanup)}
}

// cluster makes as much of a cluster as there is after the first step of a creation.
func (m *twoEngines) cluster(on *enginetest.Fake, name, subnet string) {
	m.Helper()
	err := on.CreateNetwork(m.Context(), engine.NetworkSpec{
		Name: plan.NetworkName(name), Subnet: netip.MustParsePrefix(subnet), Labels: map[string]string{plan.LabelCluster: name},
	})
	if err != nil {
		m.Fatal(err)
	}
}

// rk runs a command and returns its exit code and what it printed.
func (m *twoEngines) rk(args ...string) (exit int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env := map[string]string{"HOME": m.home, "KUBECONFIG": filepath.Join(m.home, "config")}
	exit = cli.Run(m.Context(), cli.Deps{
		In: strings.NewReader(""), Out: &out, Err: &errs, Env: func(k string) string { return env[k] }, Machine: m.machine,
		DialAll: func(context.Context) ([]*connect.Connection, []*connect.Unusable, error) {
			all := []*connect.Connection{{Engine: kept{m.podman}, Name: connect.Podman, Why: "it goes first", Chosen: true}}
			if m.down {
				return all, []*connect.Unusable{{Name: connect.Docker, Err: problem.EngineUnreachable.Wrap(errors.New("docker.sock is gone"))}}, nil
			}
			return append(all, &connect.Connection{Engine: kept{m.docker}, Name: connect.Docker, Chosen: true}), nil, nil
		},
	}, args)
	return exit, out.String(), errs.String()
}

func (m *twoEngines) networks(on *enginetest.Fake) string {
	m.Helper()
	list, err := on.ListNetworks(m.Context(), map[string]string{plan.LabelCluster: ""})
	if err != nil {
		m.Fatal(err)
	}
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestTwoEngines(t *testing.T) {
	m := newTwoEngines(t)
	m.cluster(m.podman, "a", "10.1.1.0/24")
	m.cluster(m.docker, "b", "10.1.1.0/24")
	if exit, out, _ := m.rk("get", "clusters", "-o", "wide"); exit != 0 || !strings.Contains(out, "podman") || !strings.Contains(out, "docker") {
		t.Errorf("exit code %d: %s", exit, out)
	}
	if exit, _, errs := m.rk("get", "nodes", "b"); exit != 0 {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	// The name of a cluster on the other engine is in use.
	if exit, _, errs := m.rk("create", "cluster", "b"); exit != problem.ExitFailure || !strings.Contains(errs, problem.ClusterExists.Code) {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	if exit, _, errs := m.rk("create", "cluster", "c", "--build", "never"); exit == 0 || !strings.Contains(errs, "Using Podman: it goes first.") {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	if exit, _, errs := m.rk("get", "kubeconfig", "none"); exit == 0 || !strings.Contains(errs, "there are: a, b") {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	if exit, _, errs := m.rk("delete", "cluster", "b"); exit != 0 || m.networks(m.docker) != "" || m.networks(m.podman) != "rk-a" {
		t.Errorf("exit code %d: %s", exit, errs)
	}
}

func TestOneNameOnTwoEngines(t *testing.T) {
	m := newTwoEngines(t)
	m.cluster(m.podman, "a", "10.1.1.0/24")
	m.cluster(m.docker, "a", "10.1.1.0/24")
	if exit, _, errs := m.rk("get", "nodes", "a"); exit != problem.ExitUsage || !strings.Contains(errs, "--engine") {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	if exit, _, errs := m.rk("delete", "clusters", "--all"); exit != 0 || m.networks(m.docker)+m.networks(m.podman) != "" {
		t.Errorf("exit code %d: %s", exit, errs)
	}
}

func TestOneEngineDown(t *testing.T) {
	m := newTwoEngines(t)
	m.cluster(m.podman, "a", "10.1.1.0/24")
	m.down = true
	exit, out, errs := m.rk("get", "clusters", "-o", "name")
	if exit != 0 || out != "a\n" || !strings.Contains(errs, "docker cannot be used") || !strings.Contains(errs, "docker.sock is gone") {
		t.Errorf("exit code %d: %s%s", exit, out, errs)
	}
	// It may be on the engine that does not answer.
	if exit, _, errs := m.rk("delete", "cluster", "b"); exit != problem.ExitSetup || !strings.Contains(errs, "was not found, and docker cannot be used") {
		t.Errorf("exit code %d: %s", exit, errs)
	}
	if exit, _, errs := m.rk("delete", "cluster", "a"); exit != 0 || m.networks(m.podman) != "" {
		t.Errorf("exit code %d: %s", exit, errs)
	}
}
