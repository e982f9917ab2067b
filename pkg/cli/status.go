// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/ui"
)

func (a *app) status() *cobra.Command {
	var output, givenName string
	cmd := &cobra.Command{
		Use: "status [NAME]", Short: "Show how a cluster is doing: nodes, control plane, add-ons, ports",
		Long: `Show how a cluster is doing: its nodes with their versions, published ports and
sizes, the API, the control plane and the add-ons. It waits for nothing.

The exit code is 0 if everything is as it should be, 1 if not, and what is wrong is listed.`,
		Example: `  rk status demo
  rk status demo -o json | jq .healthy`,
		Args: usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := ui.ParseFormat(output, documentFormats...)
			if err != nil {
				return err
			}
			name, err := a.oneCluster(cmd, args, givenName)
			if err != nil {
				return err
			}
			s, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) (*cluster.ClusterStatus, error) {
				eng, c, err := e.holding(ctx, name)
				if err != nil {
					return nil, err
				}
				return cluster.Describe(ctx, eng, c)
			})
			if err != nil {
				return err
			}
			if format == ui.FormatTable {
				err = a.printStatus(s)
			} else {
				err = ui.PrintValue(a.Out, format, s)
			}
			if err == nil && !s.Healthy {
				err = problem.ClusterUnhealthy.Withf("'rk logs %[1]s' shows the journals of its nodes, 'rk export logs %[1]s' collects everything.", name).
					Wrapf("cluster %q: %s", name, strings.Join(s.Problems, "; "))
			}
			return err
		},
		ValidArgsFunction: a.completeNames,
	}
	nameFlag(cmd, &givenName, "name of the cluster")
	completeFlag(cmd, "name", a.completeNames)
	outputFlag(cmd, &output, documentFormats...)
	return cmd
}

func (a *app) printStatus(s *cluster.ClusterStatus) error {
	health := "healthy"
	if !s.Healthy {
		health = "not healthy"
	}
	api := "ready"
	if !s.API.Ready {
		api = s.API.Message
	}
	_, err := fmt.Fprintf(a.Out, "Cluster:     %s (%s, %s)\nKubernetes:  %s\nEngine:      %s\nAge:         %s\nAPI server:  https://%s, %s\n\n",
		s.Name, s.Status, health, s.KubernetesVersion, s.Engine, a.age(s.Created), s.API.Address, api)
	if err != nil {
		return err
	}
	type node = ui.Column[cluster.NodeStatus]
	err = ui.PrintList(a.Out, ui.FormatTable, s.Nodes,
		node{Name: "NODE", Value: func(n cluster.NodeStatus) string { return n.Name }},
		node{Name: "ROLE", Value: func(n cluster.NodeStatus) string { return n.Role }},
		node{Name: "STATE", Value: func(n cluster.NodeStatus) string { return string(n.State) }},
		node{Name: "READY", Value: func(n cluster.NodeStatus) string { return yesNo(n.Ready) }},
		node{Name: "VERSION", Value: func(n cluster.NodeStatus) string { return n.Kubelet }},
		node{Name: "IP", Value: func(n cluster.NodeStatus) string { return n.IP }},
		node{Name: "PORTS", Value: ports},
		node{Name: "DISK", Value: func(n cluster.NodeStatus) string { return bytesText(n.Disk) }},
	)
	if err != nil {
		return err
	}
	parts := make([]statusPart, 0, len(s.ControlPlane)+len(s.Addons))
	for _, c := range s.ControlPlane {
		parts = append(parts, componentPart(c))
	}
	for _, w := range s.Addons {
		parts = append(parts, statusPart{w.Namespace + "/" + w.Name, w.Kind, fmt.Sprintf("%d/%d", w.Ready, w.Wanted)})
	}
	if len(parts) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.Out); err != nil {
		return err
	}
	type column = ui.Column[statusPart]
	return ui.PrintList(a.Out, ui.FormatTable, parts,
		column{Name: "PART", Value: func(p statusPart) string { return p.name }},
		column{Name: "WHERE", Value: func(p statusPart) string { return p.where }},
		column{Name: "READY", Value: func(p statusPart) string { return p.ready }},
	)
}

// statusPart is a part of the control plane, or an add-on.
type statusPart struct{ name, where, ready string }

func componentPart(c kube.Component) statusPart {
	return statusPart{c.Name, c.Node, yesNo(c.Ready)}
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// ports shows published ports as `docker ps` does.
func ports(n cluster.NodeStatus) string {
	var out []string
	for _, p := range n.Ports {
		out = append(out, fmt.Sprintf("%s:%d->%d/%s", p.HostIP, p.HostPort, p.ContainerPort, p.Protocol))
	}
	return strings.Join(out, ",")
}

// bytesText is a size as it is shown, "" for none.
func bytesText(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
