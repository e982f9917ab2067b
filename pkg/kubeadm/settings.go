// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

// text returns a string of the ClusterConfiguration.
func (c *Config) text(path ...string) string {
	s, _ := patch.At(c.docs[config.ClusterConfiguration], path...).(string)
	return s
}

func (c *Config) texts(path ...string) []string {
	var out []string
	list, _ := patch.At(c.docs[config.ClusterConfiguration], path...).([]any)
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// DNSDomain of the cluster, e.g. "cluster.local".
func (c *Config) DNSDomain() string { return c.text("networking", "dnsDomain") }

// EtcdDataDir in the control plane.
func (c *Config) EtcdDataDir() string { return path.Clean(c.text("etcd", "local", "dataDir")) }

// CertSANs are names and addresses of the API server's certificate.
func (c *Config) CertSANs() []string { return c.texts("apiServer", "certSANs") }

// EtcdSANs are further names and addresses of etcd's certificates, for clients
// and for peers.
func (c *Config) EtcdSANs() (server, peer []string) {
	return c.texts("etcd", "local", "serverCertSANs"), c.texts("etcd", "local", "peerCertSANs")
}

// Phases of kubeadm that rk can leave out.
const (
	phaseProxy = "addon/kube-proxy"
	phaseDNS   = "addon/coredns"
)

// skippable are the phases that can be skipped, and why nothing comes of the others.
func checkPhases(v any) string {
	list, ok := v.([]any)
	if !ok {
		return "must be a list of phases"
	}
	for _, p := range list {
		switch p {
		case phaseProxy, phaseDNS, "preflight": // which rk has of its own
		case "addon", "addon/all":
			return fmt.Sprintf("%q is not supported; write %s and %s", p, phaseProxy, phaseDNS)
		default:
			return fmt.Sprintf("%q cannot be skipped: rk makes what it makes in no separate step; %s and %s can", p, phaseProxy, phaseDNS)
		}
	}
	return ""
}

func (c *Config) skips(phase string) bool {
	list, _ := c.docs[config.InitConfiguration]["skipPhases"].([]any)
	return slices.Contains(list, any(phase))
}

// KubeProxy says whether the cluster has kube-proxy, as far as kubeadm is concerned.
func (c *Config) KubeProxy() bool {
	return patch.At(c.docs[config.ClusterConfiguration], "proxy", "disabled") != true && !c.skips(phaseProxy)
}

// CoreDNS says whether the cluster has CoreDNS.
func (c *Config) CoreDNS() bool {
	return patch.At(c.docs[config.ClusterConfiguration], "dns", "disabled") != true && !c.skips(phaseDNS)
}

// Registration is what a node registers with.
type Registration struct {
	Taints []config.Taint
	Labels map[string]string
	// KubeletArgs are the kubelet's, apart from labels and taints.
	KubeletArgs []Arg
}

func (c *Config) registration() document {
	for _, kind := range []string{config.InitConfiguration, config.JoinConfiguration} {
		if r, ok := c.docs[kind]["nodeRegistration"].(document); ok {
			return r
		}
	}
	return nil
}

// Registration returns what the node registers with.
func (c *Config) Registration() (Registration, error) {
	r := c.registration()
	out := Registration{Labels: map[string]string{}}
	var err error
	if out.Taints, err = parseTaints(r["taints"]); err != nil {
		return out, fmt.Errorf("nodeRegistration.taints %w", err)
	}
	for _, a := range arguments(r["kubeletExtraArgs"]) {
		switch a.Name {
		case "node-labels":
			for part := range strings.SplitSeq(a.Value, ",") {
				if k, v, _ := strings.Cut(strings.TrimSpace(part), "="); k != "" {
					out.Labels[k] = v
				}
			}
		case "register-with-taints":
			more, err := parseTaintFlag(a.Value)
			if err != nil {
				return out, fmt.Errorf("nodeRegistration.kubeletExtraArgs[register-with-taints]: %w", err)
			}
			for _, t := range more {
				if !slices.ContainsFunc(out.Taints, func(o config.Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }) {
					out.Taints = append(out.Taints, t)
				}
			}
		default:
			out.KubeletArgs = append(out.KubeletArgs, a)
		}
	}
	return out, nil
}

var errTaints = errors.New("must be a list of taints, each with key and effect (NoSchedule, PreferNoSchedule or NoExecute)")

func parseTaints(v any) ([]config.Taint, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, errTaints
	}
	var out []config.Taint
	for _, item := range list {
		m, ok := item.(document)
		var t config.Taint
		for k, v := range m {
			s, isText := v.(string)
			if v != nil && !isText {
				return nil, errTaints
			}
			switch k {
			case "key":
				t.Key = s
			case "value":
				t.Value = s
			case "effect":
				t.Effect = s
			case "timeAdded":
			default:
				ok = false
			}
		}
		if !ok || t.Key == "" || !isEffect(t.Effect) {
			return nil, errTaints
		}
		out = append(out, t)
	}
	return out, nil
}

// parseTaintFlag reads KEY=VALUE:EFFECT,… as the kubelet does.
func parseTaintFlag(s string) ([]config.Taint, error) {
	var out []config.Taint
	for part := range strings.SplitSeq(s, ",") {
		if part == "" {
			continue
		}
		rest, effect, _ := strings.Cut(part, ":")
		key, value, _ := strings.Cut(rest, "=")
		if key == "" || !isEffect(effect) {
			return nil, fmt.Errorf("%q is not KEY=VALUE:EFFECT", part)
		}
		out = append(out, config.Taint{Key: key, Value: value, Effect: effect})
	}
	return out, nil
}

func isEffect(s string) bool {
	return slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, s)
}

// Kubelet returns the node's KubeletConfiguration.
func (c *Config) Kubelet() (string, error) {
	doc := maps.Clone(c.docs[config.KubeletConfiguration])
	// A serving certificate that the API signs instead of the one that rk made.
	if doc["serverTLSBootstrap"] == true {
		for _, field := range []string{"tlsCertFile", "tlsPrivateKeyFile"} {
			if doc[field] == c.before[config.KubeletConfiguration][field] {
				delete(doc, field)
			}
		}
	}
	return patch.FormatYAML(doc)
}
