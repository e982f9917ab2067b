// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Exec runs a process in a node and returns its exit code. A node that does
// not run is problem.NodeNotRunning.
func Exec(ctx context.Context, eng engine.Engine, n Node, p engine.Process) (exit int, err error) {
	if n.State != engine.StateRunning {
		return 0, notRunning(n)
	}
	exit, err = eng.Exec(ctx, n.Name, p)
	return exit, engineError(err)
}

// NodeImages is an image in the nodes of a cluster, under one of its names.
type NodeImages struct {
	Name  string   `json:"name"` // full; the ID of an image without a name
	ID    string   `json:"id"`
	Size  int64    `json:"size"`  // bytes, in one node
	Nodes []string `json:"nodes"` // that have it, ordered
}

// Images lists the images of running nodes, ordered by name, and the nodes
// that could not be asked. nodes are names of those to ask; none is all.
func Images(ctx context.Context, eng engine.Engine, c *Cluster, nodes []string) (images []NodeImages, silent []string, err error) {
	for _, name := range nodes {
		if !slices.ContainsFunc(c.Nodes, func(n Node) bool { return n.Name == name }) {
			return nil, nil, problem.NodeNotFound.Wrapf("cluster %q has no node %q; there are: %s", c.Name, name, strings.Join(c.nodeNames(), ", "))
		}
	}
	lists := make([][]node.Image, len(c.Nodes))
	g, gctx := group.WithContext(ctx)
	for i, n := range c.Nodes {
		switch {
		case len(nodes) > 0 && !slices.Contains(nodes, n.Name), n.Role != plan.RoleControlPlane && n.Role != plan.RoleWorker:
			continue
		case n.State != engine.StateRunning:
			silent = append(silent, n.Name)
			continue
		}
		g.Go(func() (err error) {
			lists[i], err = node.New(eng, n.Name).Images(gctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, engineError(err)
	}
	type key struct{ name, id string }
	found := map[key]*NodeImages{}
	for i, list := range lists {
		for _, img := range list {
			names := img.Tags
			if len(names) == 0 {
				names = append(slices.Clone(img.Digests), img.ID)[:1]
			}
			for _, name := range names {
				k := key{name, img.ID}
				if found[k] == nil {
					found[k] = &NodeImages{Name: name, ID: img.ID, Size: img.Size}
				}
				found[k].Nodes = append(found[k].Nodes, c.Nodes[i].Name)
			}
		}
	}
	images = []NodeImages{}
	for _, img := range found {
		images = append(images, *img)
	}
	slices.SortFunc(images, func(a, b NodeImages) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
	return images, silent, nil
}

// LogOptions rule NodeLogs.
type LogOptions struct {
	Follow bool   // go on with what comes
	Tail   int    // lines of the past; negative: all
	Unit   string // only of this systemd unit
}

// NodeLogs writes the journals of nodes: of systemd, containerd, the kubelet
// and everything else that a node runs, but not of its pods. Of a node that does not run
// it is what its container printed. With several nodes, lines begin with the
// node's name and come as they come. It ends with ctx, if it follows.
func NodeLogs(ctx context.Context, eng engine.Engine, nodes []Node, o LogOptions, w io.Writer) error {
	if len(nodes) == 1 {
		return engineError(nodeLogs(ctx, eng, nodes[0], o, w))
	}
	var mu sync.Mutex
	var g group.Group // one that fails does not end the others
	for _, n := range nodes {
		g.Go(func() error {
			lines := &prefixed{mu: &mu, w: w, prefix: []byte(n.Name + " | ")}
			return errors.Join(nodeLogs(ctx, eng, n, o, lines), lines.flush())
		})
	}
	return engineError(g.Wait())
}

func nodeLogs(ctx context.Context, eng engine.Engine, n Node, o LogOptions, w io.Writer) error {
	if n.Role == plan.RoleLoadBalancer { // no systemd runs there
		return containerLogs(ctx, eng, n, o, w)
	}
	if n.State != engine.StateRunning {
		tail := &lastOf{lines: o.Tail}
		if err := eng.ContainerLogs(ctx, n.Name, &tail.text); err != nil {
			return err
		}
		text := tail.bytes()
		if len(text) == 0 { // as journalctl says "-- No entries --"
			text = fmt.Appendf(nil, "-- %s is %s, and its container printed nothing --\n", n.Name, n.State)
		}
		_, err := w.Write(text)
		return err
	}
	argv := []string{"journalctl", "--no-pager", "--quiet"}
	if o.Tail >= 0 {
		argv = append(argv, "--lines="+strconv.Itoa(o.Tail))
	}
	if o.Follow {
		argv = append(argv, "--follow")
		if o.Tail < 0 {
			argv = append(argv, "--no-tail")
		}
	}
	if o.Unit != "" {
		argv = append(argv, "--unit="+o.Unit)
	}
	return node.New(eng, n.Name).Stream(ctx, w, argv...)
}

// followInterval is the pause between two looks at what a container has
// printed: the engine port has no way to be told.
const followInterval = 500 * time.Millisecond

// containerLogs writes what a container printed and, if it follows, goes on
// until ctx ends or the container is removed. Units are systemd's: it has none.
func containerLogs(ctx context.Context, eng engine.Engine, n Node, o LogOptions, w io.Writer) error {
	if o.Unit != "" {
		return nil
	}
	written := 0
	for first := true; ; first = false {
		printed := &lastOf{lines: -1}
		if err := eng.ContainerLogs(ctx, n.Name, &printed.text); err != nil {
			if !first && ctx.Err() != nil {
				return nil
			}
			return err
		}
		text := printed.bytes()
		news := text[min(written, len(text)):]
		if first {
			news = (&lastOf{text: printed.text, lines: o.Tail}).bytes()
		}
		written = len(text)
		if _, err := w.Write(news); err != nil {
			return err
		}
		if !o.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followInterval):
		}
	}
}

// lastOf keeps the last lines of a text.
type lastOf struct {
	text  bytes.Buffer
	lines int // negative: all
}

func (l *lastOf) bytes() []byte {
	lines := bytes.SplitAfter(l.text.Bytes(), []byte("\n"))
	if n := len(lines); n > 0 && len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	if l.lines >= 0 && len(lines) > l.lines {
		lines = lines[len(lines)-l.lines:]
	}
	return bytes.Join(lines, nil)
}

// prefixed writes whole lines with something before each.
type prefixed struct {
	mu     *sync.Mutex // of w
	w      io.Writer
	prefix []byte
	rest   []byte // of a line that has not ended
}

func (p *prefixed) Write(text []byte) (int, error) {
	p.rest = append(p.rest, text...)
	var out []byte
	for {
		line, rest, ok := bytes.Cut(p.rest, []byte("\n"))
		if !ok {
			break
		}
		out = append(append(append(out, p.prefix...), line...), '\n')
		p.rest = rest
	}
	return len(text), p.write(out)
}

func (p *prefixed) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	return p.write(fmt.Appendf(nil, "%s%s\n", p.prefix, p.rest))
}

func (p *prefixed) write(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.w.Write(out)
	return err
}
