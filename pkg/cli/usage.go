// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// usageError says that the command line of cmd is not valid.
func usageError(cmd *cobra.Command, err error) error {
	return problem.InvalidUsage.Withf("See '%s --help'.", cmd.CommandPath()).Wrap(err)
}

func usageErrorf(cmd *cobra.Command, format string, args ...any) error {
	return usageError(cmd, fmt.Errorf(format, args...)) //nolint:err113 // the caller's format is the error
}

// usage makes errors of a check of arguments usage errors.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(cmd, err)
		}
		return nil
	}
}

// noCommand refuses the argument of a command that only has subcommands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // cobra's default for the root alone
	suggestions := cmd.SuggestionsFor(args[0])
	if len(suggestions) == 0 {
		return fmt.Errorf("there is no command %q; there are: %s", cmd.CommandPath()+" "+args[0], subcommands(cmd))
	}
	return fmt.Errorf("there is no command %q; did you mean %s?", cmd.CommandPath()+" "+args[0], strings.Join(suggestions, " or "))
}

func subcommands(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return strings.Join(names, ", ")
}

// oneName allows one argument: the name of a cluster.
func oneName(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("one cluster name is expected, but there are %d arguments: %s", len(args), strings.Join(args, " "))
	}
	return nil
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("no arguments are expected, but there is %q", args[0])
	}
	return nil
}

// oneOf checks the value of a flag.
func oneOf(cmd *cobra.Command, flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	last := len(allowed) - 1
	return usageErrorf(cmd, "--%s %q is not known; it is %s or %s", flag, value, strings.Join(allowed[:last], ", "), allowed[last])
}

// choices registers the values of a flag for shell completion.
func choices(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag does not exist, or has its values already
	}
}
