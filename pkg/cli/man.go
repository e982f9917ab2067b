// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// envSourceDate is the time of reproducible builds, in seconds since 1970
// (https://reproducible-builds.org/specs/source-date-epoch).
const envSourceDate = "SOURCE_DATE_EPOCH"

func (a *app) man() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write manual pages, one for each command",
		Long: `Write manual pages of section 1, one for each command, into a folder, which is
made if it does not exist. The time in them is $SOURCE_DATE_EPOCH, else that of today.`,
		Example: `  rk man ~/.local/share/man/man1
  man rk-create-cluster`,
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("one folder is expected, and %d are given", len(args))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := a.manDate(cmd)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "rk " + version, Manual: "rk manual", Date: &date}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return err
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "rk*.1"))
			if err != nil {
				return err
			}
			slices.Sort(pages)
			_, err = fmt.Fprintln(a.Out, strings.Join(pages, "\n"))
			return err
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
}

func (a *app) manDate(cmd *cobra.Command) (time.Time, error) {
	text := a.Env(envSourceDate)
	if text == "" {
		return a.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usageErrorf(cmd, "$%s is not a number of seconds: %w", envSourceDate, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
