// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

// formatTable is the default format by its name.
const formatTable ui.Format = "table"

var doctorFormats = []ui.Format{formatTable, ui.FormatWide, ui.FormatJSON, ui.FormatYAML}

// doctorFlags are the flags of "rk doctor".
type doctorFlags struct {
	output, config              string
	only                        []string
	fixScript, multiHost, quiet bool
}

func (a *app) doctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check whether this host can run clusters, and say how to repair it",
		Long: `Check what a cluster needs of the host and of the container engine. For each
problem rk says what was found, why it matters, and the commands that repair it
on this distribution. It changes nothing and needs no root; what an ordinary
user cannot read is shown as unknown.

The exit code is 0 if all required checks pass, 3 if one failed. Failed
recommendations do not change it.`,
		Example: `  rk doctor
  rk doctor --fix-script >fix.sh    # read it, then: sudo sh fix.sh
  rk doctor -q && rk create cluster`,
		Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.examine(cmd, f) },
	}
	fs := cmd.Flags()
	outputFlag(cmd, &f.output, doctorFormats...)
	fs.BoolVar(&f.fixScript, "fix-script", false, "print a shell script for root that repairs what failed, and nothing else")
	fs.BoolVar(&f.multiHost, "multi-host", false, "also check what clusters across several hosts need")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print no result: the exit code tells, and the error names what failed")
	fs.StringVar(&f.config, "config", "", "check for the cluster of this configuration file, - for standard input")
	fs.StringSliceVar(&f.only, "only", nil, "show only the checks of these codes")
	return cmd
}

// diagnosis is the result of "rk doctor".
type diagnosis struct {
	Host     string              `json:"host"`             // distribution and kernel
	Engine   *engine.Info        `json:"engine,omitempty"` // absent if it does not answer
	Ready    bool                `json:"ready"`            // no required check failed
	Findings []preflight.Finding `json:"findings"`
}

func (a *app) examine(cmd *cobra.Command, f doctorFlags) error {
	format, err := ui.ParseFormat(f.output, doctorFormats...)
	if err != nil {
		return err
	}
	if f.fixScript && (f.output != "" || f.quiet) {
		return usageErrorf(cmd, "--fix-script prints a script; it does not go with --output and --quiet")
	}
	var only []string
	for _, v := range f.only {
		code, err := checkCode(cmd, "only", v)
		if err != nil {
			return err
		}
		only = append(only, code)
	}
	file, err := a.readConfig(f.config)
	if err != nil {
		return err
	}
	wanted := preflight.WantedBy(config.Default(file.cluster))
	wanted.MultiHost = f.multiHost
	facts, err := a.facts(cmd.Context(), wanted)
	if err != nil {
		return err
	}
	d := diagnose(facts, only)
	switch {
	case f.fixScript:
		_, err := io.WriteString(a.Out, preflight.Script(facts.User, d.Findings))
		return err
	case f.quiet:
	case format == ui.FormatJSON || format == ui.FormatYAML:
		err = ui.PrintValue(a.Out, format, d)
	case format == ui.FormatWide:
		err = a.printFindings(d.Findings)
	default:
		err = a.printDiagnosis(d)
	}
	if err != nil {
		return err
	}
	return d.err()
}

// facts gathers everything: the host while the engine is connected to.
func (a *app) facts(ctx context.Context, w preflight.Wanted) (preflight.Facts, error) {
	host := make(chan preflight.Facts, 1)
	go func() { host <- a.Machine.Host(ctx, w) }()
	eng, err := a.Dial(ctx)
	facts := a.Machine.Engine(ctx, <-host, eng, err)
	if err == nil {
		err = eng.Close()
	} else {
		err = nil // it is a finding
	}
	return facts, errors.Join(ctx.Err(), err)
}

func diagnose(f preflight.Facts, only []string) diagnosis {
	d := diagnosis{Host: strings.TrimPrefix(f.OS.Name+", Linux "+f.Kernel.Value, ", "), Findings: preflight.Evaluate(f)}
	if f.Engine.Known {
		d.Engine = &f.Engine.Value
	}
	if len(only) > 0 {
		d.Findings = slices.DeleteFunc(d.Findings, func(x preflight.Finding) bool { return !slices.Contains(only, x.Code) })
	}
	slices.SortStableFunc(d.Findings, func(x, y preflight.Finding) int { return rank(x) - rank(y) })
	d.Ready = len(preflight.Blocking(d.Findings)) == 0
	return d
}

// rank orders findings: what failed by its level, what is unknown, the rest.
func rank(x preflight.Finding) int {
	switch x.Status {
	case preflight.Failed:
		return slices.Index([]preflight.Level{preflight.Required, preflight.MultiHost, preflight.Recommended}, x.Level)
	case preflight.Unknown:
		return 3
	default:
		return 4
	}
}

// err is the error of a host that is not ready.
func (d diagnosis) err() error {
	var failed []string
	for _, x := range preflight.Blocking(d.Findings) {
		failed = append(failed, fmt.Sprintf("%s (%s)", x.Code, x.Summary))
	}
	if len(failed) == 0 {
		return nil
	}
	return problem.HostNotReady.Wrapf("checks that must pass did not: %s", strings.Join(failed, ", "))
}

func (a *app) printFindings(findings []preflight.Finding) error {
	type column = ui.Column[preflight.Finding]
	return ui.PrintList(a.Out, ui.FormatWide, findings,
		column{Name: "CODE", Value: func(x preflight.Finding) string { return x.Code }},
		column{Name: "CHECK", Value: func(x preflight.Finding) string { return x.Check }},
		column{Name: "LEVEL", Value: func(x preflight.Finding) string { return string(x.Level) }},
		column{Name: "STATUS", Value: func(x preflight.Finding) string { return string(x.Status) }},
		column{Name: "FOUND", Value: func(x preflight.Finding) string { return x.Found }},
	)
}

// printDiagnosis shows problems in full, then what is not known, and counts the rest.
func (a *app) printDiagnosis(d diagnosis) error {
	var b strings.Builder
	engineName := "no container engine"
	if d.Engine != nil {
		engineName = d.Engine.Name + " " + d.Engine.Version
	}
	fmt.Fprintf(&b, "%s; %s\n", d.Host, engineName)
	count := map[preflight.Status]int{}
	blocked := len(preflight.Blocking(d.Findings))
	for _, x := range d.Findings {
		count[x.Status]++
		if x.Status == preflight.Failed {
			fmt.Fprintf(&b, "\n%s  %s: %s\n", x.Code, x.Level, x.Summary)
			fmt.Fprintf(&b, "  Found: %s\n", x.Found)
			fmt.Fprintf(&b, "  Why:   %s\n", wrap(x.Why, "         "))
			fmt.Fprintf(&b, "  Fix:   %s\n", strings.ReplaceAll(x.Fix.Text(), "\n", "\n         "))
		}
	}
	if count[preflight.Unknown] > 0 {
		b.WriteString("\nNot known:\n")
		for _, x := range d.Findings {
			if x.Status == preflight.Unknown {
				fmt.Fprintf(&b, "  %s  %s: %s\n", x.Code, x.Check, x.Found)
			}
		}
	}
	if a.verbose && count[preflight.OK] > 0 {
		b.WriteString("\nOk:\n")
		for _, x := range d.Findings {
			if x.Status == preflight.OK {
				fmt.Fprintf(&b, "  %s  %s: %s\n", x.Code, x.Check, x.Found)
			}
		}
	}
	fmt.Fprintf(&b, "\n%d checks: %d ok, %d failed (%d of them must pass), %d not known.",
		len(d.Findings), count[preflight.OK], count[preflight.Failed], blocked, count[preflight.Unknown])
	switch {
	case blocked == 0 && count[preflight.Failed] == 0:
		b.WriteString(" Clusters can be created.")
	case blocked == 0:
		b.WriteString(" Clusters can be created; what failed is recommended.")
	}
	b.WriteString("\n")
	_, err := io.WriteString(a.Out, b.String())
	return err
}

// wrap breaks text into lines of about 100 characters.
func wrap(text, indent string) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+len(word) > 95 {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n"+indent)
}
