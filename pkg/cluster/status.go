// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// statusTimeout bounds every question that Describe asks.
const statusTimeout = 10 * time.Second

// ClusterStatus is how a cluster is doing.
type ClusterStatus struct {
	Name              string           `json:"name"`
	Status            string           `json:"status"` // as in Cluster
	Healthy           bool             `json:"healthy"`
	Problems          []string         `json:"problems"` // why it is not
	KubernetesVersion string           `json:"kubernetesVersion"`
	Engine            string           `json:"engine"` // e.g. "podman 5.4.2"
	Created           time.Time        `json:"created"`
	API               APIStatus        `json:"api"`
	Nodes             []NodeStatus     `json:"nodes"`
	ControlPlane      []kube.Component `json:"controlPlane"` // empty if the API does not answer
	Addons            []kube.Workload  `json:"addons"`       // likewise
}

// APIStatus is the Kubernetes API as it is reached from the host.
type APIStatus struct {
	Address string `json:"address"` // e.g. "127.0.0.1:41231"
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"` // why it is not
}

// NodeStatus is a node, as the engine and the API see it.
type NodeStatus struct {
	Node
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"` // why it is not
	Kubelet string `json:"kubelet,omitempty"` // version
	Runtime string `json:"runtime,omitempty"` // e.g. "containerd://2.4.2"
	Disk    int64  `json:"disk,omitempty"`    // bytes that the node's own volume takes; 0 if not known
	Images  int    `json:"images,omitempty"`  // that it has; 0 if not known
}

// Describe finds out how a cluster is doing. What does not answer is part of
// the result, not an error.
func Describe(ctx context.Context, eng engine.Engine, c *Cluster) (*ClusterStatus, error) {
	s := &ClusterStatus{
		Name: c.Name, Status: c.Status, KubernetesVersion: c.KubernetesVersion, Created: c.Created, Engine: c.Engine, Problems: []string{},
		API: APIStatus{Address: c.APIServer}, Nodes: make([]NodeStatus, len(c.Nodes)), ControlPlane: []kube.Component{}, Addons: []kube.Workload{},
	}
	var health *kube.Health
	var apiErr error
	var g group.Group
	g.Go(func() error {
		if info, err := eng.Info(ctx); err == nil {
			s.Engine = info.Name + " " + info.Version
		}
		return nil
	})
	g.Go(func() error {
		health, apiErr = askAPI(ctx, eng, c)
		return nil
	})
	for i, n := range c.Nodes {
		s.Nodes[i].Node = n
		if n.State != engine.StateRunning || n.Role == plan.RoleLoadBalancer {
			continue
		}
		g.Go(func() error {
			s.Nodes[i].measure(ctx, eng)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.judge(health, apiErr)
	return s, nil
}

func askAPI(ctx context.Context, eng engine.Engine, c *Cluster) (*kube.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	kubeconfig, err := AdminKubeconfig(ctx, eng, c.Name)
	if err != nil {
		return nil, err
	}
	client, err := kube.Connect(kubeconfig)
	if err != nil {
		return nil, err
	}
	return client.Health(ctx)
}

// measure asks the node itself. What cannot be had stays unknown.
func (n *NodeStatus) measure(ctx context.Context, eng engine.Engine) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out, err := node.New(eng, n.Name).Output(ctx, "sh", "-c", "du -sxk /var | cut -f1; crictl images -q | sort -u | wc -l")
	if err != nil {
		return
	}
	if f := strings.Fields(string(out)); len(f) == 2 {
		kilobytes, err := strconv.ParseInt(f[0], 10, 64)
		if err == nil {
			n.Disk = kilobytes << 10
		}
		if n.Images, err = strconv.Atoi(f[1]); err != nil {
			n.Images = 0
		}
	}
}

// judge puts together what the API said, and lists what is wrong.
func (s *ClusterStatus) judge(health *kube.Health, apiErr error) {
	wrong := func(format string, args ...any) { s.Problems = append(s.Problems, fmt.Sprintf(format, args...)) }
	if s.Status == StatusIncomplete {
		wrong("the cluster is incomplete")
	}
	if s.API.Ready = apiErr == nil; !s.API.Ready {
		s.API.Message = firstOf(apiErr.Error())
		wrong("the API does not answer: %s", s.API.Message)
		health = &kube.Health{}
	}
	s.ControlPlane, s.Addons = append(s.ControlPlane, health.ControlPlane...), append(s.Addons, health.Addons...)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		at := slices.IndexFunc(health.Nodes, func(h kube.NodeHealth) bool { return h.Name == n.Name })
		switch {
		case n.State != engine.StateRunning:
			n.Message = "the container is " + string(n.State)
		case n.Role != plan.RoleControlPlane && n.Role != plan.RoleWorker:
			n.Ready = true // it is no node of Kubernetes
		case at < 0 && s.API.Ready:
			n.Message = "the API does not know it"
		case at >= 0:
			h := health.Nodes[at]
			n.Ready, n.Message, n.Kubelet, n.Runtime = h.Ready, h.Message, h.Kubelet, h.Runtime
		}
		if !n.Ready && n.Message != "" {
			wrong("node %s: %s", n.Name, n.Message)
		}
	}
	for _, c := range s.ControlPlane {
		if !c.Ready {
			wrong("%s on %s: %s", c.Name, c.Node, c.Message)
		}
	}
	for _, w := range s.Addons {
		if w.Ready < w.Wanted {
			wrong("%s %s/%s: %d of %d pods are ready", w.Kind, w.Namespace, w.Name, w.Ready, w.Wanted)
		}
	}
	s.Healthy = len(s.Problems) == 0
}

func firstOf(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text
}
