// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/exec"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/plan"
)

// Nodes returns the nodes of a cluster of rk's as kind's, ordered by name, so
// that what is written for kind's nodes works on them: kind's package
// nodeutils, for instance. ctx bounds commands that are made without one.
func Nodes(ctx context.Context, eng engine.Engine, clusterName string) ([]nodes.Node, error) {
	containers, err := eng.ListContainers(ctx, map[string]string{plan.LabelCluster: clusterName})
	if err != nil {
		return nil, err
	}
	out := make([]nodes.Node, len(containers))
	for i, c := range containers {
		out[i] = &node{ctx, eng, c}
	}
	return out, nil
}

// node is a container of rk's as kind's Node.
type node struct {
	ctx       context.Context // kind's interface has commands without one
	engine    engine.Engine
	container engine.Container
}

var _ nodes.Node = (*node)(nil)

// String returns the node's name.
func (n *node) String() string { return n.container.Name }

// Role returns the node's role. rk's are named as kind's.
func (n *node) Role() (string, error) {
	role, ok := n.container.Labels[plan.LabelRole]
	if !ok {
		return "", fmt.Errorf("%s: %w", n.container.Name, errNoRole)
	}
	return role, nil
}

var errNoRole = errors.New("the container has no role in a cluster of rk's")

// IP returns the node's addresses in its network.
func (n *node) IP() (ipv4, ipv6 string, err error) {
	switch ip := n.container.IP; {
	case ip.Is4():
		return ip.String(), "", nil
	case ip.IsValid():
		return "", ip.String(), nil
	}
	return "", "", nil
}

// SerialLogs writes what the container printed.
func (n *node) SerialLogs(w io.Writer) error {
	return n.engine.ContainerLogs(n.ctx, n.container.ID, w)
}

// Command returns a command that runs in the node.
func (n *node) Command(name string, args ...string) exec.Cmd {
	return n.CommandContext(n.ctx, name, args...)
}

// CommandContext is Command with a context of its own.
func (n *node) CommandContext(ctx context.Context, name string, args ...string) exec.Cmd {
	return &command{ctx: ctx, node: n, process: engine.Process{Argv: append([]string{name}, args...)}}
}

// command is a command in a node.
type command struct {
	ctx     context.Context // as in kind's own commands
	node    *node
	process engine.Process
}

// SetEnv adds variables, "NAME=value".
func (c *command) SetEnv(env ...string) exec.Cmd {
	if c.process.Env == nil {
		c.process.Env = map[string]string{}
	}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		c.process.Env[name] = value
	}
	return c
}

// SetStdin sets the standard input.
func (c *command) SetStdin(r io.Reader) exec.Cmd { c.process.Stdin = r; return c }

// SetStdout sets where the standard output goes.
func (c *command) SetStdout(w io.Writer) exec.Cmd { c.process.Stdout = w; return c }

// SetStderr sets where the standard error goes.
func (c *command) SetStderr(w io.Writer) exec.Cmd { c.process.Stderr = w; return c }

// versionFile is where kind's node images say their Kubernetes version. rk's
// have it as a label.
const versionFile = "/kind/version"

// Run runs the command and returns a [exec.RunError] if it does not succeed.
func (c *command) Run() error {
	if version := c.node.container.Labels[plan.LabelKubernetesVersion]; version != "" && slices.Equal(c.process.Argv, []string{"cat", versionFile}) {
		_, err := io.WriteString(cmp.Or(c.process.Stdout, io.Discard), version+"\n")
		return err
	}
	var output output
	p := c.process
	p.Stdout, p.Stderr = output.and(p.Stdout), output.and(p.Stderr)
	exit, err := c.node.engine.Exec(c.ctx, c.node.container.ID, p)
	if err == nil && exit != 0 {
		err = &exitError{exit}
	}
	if err != nil {
		return &exec.RunError{Command: p.Argv, Output: output.bytes(), Inner: err}
	}
	return nil
}

// exitError is an exit code other than 0.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// ExitCode returns the exit code, as that of os/exec's does.
func (e *exitError) ExitCode() int { return e.code }

// output keeps what a command prints, for its error.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// and returns a writer that writes to w, too, if there is one.
func (o *output) and(w io.Writer) io.Writer { return &tee{o, w} }

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.all.Bytes())
}

// maxOutput is how much of the output is kept, in bytes.
const maxOutput = 1 << 20

type tee struct {
	output *output
	w      io.Writer
}

func (t *tee) Write(p []byte) (int, error) {
	t.output.mu.Lock()
	t.output.all.Write(p[:min(len(p), max(0, maxOutput-t.output.all.Len()))])
	t.output.mu.Unlock()
	if t.w == nil {
		return len(p), nil
	}
	return t.w.Write(p)
}
