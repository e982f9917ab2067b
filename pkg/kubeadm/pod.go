// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

// podOf is the static pod of a component of the ClusterConfiguration.
var podOf = map[string]string{
	"apiServer": "kube-apiserver", "controllerManager": "kube-controller-manager", "scheduler": "kube-scheduler", "etcd": "etcd",
}

// pod is a static pod with one container.
type pod struct{ doc, spec, container document }

func parsePod(text string) (pod, error) {
	doc, err := patch.YAML(text)
	if err != nil {
		return pod{}, err
	}
	p := pod{doc: doc}
	p.spec, _ = doc["spec"].(document)
	if containers, _ := p.spec["containers"].([]any); len(containers) == 1 {
		p.container, _ = containers[0].(document)
	}
	if p.container == nil {
		return p, fmt.Errorf("kubeadm: a static pod must have one container")
	}
	return p, nil
}

func (p pod) name() string {
	s, _ := patch.At(p.doc, "metadata", "name").(string)
	return s
}

func (p pod) command() []string {
	var out []string
	list, _ := p.container["command"].([]any)
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

func (p pod) flags() map[string]string {
	out := map[string]string{}
	for _, arg := range p.command() {
		if flag, ok := strings.CutPrefix(arg, "--"); ok {
			k, v, _ := strings.Cut(flag, "=")
			out[k] = v
		}
	}
	return out
}

// Pod returns a static pod with what the ClusterConfiguration adds to it; a pod
// that it has nothing to say of is returned as it is.
func (c *Config) Pod(text string) (string, error) {
	p, err := parsePod(text)
	if err != nil {
		return "", err
	}
	section := []string{}
	for component, name := range podOf {
		if name == p.name() {
			section = append(section, component)
		}
	}
	if len(section) == 1 && section[0] == "etcd" {
		section = append(section, "local")
	}
	settings, _ := patch.At(c.docs[config.ClusterConfiguration], section...).(document)
	before, _ := patch.At(c.before[config.ClusterConfiguration], section...).(document)
	changed := p.setArgs(arguments(settings["extraArgs"]), arguments(before["extraArgs"]))
	if envs, ok := settings["extraEnvs"].([]any); ok && len(envs) > 0 {
		old, _ := p.container["env"].([]any)
		p.container["env"] = append(old, patch.Clone(envs).([]any)...)
		changed = true
	}
	if volumes, ok := settings["extraVolumes"].([]any); ok && len(volumes) > 0 {
		if err := p.mount(volumes); err != nil {
			return "", err
		}
		changed = true
	}
	if !changed {
		return text, nil
	}
	p.moveProbes()
	return patch.FormatYAML(p.doc)
}

// setArgs puts arguments in place of those of the same name, and takes out those
// that were configured before and are no more.
func (p pod) setArgs(args, before []Arg) (changed bool) {
	old := p.command()
	drop := map[string]bool{}
	for _, a := range before {
		drop[a.Name] = true
	}
	for _, a := range args {
		drop[a.Name] = true
		if a.Name == "authorization-config" { // it and the flag exclude each other
			drop["authorization-mode"] = true
		}
	}
	var command, flags []string
	for _, arg := range old {
		flag, isFlag := strings.CutPrefix(arg, "--")
		name, _, _ := strings.Cut(flag, "=")
		switch {
		case !isFlag:
			command = append(command, arg)
		case !drop[name]:
			flags = append(flags, arg)
		}
	}
	for _, a := range args {
		flags = append(flags, "--"+a.Name+"="+a.Value)
	}
	slices.SortStableFunc(flags, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, "=")
		nameB, _, _ := strings.Cut(b, "=")
		return strings.Compare(nameA, nameB)
	})
	command = append(command, flags...)
	list := make([]any, len(command))
	for i, s := range command {
		list[i] = s
	}
	sorted := slices.Sorted(slices.Values(old))
	p.container["command"] = list
	return !slices.Equal(sorted, slices.Sorted(slices.Values(command)))
}

// checkVolumes says what is wrong with extraVolumes.
func checkVolumes(v any) string {
	list, ok := v.([]any)
	if !ok {
		return "must be a list of volumes"
	}
	seen := map[string]bool{}
	for _, item := range list {
		m, _ := item.(document)
		name, _ := m["name"].(string)
		host, _ := m["hostPath"].(string)
		mount, _ := m["mountPath"].(string)
		switch {
		case name == "" || host == "" || mount == "":
			return "must be a list of volumes, each with name, hostPath and mountPath"
		case !path.IsAbs(host) || !path.IsAbs(mount):
			return fmt.Sprintf("has the volume %q with a path that is not absolute; hostPath is a path in the node", name)
		case seen[name]:
			return fmt.Sprintf("has two volumes %q", name)
		}
		seen[name] = true
		for field := range m {
			if !slices.Contains([]string{"name", "hostPath", "mountPath", "readOnly", "writable", "pathType"}, field) {
				return fmt.Sprintf("has a volume %q with the unknown field %s", name, field)
			}
		}
	}
	return ""
}

func (p pod) mount(volumes []any) error {
	mounts, _ := p.container["volumeMounts"].([]any)
	sources, _ := p.spec["volumes"].([]any)
	for _, item := range volumes {
		v := item.(document) //nolint:forcetypeassert // checkVolumes
		for _, s := range sources {
			if s.(document)["name"] == v["name"] { //nolint:forcetypeassert // of a pod
				return fmt.Errorf("%s has a volume %q of its own; give the extra one another name", p.name(), v["name"])
			}
		}
		mount := document{"name": v["name"], "mountPath": v["mountPath"]}
		if v["readOnly"] == true {
			mount["readOnly"] = true
		}
		hostPath := document{"path": v["hostPath"]}
		if t, ok := v["pathType"].(string); ok && t != "" {
			hostPath["type"] = t
		}
		mounts = append(mounts, mount)
		sources = append(sources, document{"name": v["name"], "hostPath": hostPath})
	}
	p.container["volumeMounts"], p.spec["volumes"] = mounts, sources
	return nil
}

// moveProbes has the probes ask where the container now listens.
func (p pod) moveProbes() {
	flags := p.flags()
	host, port := "", ""
	switch p.name() {
	case "kube-controller-manager", "kube-scheduler":
		host, port = flags["bind-address"], flags["secure-port"]
	case "etcd":
		first, _, _ := strings.Cut(flags["listen-metrics-urls"], ",")
		if u, err := url.Parse(first); err == nil {
			host, port = u.Hostname(), u.Port()
		}
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		host = ""
	case addr.IsUnspecified() && addr.Is4():
		host = "127.0.0.1"
	case addr.IsUnspecified():
		host = "::1"
	}
	for _, name := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
		get, ok := patch.At(p.container, name, "httpGet").(document)
		if !ok {
			continue
		}
		if host != "" {
			get["host"] = host
		}
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			get["port"] = int64(n) //nolint:gosec // at most 16 bits
		}
	}
}
