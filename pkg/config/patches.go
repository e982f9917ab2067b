// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Kinds of kubeadm's configuration that can be patched.
const (
	ClusterConfiguration   = "ClusterConfiguration"
	InitConfiguration      = "InitConfiguration"
	JoinConfiguration      = "JoinConfiguration"
	KubeletConfiguration   = "KubeletConfiguration"
	KubeProxyConfiguration = "KubeProxyConfiguration"
)

// The versions of the kubeadm configuration that patches may be written for.
const (
	KubeadmV1Beta4 = "kubeadm.k8s.io/v1beta4"
	KubeadmV1Beta3 = "kubeadm.k8s.io/v1beta3"
	KubeadmV1Beta2 = "kubeadm.k8s.io/v1beta2"
)

var kubeadmVersions = []string{KubeadmV1Beta4, KubeadmV1Beta3, KubeadmV1Beta2}

// patchKinds are the kinds, and the versions in which a patch may be written.
var patchKinds = map[string][]string{
	ClusterConfiguration:   kubeadmVersions,
	InitConfiguration:      kubeadmVersions,
	JoinConfiguration:      kubeadmVersions,
	KubeletConfiguration:   {"kubelet.config.k8s.io/v1beta1"},
	KubeProxyConfiguration: {"kubeproxy.config.k8s.io/v1alpha1"},
}

// patchKindNames in the order in which they are told.
var patchKindNames = []string{ClusterConfiguration, InitConfiguration, JoinConfiguration, KubeletConfiguration, KubeProxyConfiguration}

// UserNamespaceGate is the feature gate without which no kubelet runs in a user namespace (KEP-2033).
const UserNamespaceGate = "KubeletInUserNamespace"

var (
	gateRe = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	apiRe  = regexp.MustCompile(`^[a-z0-9.-]+(/[a-z0-9]+(/[a-z0-9.-]+)?)?$`)
)

// gates checks feature gates and API versions, as far as their form goes: which
// there are depends on the version of Kubernetes.
func (e *Errors) gates(c Cluster) {
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		p := element("featureGates", name)
		switch {
		case !gateRe.MatchString(name):
			e.add(p, "is not the name of a feature gate; write it like InPlacePodVerticalScaling")
		case name == UserNamespaceGate && !c.FeatureGates[name]:
			e.add(p, "cannot be turned off: nodes run in a user namespace, where no kubelet starts without it; leave it out")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.RuntimeConfig)) {
		p := element("runtimeConfig", name)
		if !apiRe.MatchString(name) {
			e.add(p, "is not an API; write it like api/alpha or batch/v1")
		}
		e.oneOf(p, c.RuntimeConfig[name], "true", "false")
	}
}

// patches checks the form of patches. Whether they apply, and whether what
// they ask for can be had, is seen when the cluster is planned.
func (e *Errors) patches(c Cluster) {
	e.kubeadmPatches("kubeadmPatches", c.KubeadmPatches)
	for i, n := range c.Nodes {
		e.kubeadmPatches(fmt.Sprintf("nodes[%d].kubeadmPatches", i), n.KubeadmPatches)
	}
	for i, p := range c.ContainerdPatches {
		at := fmt.Sprintf("containerdPatches[%d]", i)
		if (p.TOML == "") == (len(p.JSON6902) == 0) {
			e.add(at, "must have one of toml and json6902; put two patches into two items of the list")
		}
		e.operations(at+".json6902", p.JSON6902)
	}
}

func (e *Errors) kubeadmPatches(at string, patches []KubeadmPatch) {
	for i, p := range patches {
		at := fmt.Sprintf("%s[%d]", at, i)
		if p.Kind == "" {
			e.add(at+".kind", "is required; write %s or %s", text(strings.Join(patchKindNames[:4], ", ")), text(patchKindNames[4]))
		} else {
			e.oneOf(at+".kind", p.Kind, patchKindNames...)
		}
		if versions := patchKinds[p.Kind]; versions != nil && p.APIVersion != "" && !contains(versions, p.APIVersion) {
			e.add(at+".apiVersion", "%q is not a version of %s that this rk knows; leave it out, or write %s", p.APIVersion, text(p.Kind), text(strings.Join(versions, " or ")))
		}
		if (len(p.Merge) == 0) == (len(p.JSON6902) == 0) {
			e.add(at, "must have one of merge and json6902; put two patches into two items of the list")
		}
		for _, field := range []string{"apiVersion", "kind", "metadata"} {
			if _, ok := p.Merge[field]; ok {
				e.add(at+".merge."+field, "is no field that a patch changes; leave it out, kind and apiVersion stand beside merge")
			}
		}
		e.operations(at+".json6902", p.JSON6902)
	}
}

func (e *Errors) operations(at string, operations []PatchOperation) {
	for i, o := range operations {
		at := fmt.Sprintf("%s[%d]", at, i)
		if o.Op == "" {
			e.add(at+".op", "is required; write add, remove, replace, move, copy or test")
		} else {
			e.oneOf(at+".op", o.Op, "add", "remove", "replace", "move", "copy", "test")
		}
		if !strings.HasPrefix(o.Path, "/") {
			e.add(at+".path", "%q is not a JSON pointer; write it like /apiServer/certSANs/-", o.Path)
		}
		switch moves := o.Op == "move" || o.Op == "copy"; {
		case moves && !strings.HasPrefix(o.From, "/"):
			e.add(at+".from", "%q is not a JSON pointer; %s needs one, like /apiServer", o.From, text(o.Op))
		case !moves && o.From != "":
			e.add(at+".from", "belongs to move and copy alone; leave it out")
		}
	}
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// ValidateLabels reports what is wrong with labels of a node that come from
// elsewhere than nodes[].labels; path says where from.
func ValidateLabels(path string, labels map[string]string) Errors {
	var errs Errors
	errs.labels(path, labels)
	return errs
}

// CanPatch says whether there is a kind of document, and a version of it in
// which patches can be written; an empty version is the newest.
func CanPatch(kind, version string) bool {
	versions, ok := patchKinds[kind]
	return ok && (version == "" || contains(versions, version))
}
