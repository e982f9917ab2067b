// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"errors"
	"slices"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Level says what a failed check means.
type Level string

// Levels, the strictest first.
const (
	Required    Level = "required"    // clusters do not come up, or not as configured
	MultiHost   Level = "multi-host"  // clusters across hosts do not work; those of one host do
	Recommended Level = "recommended" // clusters come up, but something will not work, or not well
)

// Status is the result of a check.
type Status string

// The results. Unknown is for facts that the user may not or cannot read.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Unknown Status = "unknown"
)

// Finding is the result of one check.
type Finding struct {
	Code    string `json:"code"`  // of package problem; 'rk explain CODE' tells more
	Check   string `json:"check"` // what was looked at, in a few words
	Level   Level  `json:"level"`
	Status  Status `json:"status"`
	Summary string `json:"summary,omitempty"` // what is wrong; only if it failed
	Found   string `json:"found"`             // what was found, or why that is not known
	Why     string `json:"why"`               // why it matters
	Fix     Fix    `json:"fix,omitzero"`      // only if it failed

	problem *problem.Problem
}

// Problem is the finding as an error with its code and the exact fix.
func (f Finding) Problem() error {
	return f.problem.With(f.Fix.Text()).Wrap(errors.New(f.Found)) //nolint:err113 // the finding's own words
}

// check is one check: what it is about, and a pure look at the facts.
type check struct {
	problem *problem.Problem
	name    string // what is looked at
	level   Level
	why     string // full sentences
	look    func(f *Facts) verdict
	wrong   string // what is wrong if it failed; default: the problem's summary
}

// verdict is what a check says of facts. The zero value says that it does not
// apply: there is no finding then.
type verdict struct {
	status  Status
	found   string
	fix     Fix
	level   Level            // "": the check's
	problem *problem.Problem // nil: the check's
}

func pass(found string) verdict          { return verdict{status: OK, found: found} }
func fail(found string, fix Fix) verdict { return verdict{status: Failed, found: found, fix: fix} }
func dunno(why string) verdict {
	return verdict{status: Unknown, found: cmp.Or(why, "this was not looked for")}
}
func (v verdict) at(level Level) verdict        { v.level = level; return v }
func (v verdict) as(p *problem.Problem) verdict { v.problem = p; return v }

// Evaluate judges facts: a finding for each check that applies, ordered by
// code. It is pure. Checks of level MultiHost apply if f.Wanted.MultiHost.
func Evaluate(f Facts) []Finding {
	var out []Finding
	for _, c := range checks() {
		if c.level == MultiHost && !f.Wanted.MultiHost {
			continue
		}
		v := c.look(&f)
		if v.status == "" {
			continue
		}
		p := cmp.Or(v.problem, c.problem)
		x := Finding{Code: p.Code, Check: c.name, Level: cmp.Or(v.level, c.level), Status: v.status, Found: v.found, Why: c.why, problem: p}
		if v.status == Failed {
			x.Summary, x.Fix = cmp.Or(c.wrong, p.Summary), v.fix
			if p != c.problem {
				x.Summary = p.Summary
			}
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(a.Code, b.Code) })
	return out
}

// Blocking returns the failed findings that a cluster cannot do without:
// those of level Required, and of level MultiHost where that is wanted.
func Blocking(findings []Finding) []Finding {
	var out []Finding
	for _, x := range findings {
		if x.Status == Failed && x.Level != Recommended {
			out = append(out, x)
		}
	}
	return out
}

// checks is the table of all checks.
func checks() []check {
	return slices.Concat(sessionChecks, cgroupChecks, idChecks, kernelChecks, limitChecks, engineChecks, storageChecks, networkChecks, multiHostChecks)
}

// Codes are the codes of all checks, also those that a check has only in some
// cases, ordered.
func Codes() []string {
	codes := []string{
		problem.NoEngine.Code, problem.EngineRootful.Code, problem.EngineTooOld.Code, problem.EngineFailed.Code, problem.EngineServiceFailed.Code,
	}
	for _, c := range checks() {
		codes = append(codes, c.problem.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}
