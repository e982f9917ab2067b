// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// Evidence is a failure together with what the nodes said, collected before
// anything was undone.
type Evidence struct {
	Err   error
	Nodes []NodeLog // only nodes that had something to say
}

// NodeLog is the last relevant lines of one node.
type NodeLog struct {
	Node  string
	Lines []string
}

func (e *Evidence) Error() string { return e.Err.Error() }

// Unwrap returns the failure itself.
func (e *Evidence) Unwrap() error { return e.Err }

// How much of a node's log is kept: lines, and characters of a line.
const (
	evidenceLines = 8
	evidenceWidth = 300
)

// evidence collects the nodes' logs. A node that cannot be asked is left out:
// the first cause must not be hidden by a second one.
func (c *creation) evidence(ctx context.Context, cause error) error {
	list, err := c.engine.ListContainers(ctx, map[string]string{plan.LabelCluster: c.plan.Cluster})
	if err != nil {
		return cause
	}
	logs := make([]NodeLog, len(list))
	var wg sync.WaitGroup
	for i, n := range list {
		wg.Go(func() { logs[i] = NodeLog{Node: n.Name, Lines: c.nodeLog(ctx, n)} })
	}
	wg.Wait()
	e := &Evidence{Err: cause}
	for _, l := range logs {
		if len(l.Lines) > 0 {
			e.Nodes = append(e.Nodes, l)
		}
	}
	if len(e.Nodes) == 0 {
		return cause
	}
	return e
}

func (c *creation) nodeLog(ctx context.Context, n engine.Container) []string {
	switch n.State {
	case engine.StateRunning:
		// Units that failed say more than the kubelet's many warnings about a control plane that is not there yet.
		out, err := node.New(c.engine, n.ID).Output(ctx, "sh", "-c",
			`systemctl --failed --plain --no-legend 2>/dev/null
journalctl --no-pager -o cat -q -b -p err -n 40 2>/dev/null
journalctl --no-pager -o cat -q -b -u kubelet -u containerd -u rk-setup -n 200 2>/dev/null | grep -E '^E[0-9]|level=(error|fatal)|rk-setup:' | grep -vE 'watch oom events|oom score' | tail -n 12`)
		if err != nil {
			return nil
		}
		return lastLines(out)
	case engine.StateExited:
		var out bytes.Buffer
		if err := c.engine.ContainerLogs(ctx, n.ID, &out); err != nil {
			return nil
		}
		return lastLines(out.Bytes())
	}
	return nil
}

// lastLines returns the last lines of out, without repetitions and blank lines.
func lastLines(out []byte) []string {
	var lines []string
	for _, l := range strings.Split(string(out), "\n") {
		l = strings.TrimSpace(l)
		if l == "" || (len(lines) > 0 && lines[len(lines)-1] == l) {
			continue
		}
		if runes := []rune(l); len(runes) > evidenceWidth {
			l = string(runes[:evidenceWidth]) + "…"
		}
		lines = append(lines, l)
	}
	return lines[max(0, len(lines)-evidenceLines):]
}
