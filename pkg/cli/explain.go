// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/docs"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Explain the code of an error or a check: its cause and the fix; without one, list all codes",
		Example: `  rk explain RK103
  rk explain`,
		Args: usage(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, p := range problem.All() {
				codes = append(codes, p.Code+"\t"+p.Summary)
			}
			return codes, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listProblems()
			}
			text, ok := docs.Code(args[0])
			if !ok {
				return usageErrorf(cmd, "there is no code %q; 'rk explain' lists all", args[0])
			}
			_, err := io.WriteString(a.Out, text)
			return err
		},
	}
}

func (a *app) listProblems() error {
	for _, p := range problem.All() {
		if _, err := fmt.Fprintf(a.Out, "%s  %s\n", p.Code, p.Summary); err != nil {
			return err
		}
	}
	return nil
}
