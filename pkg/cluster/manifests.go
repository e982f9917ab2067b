// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// manifestWait bounds how long objects of the user are tried to apply, if
// nothing is to be waited for.
const manifestWait = time.Minute

// manifestSteps apply the objects of the user and wait for what they run.
func (c *creation) manifestSteps() []step.Step {
	if len(c.plan.Objects) == 0 {
		return nil
	}
	objects := make([]kube.Object, len(c.plan.Objects))
	for i, o := range c.plan.Objects {
		objects[i] = kube.Object{Source: o.Source, JSON: o.JSON}
	}
	limit := c.options.Wait
	if limit == 0 {
		limit = manifestWait
	}
	steps := []step.Step{{
		ID: "manifests", Title: "Applying manifests", Timeout: limit,
		Do: c.guarded(func(ctx context.Context) error { return c.applyObjects(ctx, objects) }),
	}}
	if conditions := kube.WorkloadsAvailable(objects); c.options.Wait > 0 && len(conditions) > 0 {
		steps = append(steps, step.Step{
			ID: "manifests-ready", Title: "Waiting for what manifests run", Timeout: limit,
			Do: c.guarded(func(ctx context.Context) error {
				if err := c.client.Wait(ctx, func(s string) { step.Report(ctx, s) }, conditions...); err != nil {
					return problem.ManifestNotAvailable.Wrap(err)
				}
				return nil
			}),
		})
	}
	return steps
}

func (c *creation) applyObjects(ctx context.Context, objects []kube.Object) error {
	if err := c.client.ApplyObjects(ctx, objects, func(s string) { step.Report(ctx, s) }); err != nil {
		return problem.ManifestRejected.Wrap(err)
	}
	return nil
}
