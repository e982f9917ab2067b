// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"

	"github.com/rootless-kubernetes/rk/pkg/config"
)

// setCount makes the number of nodes of a role n. Labels, taints and image of
// an entry of that role stay; several such entries are an error, since it
// cannot be known which of them is meant.
func setCount(nodes []config.Node, role string, n int) ([]config.Node, error) {
	nodes = slices.Clone(nodes)
	if len(nodes) == 0 && role != config.RoleControlPlane {
		nodes = []config.Node{{Role: config.RoleControlPlane}} // the default, which the new entry would hide
	}
	var at []int
	for i := range nodes {
		if nodes[i].Role == role {
			at = append(at, i)
		}
	}
	switch {
	case len(at) > 1:
		return nil, fmt.Errorf("the configuration has %d entries of role %s; set their counts there", len(at), role)
	case n == 0:
		return slices.DeleteFunc(nodes, func(n config.Node) bool { return n.Role == role }), nil
	case len(at) == 1:
		nodes[at[0]].Count = n
		return nodes, nil
	}
	return append(nodes, config.Node{Role: role, Count: n}), nil
}
