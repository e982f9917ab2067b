// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

//go:embed load.sh
var loadScript string

// loadCases are the lines that load.sh prints, in milliseconds: the first is
// what the others are compared with.
var loadCases = []string{
	"load: the full archive is saved, and imported on each of 3 nodes",
	"load: `rk load image`, nothing is there",
	"load: `rk load image`, the base is there",
	"load: `rk load image`, all is there",
}

// runLoad compares `rk load image` with importing the full archive on each node.
func runLoad(ctx context.Context, h *testhost.Host, rounds int) (err error) {
	create := hostBin + "/rk create cluster bench --workers 2 --progress quiet && bash -s -- prepare <<'LOAD'\n" + loadScript + "LOAD\n"
	if _, err := h.User(ctx, create); err != nil {
		return err
	}
	c := &benchCase{names: loadCases}
	for round := range rounds {
		out, err := h.User(ctx, "bash -s -- round <<'LOAD'\n"+loadScript+"LOAD\n")
		if err != nil {
			return fmt.Errorf("load, round %d: %w", round+1, err)
		}
		lines := strings.Fields(out)
		if len(lines) != len(loadCases) {
			return fmt.Errorf("load, round %d: %d figures are expected:\n%s", round+1, len(loadCases), out)
		}
		seen := make([]time.Duration, len(lines))
		for i, l := range lines {
			ms, err := strconv.Atoi(l)
			if err != nil {
				return err
			}
			seen[i] = time.Duration(ms) * time.Millisecond
			fmt.Fprintf(os.Stderr, "round %d: %s: %.2f s\n", round+1, loadCases[i], seen[i].Seconds())
		}
		c.seen = append(c.seen, seen)
	}
	_, _ = fmt.Fprintln(os.Stdout)
	table(os.Stdout, "the full import", []*benchCase{c})
	_, err = h.User(ctx, hostBin+"/rk delete cluster bench --progress quiet")
	return err
}
