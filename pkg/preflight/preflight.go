// SPDX-License-Identifier: Apache-2.0

// Package preflight measures what a plan depends on: the engine, the node
// image, a free subnet, a free port, the MTU of the host. It only looks;
// deciding is the plan's part.
//
// It must never import cli, cluster, ui, or an engine adapter.
package preflight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Engine is what is asked of an engine.
type Engine interface {
	Info(ctx context.Context) (engine.Info, error)
	InspectImage(ctx context.Context, ref string) (engine.Image, error)
	ListNetworks(ctx context.Context, sel map[string]string) ([]engine.Network, error)
	ListContainers(ctx context.Context, sel map[string]string) ([]engine.Container, error)
}

// Image returns what the node image ref says of itself. It wraps
// problem.ImageNotPresent and engine.ErrNotFound if the engine does not have
// it, problem.NotNodeImage if it is something else, problem.ImageArch if it
// does not fit this machine.
func Image(ctx context.Context, eng Engine, ref string) (plan.ImageFacts, error) {
	img, err := eng.InspectImage(ctx, ref)
	if errors.Is(err, engine.ErrNotFound) {
		return plan.ImageFacts{}, problem.ImageNotPresent.Wrapf("image %s: %w", ref, err)
	}
	if err != nil {
		return plan.ImageFacts{}, engineError(fmt.Errorf("image %s: %w", ref, err))
	}
	return facts(ref, img)
}

// facts reads the labels of a node image.
func facts(ref string, img engine.Image) (plan.ImageFacts, error) {
	if _, ok := img.Labels[nodeimage.LabelFormat]; !ok {
		return plan.ImageFacts{}, problem.NotNodeImage.Wrapf("image %s has no label %s", ref, nodeimage.LabelFormat)
	}
	if format := img.Labels[nodeimage.LabelFormat]; format != nodeimage.Format {
		return plan.ImageFacts{}, problem.NotNodeImage.
			With("Build it again with this version of rk: 'rk build node-image'.").
			Wrapf("image %s has format %q, this version of rk needs %q", ref, format, nodeimage.Format)
	}
	if img.Arch != "" && img.Arch != runtime.GOARCH {
		return plan.ImageFacts{}, problem.ImageArch.Wrapf("image %s is for %s, this machine is %s", ref, img.Arch, runtime.GOARCH)
	}
	f := plan.ImageFacts{Ref: ref, ID: img.ID, KubernetesVersion: img.Labels[nodeimage.LabelKubernetes]}
	if f.KubernetesVersion == "" {
		return plan.ImageFacts{}, problem.NotNodeImage.Wrapf("image %s has no label %s", ref, nodeimage.LabelKubernetes)
	}
	if err := json.Unmarshal([]byte(img.Labels[nodeimage.LabelImages]), &f.Images); err != nil {
		return plan.ImageFacts{}, problem.NotNodeImage.Wrapf("image %s: label %s is not a JSON object of strings: %w", ref, nodeimage.LabelImages, err)
	}
	return f, nil
}

// Gather measures the facts for a defaulted and validated configuration.
// image is the cluster's node image, from [Image]. What the configuration
// asks for and the host cannot give is a problem: PortTaken, SubnetClash or
// InvalidConfig.
func Gather(ctx context.Context, eng Engine, c config.Cluster, image plan.ImageFacts) (plan.Facts, error) {
	return gather(ctx, eng, c, image, localHost{})
}

func gather(ctx context.Context, eng Engine, c config.Cluster, image plan.ImageFacts, h host) (plan.Facts, error) {
	f := plan.Facts{Image: image, MTU: h.MTU()}
	var networks []engine.Network
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		f.Engine, err = eng.Info(gctx)
		return engineError(err)
	})
	g.Go(func() error { return sameContent(gctx, eng, c.Nodes, image) })
	g.Go(func() (err error) {
		networks, err = eng.ListNetworks(gctx, nil)
		return engineError(err)
	})
	if err := g.Wait(); err != nil {
		return f, err
	}
	var err error
	if f.Subnet, err = subnet(c, occupied(networks, h)); err != nil {
		return f, err
	}
	addr, err := netip.ParseAddr(c.Networking.APIServerAddress)
	if err != nil {
		return f, problem.InvalidConfig.Wrapf("networking.apiServerAddress: %w", err)
	}
	if c.Networking.IPFamily == config.IPv6 || c.Networking.IPFamily == config.DualStack {
		if f.IPv6Subnet, err = ipv6Subnet(c, occupied(networks, h)); err != nil {
			return f, err
		}
	}
	if err := hostPaths(h, c); err != nil {
		return f, err
	}
	if err := registries(ctx, eng, h, c.Registries, &f); err != nil {
		return f, err
	}
	if f.Host, err = hostFacts(ctx, h, f.Engine, c); err != nil {
		return f, err
	}
	if f.APIPort, err = apiPort(ctx, h, addr, c.Networking.APIServerPort); err != nil {
		return f, err
	}
	f.HostPorts, err = hostPorts(ctx, h, c, plan.HostPort{Address: addr, Protocol: "tcp", Port: f.APIPort})
	return f, err
}

// engineError puts an engine's error into the catalogue, unless it says of
// itself what it is or is the end of ctx.
func engineError(err error) error {
	if err == nil {
		return nil
	}
	switch _, known := problem.Of(err); {
	case known, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, engine.ErrUnreachable):
		return problem.EngineUnreachable.Wrap(err)
	}
	return problem.EngineFailed.Wrap(err)
}

// sameContent sees to it that images of single nodes hold what the cluster's
// does: a plan has one Kubernetes version and one set of references.
func sameContent(ctx context.Context, eng Engine, nodes []config.Node, image plan.ImageFacts) error {
	for i, n := range nodes {
		if n.Image == "" || n.Image == image.Ref {
			continue
		}
		other, err := Image(ctx, eng, n.Image)
		if err != nil {
			return fmt.Errorf("nodes[%d].image: %w", i, err)
		}
		if other.KubernetesVersion != image.KubernetesVersion {
			return problem.InvalidConfig.Wrapf("nodes[%d].image: %s holds Kubernetes %s, but %s holds %s; all nodes of a cluster have one version",
				i, n.Image, other.KubernetesVersion, image.Ref, image.KubernetesVersion)
		}
		if !maps.Equal(other.Images, image.Images) {
			return problem.InvalidConfig.Wrapf("nodes[%d].image: %s and %s hold different images; build both with the same version of rk", i, n.Image, image.Ref)
		}
	}
	return nil
}
