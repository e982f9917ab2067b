// SPDX-License-Identifier: Apache-2.0

// Command bench measures `rk create cluster` on a fresh test host and prints
// it as ratios to the floor, a bare kube-apiserver of the same node image on a
// fresh etcd. All rounds run in one go on one host, in turn; the figures are medians.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

//go:embed floor.sh
var floorScript string

const hostBin = "/opt/rk"

func main() {
	rounds := flag.Int("rounds", 5, "how often each case runs")
	only := flag.String("only", "", "measure only this: create or load")
	bin := flag.String("bin", "bin", "folder with rk and node-image.tar")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *only, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// benchCase is something that is run and the moments that are measured in it.
type benchCase struct {
	names []string
	run   func(context.Context) ([]time.Duration, error) // a duration per name
	seen  [][]time.Duration
}

func createCase(size string, h *testhost.Host, workers int) *benchCase {
	return &benchCase{
		names: []string{size + ": nodes Ready, CoreDNS Available", size + ": the whole of `rk create cluster`"},
		run:   func(ctx context.Context) ([]time.Duration, error) { return create(ctx, h, workers) },
	}
}

func run(ctx context.Context, bin, only string, rounds int) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	h, err := testhost.Start(ctx, testhost.Options{
		PodmanSocket: true, Binds: []testhost.Bind{{Src: bin, Dst: hostBin}}, Progress: os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	fmt.Fprintln(os.Stderr, "loading the node image")
	ref, err := warmUp(ctx, h)
	if err != nil {
		return err
	}
	if only != "load" {
		if err := runCreate(ctx, h, ref, rounds); err != nil {
			return err
		}
	}
	if only != "create" {
		return runLoad(ctx, h, rounds)
	}
	return nil
}

// runCreate compares `rk create cluster` with the floor.
func runCreate(ctx context.Context, h *testhost.Host, ref string, rounds int) error {
	cases := []*benchCase{
		{names: []string{"floor: kube-apiserver on etcd, /readyz"}, run: func(ctx context.Context) ([]time.Duration, error) { return floor(ctx, h, ref) }},
		createCase("1 node", h, 0),
		createCase("3 nodes", h, 2),
	}
	for round := range rounds {
		for _, c := range cases {
			seen, err := c.run(ctx)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", c.names[0], round+1, err)
			}
			c.seen = append(c.seen, seen)
			for i, d := range seen {
				fmt.Fprintf(os.Stderr, "round %d: %s: %.2f s\n", round+1, c.names[i], d.Seconds())
			}
		}
	}
	table(os.Stdout, "the floor", cases)
	return nil
}

// table prints the cases; the ratio is to the first one, which to says.
func table(w io.Writer, to string, cases []*benchCase) {
	var base float64
	_, _ = fmt.Fprintf(w, "| case | median | min | max | ratio to %s |\n|---|---|---|---|---|\n", to)
	for _, c := range cases {
		for i, name := range c.names {
			var seen []time.Duration
			for _, round := range c.seen {
				seen = append(seen, round[i])
			}
			m := median(seen).Seconds()
			if base == 0 {
				base = m
			}
			_, _ = fmt.Fprintf(w, "| %s | %.2f s | %.2f s | %.2f s | %.2f |\n",
				name, m, slices.Min(seen).Seconds(), slices.Max(seen).Seconds(), m/base)
		}
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	if n := len(d); n%2 == 0 {
		return (d[n/2-1] + d[n/2]) / 2
	}
	return d[len(d)/2]
}

// warmUp loads the image, and has one cluster come and go.
func warmUp(ctx context.Context, h *testhost.Host) (ref string, err error) {
	_, err = h.User(ctx, hostBin+"/rk create cluster warm --progress quiet --image "+hostBin+"/node-image.tar && "+hostBin+"/rk delete cluster warm --progress quiet")
	if err != nil {
		return "", err
	}
	out, err := h.User(ctx, "podman images --format '{{.Repository}}:{{.Tag}}' --filter label=io.rk.node-image")
	return strings.TrimSpace(out), err
}

func floor(ctx context.Context, h *testhost.Host, ref string) ([]time.Duration, error) {
	out, err := h.User(ctx, "bash -s -- "+ref+" <<'FLOOR'\n"+floorScript+"FLOOR\n")
	if err != nil {
		return nil, err
	}
	ms, err := strconv.Atoi(strings.TrimSpace(out))
	return []time.Duration{time.Duration(ms) * time.Millisecond}, err
}

// create measures one whole command, and the moment in it at which all nodes
// are Ready and CoreDNS is Available, which is when its step "ready" is done.
func create(ctx context.Context, h *testhost.Host, workers int) ([]time.Duration, error) {
	out, err := h.User(ctx, fmt.Sprintf(`set -e
date +%%s%%N
%[1]s/rk create cluster bench --workers %[2]d --progress json 2>&1 >/dev/null
date +%%s%%N
%[1]s/rk delete cluster bench --progress quiet`, hostBin, workers))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	start, err := parseTime(lines[0])
	if err != nil {
		return nil, err
	}
	end, err := parseTime(lines[len(lines)-1])
	if err != nil {
		return nil, err
	}
	for _, line := range lines[1 : len(lines)-1] {
		var e struct {
			Time        time.Time
			Step, State string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Step == "ready" && e.State == "done" {
			return []time.Duration{e.Time.Sub(start), end.Sub(start)}, nil
		}
	}
	return nil, fmt.Errorf("the step \"ready\" is not in the progress of rk:\n%s", out)
}

func parseTime(nanoseconds string) (time.Time, error) {
	ns, err := strconv.ParseInt(nanoseconds, 10, 64)
	return time.Unix(0, ns), err
}
