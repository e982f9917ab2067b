// SPDX-License-Identifier: Apache-2.0

// Command bench measures `rk create cluster` on a fresh test host and prints
// it as ratios to the floor, a bare kube-apiserver of the same node image on a
// fresh etcd. All rounds run in one go on one host, in turn; the figures are medians.
package main

import (
	"context"
	_ "embed"
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
	bin := flag.String("bin", "bin", "folder with rk and node-image.tar")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type benchCase struct {
	name string
	run  func(context.Context) (time.Duration, error)
	seen []time.Duration
}

func run(ctx context.Context, bin string, rounds int) (err error) {
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
	cases := []*benchCase{
		{name: "floor: kube-apiserver on etcd, /readyz", run: func(ctx context.Context) (time.Duration, error) { return floor(ctx, h, ref) }},
		{name: "rk create cluster, 1 node", run: func(ctx context.Context) (time.Duration, error) { return create(ctx, h, 0) }},
		{name: "rk create cluster, 3 nodes", run: func(ctx context.Context) (time.Duration, error) { return create(ctx, h, 2) }},
	}
	for round := range rounds {
		for _, c := range cases {
			d, err := c.run(ctx)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			fmt.Fprintf(os.Stderr, "round %d: %s: %.2f s\n", round+1, c.name, d.Seconds())
			c.seen = append(c.seen, d)
		}
	}
	table(os.Stdout, cases)
	return nil
}

func table(w io.Writer, cases []*benchCase) {
	base := median(cases[0].seen)
	_, _ = fmt.Fprintf(w, "| case | median | min | max | ratio to the floor |\n|---|---|---|---|---|\n")
	for _, c := range cases {
		m := median(c.seen)
		_, _ = fmt.Fprintf(w, "| %s | %.2f s | %.2f s | %.2f s | %.2f |\n",
			c.name, m.Seconds(), slices.Min(c.seen).Seconds(), slices.Max(c.seen).Seconds(), float64(m)/float64(base))
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

func floor(ctx context.Context, h *testhost.Host, ref string) (time.Duration, error) {
	out, err := h.User(ctx, "bash -s -- "+ref+" <<'FLOOR'\n"+floorScript+"FLOOR\n")
	if err != nil {
		return 0, err
	}
	ms, err := strconv.Atoi(strings.TrimSpace(out))
	return time.Duration(ms) * time.Millisecond, err
}

// create measures one whole command: it returns when all nodes are Ready and CoreDNS is Available.
func create(ctx context.Context, h *testhost.Host, workers int) (time.Duration, error) {
	out, err := h.User(ctx, fmt.Sprintf(`set -e
start=$(date +%%s%%3N)
%[1]s/rk create cluster bench --workers %[2]d --progress quiet
echo $(($(date +%%s%%3N) - start))
%[1]s/rk delete cluster bench --progress quiet`, hostBin, workers))
	if err != nil {
		return 0, err
	}
	ms, err := strconv.Atoi(strings.TrimSpace(out))
	return time.Duration(ms) * time.Millisecond, err
}
