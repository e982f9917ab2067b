// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// ignoreAll is the value of --ignore-preflight that ignores every check.
const ignoreAll = "all"

// probe is the child process that preflight tries things in.
func probe(d Deps, args []string) (exit int) {
	if err := preflight.RunProbe(d.Out, args); err != nil {
		_, _ = fmt.Fprintln(d.Err, err)
		return problem.ExitFailure
	}
	return 0
}

// withCheckedEngines is withEngines after the required checks of the host and
// of the engine. The host is looked at while the engine is connected to; a
// finding about the host comes first, as it is why an engine does not work.
// A plan that is only printed needs no host that could carry it out.
func (a *app) withCheckedEngines(
	cmd *cobra.Command, c config.Cluster, f createFlags, do func(context.Context, engines, preflight.Facts) error,
) error {
	ctx := cmd.Context()
	ignore, err := ignored(cmd, f.ignore)
	if err != nil {
		return err
	}
	if f.dryRun {
		_, err := withEngines(ctx, a, func(ctx context.Context, e engines) (struct{}, error) {
			return struct{}{}, do(ctx, e, preflight.Facts{})
		})
		return err
	}
	wanted := preflight.WantedBy(c)
	wanted.Quick = true
	dialing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	host := make(chan preflight.Facts, 1)
	go func() {
		facts := a.Machine.Host(ctx, wanted)
		if len(blocking(facts, ignore)) > 0 {
			giveUp() // an engine that cannot come up would be waited for
		}
		host <- facts
	}()
	all, unusable, dialErr := a.DialAll(dialing)
	facts := <-host
	if ctx.Err() == nil && len(blocking(facts, ignore)) > 0 {
		return errors.Join(stopped(blocking(facts, ignore)), closeAll(all))
	}
	if dialErr != nil {
		return a.dialFailed(ctx, facts, dialErr)
	}
	a.warnUnusable(unusable)
	facts = a.Machine.Engine(ctx, facts, all[0], nil)
	err = ctx.Err()
	if found := blocking(facts, ignore); err == nil && len(found) > 0 {
		err = stopped(found)
	}
	for _, x := range preflight.Blocking(preflight.Evaluate(facts)) {
		if err == nil {
			a.warn(fmt.Sprintf("%s is ignored, as --ignore-preflight asks: %s: %s", x.Code, x.Summary, x.Found))
		}
	}
	if err == nil {
		err = do(ctx, engines{all, unusable}, facts)
	}
	if closeErr := closeAll(all); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err
}

// dialFailed is why there is no engine, with the fix for this host.
func (a *app) dialFailed(ctx context.Context, f preflight.Facts, dialErr error) error {
	p, ok := problem.Of(dialErr)
	if !ok || ctx.Err() != nil {
		return dialErr
	}
	for _, x := range preflight.Blocking(preflight.Evaluate(a.Machine.Engine(ctx, f, nil, dialErr))) {
		if x.Code == p.Code {
			return x.Problem()
		}
	}
	return dialErr
}

// blocking are the findings that a cluster cannot be created with.
func blocking(f preflight.Facts, ignore []string) []preflight.Finding {
	return slices.DeleteFunc(preflight.Blocking(preflight.Evaluate(f)), func(x preflight.Finding) bool {
		return slices.Contains(ignore, x.Code) || slices.Contains(ignore, ignoreAll)
	})
}

// stopped is the first of blocking findings as an error, which names the others.
func stopped(found []preflight.Finding) error {
	err := found[0].Problem()
	p, ok := problem.Of(err)
	if !ok || len(found) == 1 {
		return err
	}
	var more []string
	for _, x := range found[1:] {
		more = append(more, fmt.Sprintf("%s (%s)", x.Code, x.Summary))
	}
	return p.With(p.Advice + "\nThere is more: " + strings.Join(more, ", ") + "; 'rk doctor' shows everything.").Wrap(p.Unwrap())
}

// ignored checks the values of --ignore-preflight and brings codes into capitals.
func ignored(cmd *cobra.Command, values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		if v == ignoreAll {
			out = append(out, v)
			continue
		}
		code, err := checkCode(cmd, "ignore-preflight", v)
		if err != nil {
			return nil, err
		}
		out = append(out, code)
	}
	return out, nil
}

// checkCode is the code of a check that a flag names.
func checkCode(cmd *cobra.Command, flag, value string) (string, error) {
	code := strings.ToUpper(strings.TrimSpace(value))
	if !slices.Contains(preflight.Codes(), code) {
		return "", usageErrorf(cmd, "--%s: %q is not the code of a check; 'rk doctor -o wide' lists them", flag, value)
	}
	return code, nil
}
