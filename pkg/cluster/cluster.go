// SPDX-License-Identifier: Apache-2.0

// Package cluster holds the use-cases: create, delete, list. It carries out a
// plan on an engine, step by step, and finds clusters again by engine labels
// alone: there is no state file.
//
// It must never import cli, ui, or an engine adapter.
package cluster

import (
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Env looks up environment variables, as os.Getenv does.
type Env func(string) string

func (e Env) get(name string) string {
	if e == nil {
		return ""
	}
	return e(name)
}

// CreateOptions rule Create.
type CreateOptions struct {
	Reporter step.Reporter
	// Retain keeps what was made when creation fails.
	Retain bool
	// Wait bounds the wait for Ready nodes and available add-ons; 0 does not
	// wait for them (the API serves and all objects are applied on return).
	Wait time.Duration
	// Kubeconfig is the file to write; empty follows kubectl's rules
	// ($KUBECONFIG, then ~/.kube/config).
	Kubeconfig string
	// Env looks up environment variables (os.Getenv); nil: there are none.
	Env Env

	apiTimeout    time.Duration // of the steps that start the API; 0: by Wait
	watchInterval time.Duration // of looks at the nodes; 0 is the default
}

// Created is what Create made.
type Created struct {
	Kubeconfig string // file that was written
	Context    string // "rk-NAME"
}

// DeleteOptions rule Delete.
type DeleteOptions struct {
	Reporter   step.Reporter
	Kubeconfig string // as in CreateOptions
	Env        Env
}

// Cluster is a cluster as found by its labels.
type Cluster struct {
	Name              string `json:"name"`
	KubernetesVersion string `json:"kubernetesVersion"`
	// Status is "running", "partly running", "stopped" or "incomplete" (a network without nodes).
	Status    string    `json:"status"`
	APIServer string    `json:"apiServer,omitempty"` // host address, e.g. "127.0.0.1:41231"
	Engine    string    `json:"engine,omitempty"`    // name of the engine that it is on; empty if that is not known
	Nodes     []Node    `json:"nodes"`
	Created   time.Time `json:"created"`
}

// Node is a node of a cluster as found by its labels.
type Node struct {
	Name    string       `json:"name"`
	Cluster string       `json:"cluster"`
	Role    string       `json:"role"`
	State   engine.State `json:"state"`
	IP      string       `json:"ip,omitempty"`
	Image   string       `json:"image"`
}
