// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/images"
	"github.com/rootless-kubernetes/rk/node-image/templates"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/kubeadm"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

// settle applies the configuration's patches. What they ask for and cannot
// have is InvalidConfig, wrapping config.Errors.
func (m *maker) settle() error {
	var errs config.Errors
	// The second time with what the first changed that everything else depends on.
	for range 2 {
		var err error
		if errs, err = m.configure(); err != nil {
			return err
		}
		first := m.kubeadm[0]
		if first.DNSDomain() == m.dnsDomain && first.EtcdDataDir() == m.etcdDataDir {
			break
		}
		m.dnsDomain, m.etcdDataDir = first.DNSDomain(), first.EtcdDataDir()
	}
	more, err := m.configureContainerd()
	if err != nil {
		return err
	}
	errs = append(errs, more...)
	if len(errs) > 0 {
		return problem.InvalidConfig.Wrap(errs)
	}
	if m.config.Networking.DisableDefaultCNI {
		m.warnings = append(m.warnings, "networking.disableDefaultCNI: nodes are not Ready, and pods do not start, before a network (CNI) is installed; nothing waits for them")
	}
	return nil
}

// configure makes the kubeadm configuration of each node.
func (m *maker) configure() (errs config.Errors, err error) {
	m.kubeadm, m.warnings = nil, nil
	var notes config.Errors
	for i := range m.nodes {
		c, err := m.kubeadmConfig(i)
		if err != nil {
			return nil, err
		}
		errs = append(errs, c.Patch("kubeadmPatches", m.config.KubeadmPatches)...)
		group := m.groups[i]
		at := fmt.Sprintf("nodes[%d].kubeadmPatches", group)
		own := m.config.Nodes[group].KubeadmPatches
		errs = append(errs, c.Patch(at, own)...)
		notes = append(notes, c.Notes()...)
		for j, p := range own {
			if why := m.without(i, p.Kind); !c.Has(p.Kind) {
				notes = append(notes, config.Error{Path: fmt.Sprintf("%s[%d]", at, j), Message: p.Kind + " has no effect: " + why})
			}
		}
		if r, rerr := c.Registration(); rerr != nil {
			errs = append(errs, config.Error{Path: at, Message: rerr.Error()})
		} else if !maps.Equal(r.Labels, m.config.Nodes[group].Labels) {
			errs = append(errs, config.ValidateLabels(at, r.Labels)...)
		}
		m.kubeadm = append(m.kubeadm, c)
	}
	for j, p := range m.config.KubeadmPatches {
		if !slices.ContainsFunc(m.kubeadm, func(c *kubeadm.Config) bool { return c.Has(p.Kind) }) {
			notes = append(notes, config.Error{Path: fmt.Sprintf("kubeadmPatches[%d]", j), Message: p.Kind + " has no effect: " + m.without(len(m.nodes)-1, p.Kind)})
		}
	}
	text, err := render.File(templates.FS, "kubelet.yaml.tmpl", m.values())
	if err != nil {
		return nil, err
	}
	if m.kubelet, err = kubeadm.New([]string{text}, nil); err != nil {
		return nil, err
	}
	errs = append(errs, m.kubelet.Patch("kubeadmPatches", m.config.KubeadmPatches)...)
	for _, n := range once(notes) {
		m.warnings = append(m.warnings, n.Path+": "+n.Message)
	}
	return once(errs), nil
}

// once leaves out what was said of another node already.
func once(errs config.Errors) config.Errors {
	var out config.Errors
	for _, e := range errs {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

// without says why a node has no document of a kind.
func (m *maker) without(i int, kind string) string {
	switch {
	case kind == config.KubeProxyConfiguration && m.config.Networking.KubeProxyMode == config.KubeProxyNone:
		return "networking.kubeProxyMode is none"
	case kind == config.JoinConfiguration && i == 0:
		return "the first control plane does not join; write InitConfiguration"
	case kind == config.InitConfiguration:
		return "this node joins; write JoinConfiguration"
	}
	return "the cluster has one for all nodes; write it for the first control plane, or for the cluster"
}

// kubeadmConfig is the kubeadm configuration of a node before patches.
func (m *maker) kubeadmConfig(i int) (*kubeadm.Config, error) {
	n := m.nodes[i]
	v, err := m.nodeValues(n)
	if err != nil {
		return nil, err
	}
	v.NodeLabels = flagMap(n.Labels)
	names := []string{"node-registration.yaml.tmpl", "kubelet.yaml.tmpl"}
	if i == 0 {
		names = append(names, "cluster-configuration.yaml.tmpl")
		if v.KubeProxyMode != config.KubeProxyNone {
			names = append(names, "kube-proxy.yaml.tmpl")
		}
	}
	var documents, pods []string
	for _, name := range names {
		text, err := render.File(templates.FS, name, v)
		if err != nil {
			return nil, err
		}
		documents = append(documents, text)
	}
	if i == 0 {
		for _, f := range controlPlane {
			text, err := render.File(images.FS, f.template, v)
			if err != nil {
				return nil, err
			}
			pods = append(pods, text)
		}
	}
	return kubeadm.New(documents, pods)
}

// kubeProxy says whether there is one.
func (m *maker) kubeProxy() bool {
	return m.config.Networking.KubeProxyMode != config.KubeProxyNone && m.kubeadm[0].KubeProxy()
}

// document returns a document of the kubeadm configuration: as the template
// has it, or as patches made it.
func document(c *kubeadm.Config, kind, template string, v values) (string, error) {
	if c.Patched(kind) {
		return c.Document(kind)
	}
	return render.File(templates.FS, template, v)
}

// patched returns a rendered file of a node with what patches make of it.
func (m *maker) patched(i int, path, content string) (string, error) {
	switch c := m.kubeadm[i]; {
	case path == kubeletConfig && c.Patched(config.KubeletConfiguration):
		return c.Kubelet()
	case strings.HasPrefix(path, manifests):
		return m.kubeadm[0].Pod(content)
	}
	return content, nil
}

// register gives a node what it registers with.
func (m *maker) register(i int, n *Node) (kubeadm.Registration, error) {
	r, err := m.kubeadm[i].Registration()
	if err != nil {
		return r, err
	}
	n.Labels, n.Taints = r.Labels, nil
	for _, t := range r.Taints {
		n.Taints = append(n.Taints, Taint(t))
	}
	if n.Role == RoleControlPlane {
		n.Labels["node-role.kubernetes.io/control-plane"] = ""
		n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
	}
	return r, nil
}
