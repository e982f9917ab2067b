// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
)

func (a *app) dial(ctx context.Context) (engine.Engine, error) {
	c, _, err := connect.Dial(ctx, connect.Options{Engine: a.engine, Env: a.Env})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// withEngine calls f with a connected engine and closes it afterwards.
func withEngine[T any](ctx context.Context, a *app, f func(context.Context, engine.Engine) (T, error)) (T, error) {
	eng, err := a.Dial(ctx)
	if err != nil {
		var none T
		return none, err
	}
	result, err := f(ctx, eng)
	if closeErr := eng.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return result, err
}
