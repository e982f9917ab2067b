// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Summary writes where the time went: each step with its time and its share
// of the total, those of a group indented below it.
func Summary(w io.Writer, timings []step.Timing, total time.Duration) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	depth := map[string]int{}
	_, _ = fmt.Fprintf(w, "Where the time went:\n")
	for _, t := range ordered(timings) {
		d := 0
		if t.Parent != "" {
			d = depth[t.Parent] + 1
		}
		depth[t.Step] = d
		name := t.Title
		if name == "" {
			name = t.Step
		}
		note := ""
		if t.State != step.Done {
			note = "  " + string(t.State)
		}
		share := 0.0
		if total > 0 {
			share = 100 * t.Elapsed.Seconds() / total.Seconds()
		}
		_, _ = fmt.Fprintf(tw, "%s\t%.0f%%\t  %s%s%s\n", seconds(t.Elapsed), share, strings.Repeat("  ", d), oneLine(name), note)
	}
	_, _ = fmt.Fprintf(tw, "%s\t%s\t  %s\n", seconds(total), "", "total")
	return tw.Flush()
}

// ordered puts each step after its parent and the parent's earlier steps.
func ordered(timings []step.Timing) []step.Timing {
	out := make([]step.Timing, 0, len(timings))
	var add func(parent string)
	add = func(parent string) {
		for _, t := range timings {
			if t.Parent == parent {
				out = append(out, t)
				add(t.Step)
			}
		}
	}
	add("")
	return out
}
