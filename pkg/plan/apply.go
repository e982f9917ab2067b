// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Object is a Kubernetes object of the user, applied after the add-ons.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// Source is where it is from, for messages: "app/web.yaml, document 2".
	Source string `json:"source"`
	// JSON is the object itself. It may hold secrets, so no plan shows it.
	JSON []byte `json:"-"`
	// Shown is the object as YAML without its secrets.
	Shown string `json:"manifest"`
}

// files are the files of the configuration for a node, as those of rk itself.
func (m *maker) files(n Node) ([]File, error) {
	var out []File
	for i, f := range m.config.Files {
		if len(f.Roles) > 0 && !slices.Contains(f.Roles, n.Role) || len(f.Nodes) > 0 && !slices.Contains(f.Nodes, n.Name) {
			continue
		}
		name := nodePath(f.Path)
		if written(n, name) {
			return nil, problem.InvalidConfig.Wrap(config.Errors{{
				Path: fmt.Sprintf("files[%d].path", i), Message: f.Path + " is written by rk itself; patches change it (kubeadmPatches, containerdPatches)",
			}})
		}
		if slices.ContainsFunc(out, func(o File) bool { return o.Path == name }) {
			return nil, problem.InvalidConfig.Wrap(config.Errors{{
				Path: fmt.Sprintf("files[%d].path", i), Message: fmt.Sprintf("%s is given twice for node %s; keep one", f.Path, n.Name),
			}})
		}
		mode, err := f.Permissions()
		if err != nil {
			return nil, fmt.Errorf("files[%d].mode: %w", i, err)
		}
		uid, gid, err := f.IDs()
		if err != nil {
			return nil, fmt.Errorf("files[%d].owner: %w", i, err)
		}
		out = append(out, File{Path: name, Mode: mode, Content: f.Content, UID: uid, GID: gid, Given: true})
	}
	return out, nil
}

// written says that rk itself writes a file of a node.
func written(n Node, name string) bool {
	pair := name // of a certificate and its key
	for _, ext := range []string{".crt", ".key", ".pub"} {
		pair = strings.TrimSuffix(pair, ext)
	}
	cas := []string{pkiDir + "/ca", pkiDir + "/front-proxy-ca", pkiDir + "/etcd/ca", pkiDir + "/sa"}
	return pair != name && slices.Contains(cas, pair) ||
		slices.ContainsFunc(n.Files, func(f File) bool { return f.Path == name }) ||
		slices.ContainsFunc(n.Certificates, func(c pki.Certificate) bool { return pair != name && c.Path == pair }) ||
		slices.ContainsFunc(n.Kubeconfigs, func(k pki.Kubeconfig) bool { return k.Path == name })
}

// nodePath is where a file lies in a node's container before it starts.
func nodePath(name string) string {
	name = path.Clean(name)
	if rest, ok := strings.CutPrefix(name, "/var/"); ok {
		return VarSeed + "/" + rest
	}
	return name
}

// checkFiles sees to it that nodes that get files are there.
func (m *maker) checkFiles() error {
	var names []string
	for _, n := range m.nodes {
		names = append(names, n.Name)
	}
	var errs config.Errors
	for i, f := range m.config.Files {
		for j, name := range f.Nodes {
			if !slices.Contains(names, name) {
				errs = append(errs, config.Error{
					Path:    fmt.Sprintf("files[%d].nodes[%d]", i, j),
					Message: fmt.Sprintf("there is no node %q; the nodes are %s", name, strings.Join(names, ", ")),
				})
			}
		}
	}
	if len(errs) > 0 {
		return problem.InvalidConfig.Wrap(errs)
	}
	return nil
}
