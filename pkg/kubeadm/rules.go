// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

// verdict is what becomes of a change.
type verdict int

const (
	honoured verdict = iota
	noEffect         // told as a note, and taken out
	doubtful         // told as a note
	refused          // an error
)

// rule says what becomes of changes at a path and below.
type rule struct {
	verdict verdict
	why     string
	// accept makes an exception for a value.
	accept   func(after any) bool
	obsolete bool
}

var yes = rule{}

func refuse(why string) rule { return rule{verdict: refused, why: why} }
func without(why string) rule {
	return rule{verdict: noEffect, why: why}
}

// obsolete is the reason for which a field that is accepted is taken out: the
// present version of the document does not have it.
const obsolete = "obsolete"

// gone is the rule of a field that the present version of the document has not.
func (r rule) gone() rule {
	r.obsolete = true
	return r
}

// unless is the rule with an exception for values.
func (r rule) unless(values ...any) rule {
	r.accept = func(after any) bool {
		return slices.ContainsFunc(values, func(v any) bool { return fmt.Sprint(v) == fmt.Sprint(after) })
	}
	return r
}

// rules by kind and path, the longest that fits counts; "" is for what has no
// other. Kinds without "" are closed: an unknown field is an error.
var rules = map[string]map[string]rule{
	config.ClusterConfiguration: {
		"apiServer.certSANs": yes, "apiServer.extraArgs": yes, "apiServer.extraVolumes": yes, "apiServer.extraEnvs": yes,
		"apiServer.timeoutForControlPlane": without("rk waits for the API server as long as 'rk create cluster --wait' says, and at least five minutes"),
		"controllerManager.extraArgs":      yes, "controllerManager.extraVolumes": yes, "controllerManager.extraEnvs": yes,
		"scheduler.extraArgs": yes, "scheduler.extraVolumes": yes, "scheduler.extraEnvs": yes,
		"etcd.local.extraArgs": yes, "etcd.local.extraEnvs": yes, "etcd.local.serverCertSANs": yes, "etcd.local.peerCertSANs": yes,
		"etcd.local.dataDir":          yes,
		"etcd.local.imageRepository":  ownImages,
		"etcd.local.imageTag":         ownImages,
		"etcd.external":               refuse("is not supported: rk runs etcd in the control plane, and backs nothing else up"),
		"dns.disabled":                yes,
		"dns.type":                    refuse("must be CoreDNS, which there is no alternative to").unless("CoreDNS").gone(),
		"dns.imageRepository":         ownImages,
		"dns.imageTag":                ownImages,
		"imageRepository":             ownImages,
		"proxy.disabled":              yes,
		"networking.dnsDomain":        yes,
		"networking.podSubnet":        refuse("is set by networking.podSubnet of the cluster: nodes, Flannel and kube-proxy need it too"),
		"networking.serviceSubnet":    refuse("is set by networking.serviceSubnet of the cluster: certificates and DNS need it too"),
		"kubernetesVersion":           refuse("is what the node image holds; set kubernetesVersion or image of the cluster"),
		"controlPlaneEndpoint":        refuse("is the address that rk gives to the API; add further names to apiServer.certSANs"),
		"certificatesDir":             refuse("is /etc/kubernetes/pki in a node of rk"),
		"clusterName":                 refuse("is the name of the cluster; set name"),
		"featureGates":                refuse("has kubeadm's own feature gates, and kubeadm does not set this cluster up; gates of Kubernetes go into featureGates of the cluster"),
		"encryptionAlgorithm":         refuse("is ECDSA-P256 for all keys of rk"),
		"certificateValidityPeriod":   refuse("is one year in rk"),
		"caCertificateValidityPeriod": refuse("is ten years in rk"),
	},
	config.InitConfiguration: maps.Clone(registration),
	config.JoinConfiguration: joined(registration, map[string]rule{
		"discovery":    refuse("is not needed: rk gives each node its certificates when it makes it"),
		"caCertPath":   refuse("is /etc/kubernetes/pki/ca.crt in a node of rk"),
		"controlPlane": refuse("is decided by rk: the node's own address, port 6443"),
	}),
	config.KubeletConfiguration: {
		"":              yes,
		"apiVersion":    refuse("cannot be changed"),
		"kind":          refuse("cannot be changed"),
		"cgroupDriver":  refuse("is decided by rk: systemd where cgroup controllers are delegated to the node, else cgroupfs"),
		"cgroupsPerQOS": noControllers,
		"failSwapOn":    refuse("cannot be true: swap belongs to the host, and a node in a user namespace cannot turn it off").unless(false),
		"protectKernelDefaults": refuse("cannot be true: the kernel's settings belong to the host, and the kubelet ends if they are not as it wants").
			unless(false, nil),
		"enforceNodeAllocatable":                   noControllers,
		"containerRuntimeEndpoint":                 refuse("is unix:///run/containerd/containerd.sock in a node of rk").unless("unix:///run/containerd/containerd.sock", "/run/containerd/containerd.sock"),
		"staticPodPath":                            refuse("is /etc/kubernetes/manifests in a node of rk").unless("/etc/kubernetes/manifests"),
		"authentication.x509.clientCAFile":         refuse("is /etc/kubernetes/pki/ca.crt in a node of rk"),
		"featureGates." + config.UserNamespaceGate: refuse("cannot be turned off: no kubelet starts in a user namespace without it").unless(true),
		"systemReservedCgroup":                     yes,
	},
	config.KubeProxyConfiguration: {
		"":                            yes,
		"apiVersion":                  refuse("cannot be changed"),
		"kind":                        refuse("cannot be changed"),
		"mode":                        refuse("must be iptables or nftables: the kernel takes IPVS rules from outside of user namespaces alone").unless("iptables", "nftables", "", nil),
		"clusterCIDR":                 refuse("is set by networking.podSubnet of the cluster"),
		"clientConnection.kubeconfig": refuse("is decided by rk"),
		"hostnameOverride":            refuse("is the name of each node"),
		"conntrack":                   conntrack,
	},
}

var ownImages = refuse("cannot be changed: the images of a cluster come with the node image, which names them itself")

// noControllers holds where rk sets these fields itself.
var noControllers = refuse("cannot be changed here: no cgroup controllers are delegated to the nodes (cgroups: none)")

var conntrack = refuse("cannot be set: a user namespace may not write the kernel's settings of connection tracking; 0 leaves them alone").
	unless(int64(0), "0", "0s", false, nil)

// registration are the rules of what a node registers with.
var registration = map[string]rule{
	"nodeRegistration.taints":                yes,
	"nodeRegistration.kubeletExtraArgs":      yes,
	"nodeRegistration.name":                  refuse("is decided by rk: addresses, certificates and the engine's container go by it; set name of the cluster"),
	"nodeRegistration.criSocket":             refuse("is unix:///run/containerd/containerd.sock in a node of rk").unless("/run/containerd/containerd.sock"),
	"nodeRegistration.ignorePreflightErrors": without("kubeadm's preflight does not run; rk's own is 'rk doctor'"),
	"nodeRegistration.imagePullPolicy":       without("no image is pulled: the node image holds them"),
	"nodeRegistration.imagePullSerial":       without("no image is pulled: the node image holds them"),
	"timeouts":                               without("rk waits as long as 'rk create cluster --wait' says"),
	"skipPhases":                             yes,
	"localAPIEndpoint":                       refuse("is decided by rk: the node's own address, port 6443"),
	"localAPIEndpoint.bindPort":              refuse("is 6443 in a node of rk; networking.apiServerPort is the host's").unless(int64(6443)),
	"bootstrapTokens":                        refuse("is not supported: nodes of rk need no tokens; 'kubeadm token create' in the control plane makes one"),
	"certificateKey":                         refuse("is not needed: rk gives each node its certificates when it makes it"),
	"dryRun":                                 refuse("is not supported; use 'rk create cluster --dry-run'").unless(false),
	"patches":                                refuse("is not supported: nothing reads that folder; write the change into kubeadmPatches"),
}

func joined(a, b map[string]rule) map[string]rule {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// own is why an argument cannot be changed.
const own = "is decided by rk: addresses, ports, certificates and files of the cluster must fit together"

// fixedArgs are arguments that can only have the value that they have.
var fixedArgs = map[string][]string{
	"apiServer": {
		"advertise-address", "client-ca-file", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-servers", "kubelet-client-certificate", "kubelet-client-key",
		"secure-port", "service-cluster-ip-range", "tls-cert-file", "tls-private-key-file",
	},
	"controllerManager": {
		"cluster-cidr", "kubeconfig", "node-cidr-mask-size", "node-cidr-mask-size-ipv4", "node-cidr-mask-size-ipv6", "root-ca-file", "service-cluster-ip-range",
	},
	"scheduler": {"kubeconfig"},
	"etcd": {
		"advertise-client-urls", "cert-file", "data-dir", "initial-advertise-peer-urls", "initial-cluster", "key-file", "listen-client-urls", "listen-peer-urls",
		"name", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "trusted-ca-file",
	},
	"nodeRegistration": {
		"bootstrap-kubeconfig", "cgroup-driver", "cgroups-per-qos", "config", "config-dir", "container-runtime-endpoint", "enforce-node-allocatable", "fail-swap-on",
		"hostname-override", "kubeconfig", "node-ip", "pod-manifest-path", "protect-kernel-defaults", "register-node", "root-dir",
	},
}

// harmless are values of kubelet arguments that say what is so anyway.
var harmless = map[string][]string{
	"fail-swap-on": {"false"}, "protect-kernel-defaults": {"false"}, "register-node": {"true"}, "pod-manifest-path": {"/etc/kubernetes/manifests"},
	"container-runtime-endpoint": {"unix:///run/containerd/containerd.sock", "/run/containerd/containerd.sock"}, "root-dir": {"/var/lib/kubelet"},
}

// judge says what becomes of a change, and why.
func (c *Config) judge(kind string, ch patch.Change) (verdict, string) {
	p := ch.Path
	if n := len(p); n >= 2 && isArgs(p[n-2]) && (kind != config.KubeletConfiguration && kind != config.KubeProxyConfiguration) {
		return c.judgeArg(p[0], p[n-1], ch.After)
	}
	byPath := rules[kind]
	if _, open := byPath[""]; open {
		if why := unfamiliar(kind, p[0]); why != "" && ch.After != nil {
			return doubtful, why
		}
		if _, isMap := ch.After.(document); ch.After != nil && !isMap && slices.ContainsFunc(slices.Collect(maps.Keys(byPath)), func(known string) bool {
			return strings.HasPrefix(known, strings.Join(p, ".")+".")
		}) {
			return refused, "must be a mapping of fields"
		}
	}
	for i := len(p); i >= 0; i-- {
		r, ok := byPath[strings.Join(p[:i], ".")]
		if !ok {
			continue
		}
		if r.accept != nil && r.accept(ch.After) {
			if r.obsolete {
				return honoured, obsolete
			}
			return honoured, ""
		}
		if sameList := r.verdict == refused && equalSubnets(ch); sameList {
			return honoured, ""
		}
		if isNoControllers(p) && ch.Before == nil && c.before[kind]["cgroupsPerQOS"] == nil {
			return honoured, "" // controllers are there
		}
		if err := c.check(kind, ch); r.verdict == honoured && err != "" {
			return refused, err
		}
		return r.verdict, r.why
	}
	if strings.HasPrefix(strings.Join(p, "."), "apiVersion") || p[0] == "kind" {
		return refused, "cannot be changed"
	}
	return refused, "is no field that rk knows" + suggestion(byPath, p)
}

func isNoControllers(p []string) bool {
	return p[0] == "cgroupsPerQOS" || p[0] == "enforceNodeAllocatable"
}

// equalSubnets says that a list of subnets is written otherwise alone.
func equalSubnets(ch patch.Change) bool {
	before, ok1 := ch.Before.(string)
	after, ok2 := ch.After.(string)
	return ok1 && ok2 && strings.Contains(ch.Path[len(ch.Path)-1], "Subnet") && strings.ReplaceAll(after, " ", "") == before
}

func (c *Config) judgeArg(component, arg string, after any) (verdict, string) {
	value, _ := after.(string)
	switch {
	case component == "nodeRegistration" && strings.ContainsAny(value, " \t\"'\\$"):
		return refused, "cannot have a value with spaces, quotes, backslashes or dollar signs: systemd would read them"
	case strings.Contains(arg, "=") || strings.HasPrefix(arg, "-"):
		return refused, "is not the name of an argument; write it without dashes and value"
	case arg == "feature-gates" && slices.Contains(strings.Split(value, ","), config.UserNamespaceGate+"=false"):
		return refused, "cannot turn " + config.UserNamespaceGate + " off: no kubelet starts in a user namespace without it"
	case !slices.Contains(fixedArgs[component], arg), slices.Contains(harmless[arg], value):
		return honoured, ""
	}
	if has, ok := c.flags[podOf[component]][arg]; ok && has == value {
		return honoured, ""
	}
	return refused, own
}

// check looks at the form of values that rk itself makes something of.
func (c *Config) check(kind string, ch patch.Change) string {
	last := ch.Path[len(ch.Path)-1]
	switch {
	case ch.After == nil, kind == config.KubeletConfiguration, kind == config.KubeProxyConfiguration: // the programs themselves check these
	case last == "extraVolumes":
		return checkVolumes(ch.After)
	case last == "extraEnvs":
		list, ok := ch.After.([]any)
		for _, item := range list {
			m, _ := item.(document)
			_, named := m["name"].(string)
			ok = ok && named
		}
		if !ok {
			return "must be a list of environment variables, each with name and value"
		}
	case strings.HasSuffix(last, "ertSANs"):
		list, ok := ch.After.([]any)
		for _, item := range list {
			s, isText := item.(string)
			ok = ok && isText && s != ""
		}
		if !ok {
			return "must be a list of names and IP addresses"
		}
	case last == "taints":
		if _, err := parseTaints(ch.After); err != nil {
			return err.Error()
		}
	case last == "skipPhases":
		return checkPhases(ch.After)
	case last == "disabled":
		if _, ok := ch.After.(bool); !ok {
			return "must be true or false"
		}
	case last == "dataDir":
		if s, ok := ch.After.(string); !ok || !path.IsAbs(s) || path.Clean(s) == "/" {
			return "must be an absolute path in the node"
		}
	case last == "dnsDomain":
		if s, ok := ch.After.(string); !ok || !config.IsDomain(s) {
			return "must be a domain name, like cluster.local"
		}
	}
	return ""
}

// suggestion names the field of the same last name, or those that there are.
func suggestion(byPath map[string]rule, p []string) string {
	var siblings []string
	parent := strings.Join(p[:len(p)-1], ".")
	for _, known := range slices.Sorted(maps.Keys(byPath)) {
		if at := known[strings.LastIndex(known, ".")+1:]; strings.EqualFold(at, p[len(p)-1]) {
			return "; did you mean " + known + "?"
		}
		if rest, ok := strings.CutPrefix(known, parent+"."); ok || parent == "" {
			if parent == "" {
				rest = known
			}
			field, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(siblings, field) {
				siblings = append(siblings, field)
			}
		}
	}
	if len(siblings) == 0 {
		return ""
	}
	return "; known here: " + strings.Join(siblings, ", ")
}
