// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/group"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// How much of a node's log is kept: lines, and characters of a line.
const (
	evidenceLines = 8
	evidenceWidth = 300
)

// noise are errors that every healthy node logs while its control plane comes up, or for want of cgroups.
const noise = "mirror pod|Server rejected event|owner ref to the node lease|NodeReady condition|Unable to write event|" +
	"watch oom events|collecting metrics|oom score|updating node status, will retry|CSINode"

// lastWords are in what etcd (zap) and the parts of Kubernetes (klog, component-base/cli) log before they give up.
const lastWords = `"level":"(fatal|panic)"|"command failed"|panic: |no space left on device`

// evidence adds the nodes' own words to a failure, while they are there. A
// node that cannot be asked is left out: the first cause must not be hidden
// by a second one.
func (c *creation) evidence(ctx context.Context, cause error) error {
	if errors.Is(cause, problem.KubeconfigUnwritable) || errors.Is(cause, problem.KubeconfigUnreadable) || errors.Is(cause, problem.KubeconfigLocked) {
		return cause // nodes have no part in it
	}
	list, err := c.engine.ListContainers(ctx, map[string]string{plan.LabelCluster: c.plan.Cluster})
	if err != nil {
		return cause
	}
	logs, err := c.nodeLogs(ctx, list)
	if err != nil {
		return cause
	}
	if host, _ := hostAtFault(logs); host != nil && !errors.Is(cause, host) {
		cause = host.Wrap(cause)
	}
	return problem.WithLogs(cause, logs...)
}

// nodeLogs are the last words of all nodes that have some.
func (c *creation) nodeLogs(ctx context.Context, list []engine.Container) ([]problem.Excerpt, error) {
	logs := make([]problem.Excerpt, len(list))
	var g group.Group
	for i, n := range list {
		g.Go(func() error {
			logs[i] = problem.Excerpt{Source: n.Name, Lines: c.nodeLog(ctx, n)}
			return nil
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(logs, func(e problem.Excerpt) bool { return len(e.Lines) == 0 }), err
}

// hostFaults are what nodes say when the host is at fault, whatever failed for
// want of it. The first that fits a line counts. inotify(7) says "no space" of
// watches, and cgroups(7) of a cpuset without CPUs.
var hostFaults = []struct {
	words *regexp.Regexp
	cause *problem.Problem // nil: the words say something else here
}{
	{regexp.MustCompile(`(?i)too many open files`), problem.HostLimit},
	{regexp.MustCompile(`(?i)(inotify|watch).*no space left on device`), problem.HostLimit},
	{regexp.MustCompile(`(?i)cgroup.*no space left on device`), nil},
	{regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`), problem.DiskFull},
}

// hostAtFault returns what the logs say is wrong with the host, and the line
// that says so; nil if it is not the host.
func hostAtFault(logs []problem.Excerpt) (*problem.Problem, string) {
	for _, e := range logs {
		for _, l := range e.Lines {
			for _, f := range hostFaults {
				if !f.words.MatchString(l) {
					continue
				}
				if f.cause != nil {
					return f.cause, e.Source + ": " + l
				}
				break
			}
		}
	}
	return nil, ""
}

func (c *creation) nodeLog(ctx context.Context, n engine.Container) []string {
	switch {
	case n.State == engine.StateRunning && n.Labels[plan.LabelRole] == plan.RoleLoadBalancer:
		return nil // one that cannot do its work ends
	case n.State == engine.StateRunning:
		// The last words of a part of the control plane, and units that failed, say more than the
		// kubelet's many warnings about a control plane that is not there yet.
		out, err := node.New(c.engine, n.ID).Output(ctx, "env", "RK_NOISE="+noise, "RK_LAST_WORDS="+lastWords, "sh", "-c",
			`systemctl --failed --plain --no-legend 2>/dev/null
journalctl --no-pager -o cat -q -b -p err -n 40 2>/dev/null
journalctl --no-pager -o cat -q -b -u kubelet -u containerd -u rk-setup -n 200 2>/dev/null | grep -E '^E[0-9]|level=(error|fatal)|rk-setup:' | grep -vE "$RK_NOISE" | tail -n 12
for log in /var/log/pods/kube-system_*/*/*.log; do
	tail -n 40 "$log" 2>/dev/null | grep -E "$RK_LAST_WORDS" | cut -d ' ' -f 4- | tail -n 2
done`)
		if err != nil {
			return nil
		}
		return lastLines(out)
	case n.State == engine.StateExited:
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
