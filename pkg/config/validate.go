// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"k8s.io/apimachinery/pkg/api/validate/content"
)

// MaxNameLength of a cluster, in characters. A host name has at most 63
// (RFC 1123): this leaves room for "-control-plane" and a number.
const MaxNameLength = 40

// Validate reports everything that is wrong with c, which must have been
// through [Default], as [Errors]; nil if nothing is.
func Validate(c Cluster) error {
	var errs Errors
	if c.APIVersion != APIVersion {
		errs.add("apiVersion", "%q is not known to this version of rk; write: %s", c.APIVersion, APIVersion)
	}
	if c.Kind != Kind {
		errs.add("kind", "%q is not known; write: %s", c.Kind, Kind)
	}
	errs.name(c.Name)
	errs.images(c)
	errs.nodes(c.Nodes)
	errs.networking(c.Networking, countNodes(c.Nodes))
	errs.mountsAndPorts(c.Nodes, c.Networking.IPFamily)
	errs.registries(c.Registries)
	errs.gates(c)
	errs.patches(c)
	errs.files(c.Files)
	errs.manifests(c)
	errs.options(c)
	errs.oneOf("cgroups", c.Cgroups, "auto", "delegated", "none")
	return errs.orNil()
}

// ValidateName reports what is wrong with a cluster name, nil if nothing is.
func ValidateName(name string) error {
	var errs Errors
	errs.name(name)
	return errs.orNil()
}

var nameRe = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func (e *Errors) name(name string) {
	switch {
	case len(name) > MaxNameLength:
		e.add("name", "%q has %d characters; at most %d are allowed, so that names of nodes are valid host names", name, len(name), MaxNameLength)
	case !nameRe.MatchString(name):
		e.add("name", "%q must consist of lower-case letters, digits and '-', and start and end with a letter or digit", name)
	}
}

var versionRe = regexp.MustCompile(`^v[1-9][0-9]*\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)

func (e *Errors) images(c Cluster) {
	v := c.KubernetesVersion
	if v != "" && !versionRe.MatchString(v) {
		e.add("kubernetesVersion", "%q is not a full version; write it like %s", v, DefaultKubernetesVersion)
	}
	if derived := c.Image == NodeImage(v); !derived {
		if v != "" {
			e.add("kubernetesVersion", "cannot be given together with image, which holds one version; leave one of the two out")
		}
		e.image("image", c.Image)
	}
	for i, n := range c.Nodes {
		if n.Image != "" {
			e.image(fmt.Sprintf("nodes[%d].image", i), n.Image)
		}
	}
}

func (e *Errors) image(path, ref string) {
	if _, err := reference.ParseNormalizedNamed(ref); err == nil {
		return
	}
	if strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") || strings.HasSuffix(ref, ".tar") {
		e.add(path, "%q is a file; load it into the engine first, or give it to 'rk create cluster --image'", ref)
		return
	}
	if _, rest, ok := strings.Cut(ref, "://"); ok {
		e.add(path, "%q is a URL; write the image reference alone, like %s", ref, rest)
		return
	}
	e.add(path, "%q is not an image reference; write it like %s", ref, NodeImage(DefaultKubernetesVersion))
}

func (e *Errors) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		last := len(allowed) - 1
		hint := text("")
		if best := closest(value, allowed); best != "" {
			hint = text(fmt.Sprintf("did you mean %q? ", best))
		}
		e.add(path, "%q is not known; %swrite %s or %s", value, hint, text(strings.Join(allowed[:last], ", ")), text(allowed[last]))
	}
}

func (e *Errors) nodes(nodes []Node) {
	controlPlanes, known := 0, true
	for i, n := range nodes {
		path := fmt.Sprintf("nodes[%d]", i)
		if n.Role == "" {
			e.add(path+".role", "is required; write %s or %s", RoleControlPlane, RoleWorker)
		} else {
			e.oneOf(path+".role", n.Role, RoleControlPlane, RoleWorker)
		}
		switch {
		case n.Count < 1:
			e.add(path+".count", "%d must be at least 1", n.Count)
		case n.Count > maxNodes:
			e.add(path+".count", "%d are too many; a cluster's network has addresses for %d nodes", n.Count, maxNodes)
		}
		switch n.Role {
		case RoleControlPlane:
			controlPlanes += min(n.Count, maxNodes)
		case RoleWorker:
		default:
			known = false
		}
		e.labels(path+".labels", n.Labels)
		e.taints(path+".taints", n.Taints)
	}
	switch {
	case controlPlanes < 1 && known: // else the one that is missing may be misspelt
		e.add("nodes", "no node has the role %s, and a cluster needs one; add \"- role: %s\"", RoleControlPlane, RoleControlPlane)
	case controlPlanes > maxControlPlanes:
		e.add("nodes", "there are %d control planes; etcd is made for at most %d members; make the others workers", controlPlanes, maxControlPlanes)
	}
}

// maxControlPlanes is the largest number of members that etcd recommends (its
// FAQ, "What is maximum cluster size?").
const maxControlPlanes = 7

// countNodes is how many nodes there are, the load balancer of several control
// planes included; 0 if a count is impossible, so that nothing is said about their sum.
func countNodes(nodes []Node) int {
	sum, controlPlanes := 0, 0
	for _, n := range nodes {
		if n.Count < 1 || n.Count > maxNodes {
			return 0
		}
		sum += n.Count
		if n.Role == RoleControlPlane {
			controlPlanes += n.Count
		}
	}
	if controlPlanes > 1 {
		sum++
	}
	return sum
}

// kubeletLabels are set by each kubelet, from what it finds
// (k8s.io/api/core/v1/well_known_labels.go); a fixed value would be wrong or undone.
var kubeletLabels = []string{"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"}

func (e *Errors) labels(path string, labels map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		p := element(path, k)
		e.addAll(p, "label key", content.IsLabelKey(k))
		e.addAll(p, "label value", content.IsLabelValue(labels[k]))
		if slices.Contains(kubeletLabels, k) {
			e.add(p, "is set by the node itself; leave it out")
		}
	}
}

func (e *Errors) taints(path string, taints []Taint) {
	seen := map[[2]string]bool{}
	for i, t := range taints {
		p := fmt.Sprintf("%s[%d]", path, i)
		if t.Key == "" {
			e.add(p+".key", "is required; write the key of the taint, like example.org/batch")
		} else {
			e.addAll(p+".key", "taint key", content.IsLabelKey(t.Key))
		}
		e.addAll(p+".value", "taint value", content.IsLabelValue(t.Value))
		if t.Effect == "" {
			e.add(p+".effect", "is required; write NoSchedule, PreferNoSchedule or NoExecute")
		} else {
			e.oneOf(p+".effect", t.Effect, "NoSchedule", "PreferNoSchedule", "NoExecute")
		}
		if id := [2]string{t.Key, t.Effect}; seen[id] {
			e.add(p, "there are two taints with key %q and effect %q; keep one", t.Key, t.Effect)
		} else {
			seen[id] = true
		}
	}
}

// examplesRe is how Kubernetes' validation ends a message: with examples and a regular expression.
var examplesRe = regexp.MustCompile(`\s*\(e\.g\. .*?regex used for validation is '[^']*'\)`)

// addAll adds what Kubernetes' own validation says about a value.
func (e *Errors) addAll(path, what string, messages []string) {
	for _, m := range messages {
		e.add(path, "is not a valid %s: %s", what, text(examplesRe.ReplaceAllString(m, "")))
	}
}
