// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
	"github.com/rootless-kubernetes/rk/pkg/render"
)

// Plugins of containerd's configuration. In version 2 one plugin is what is
// three in version 3.
const (
	criV2      = "io.containerd.grpc.v1.cri" // in version 3, the server alone
	criImages  = "io.containerd.cri.v1.images"
	criRuntime = "io.containerd.cri.v1.runtime"
)

// movedTo is the plugin of version 3 that has a field of criV2, as containerd
// itself migrates it (plugins/cri in its repository); criRuntime has the others.
var movedTo = map[string]string{
	"registry": criImages, "image_decryption": criImages, "max_concurrent_downloads": criImages, "image_pull_progress_timeout": criImages,
	"image_pull_with_sync_fs": criImages, "stats_collect_period": criImages,
	"disable_tcp_service": criV2, "stream_server_address": criV2, "stream_server_port": criV2, "stream_idle_timeout": criV2,
	"enable_tls_streaming": criV2, "x509_key_pair_streaming": criV2,
}

// movedImages are fields of criV2's section "containerd" that criImages has.
var movedImages = []string{"snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"}

// containerdRules are what patches may not change, and why, by path.
var containerdRules = map[string]string{
	"imports": "rk's settings for the host are imported from there",
	"root":    "the images of the cluster lie in /var/lib/containerd",
	"state":   "rk finds containerd's state in /run/containerd",
	"grpc":    "the kubelet finds containerd at /run/containerd/containerd.sock",
	"plugins." + criImages + ".snapshotter": "each node finds out by itself which snapshotter works, overlayfs or fuse-overlayfs, and the images of the cluster " +
		"are unpacked for these two",
	"plugins." + criRuntime + ".disable_apparmor":           "there is no AppArmor in a user namespace",
	"plugins." + criRuntime + ".restrict_oom_score_adj":     "a user namespace may not lower oom_score_adj",
	"plugins." + criRuntime + ".disable_hugetlb_controller": "the hugetlb controller is not delegated to users",
	"plugins." + criRuntime + ".containerd.runtimes.runc.options.BinaryName": "the OCI runtime goes by the cgroup controllers that the host delegates; " +
		"add another runtime beside it, and a RuntimeClass",
	"plugins." + criRuntime + ".containerd.runtimes.runc.runtime_type": "the OCI runtime goes by the cgroup controllers that the host delegates; add another runtime beside it",
}

// systemdCgroup is a field that kind's documentation has people set, and that
// each node sets by itself.
const systemdCgroup = "plugins." + criRuntime + ".containerd.runtimes.runc.options.SystemdCgroup"

// configureContainerd makes containerd's configuration file, if there are
// patches. The file of the node image is of the same template.
func (m *maker) configureContainerd() (errs config.Errors, err error) {
	m.containerd = ""
	if len(m.config.ContainerdPatches) == 0 {
		return nil, nil
	}
	text, err := render.File(nodeimagedata.Rootfs, "rootfs/etc/containerd/config.toml.tmpl", m.values())
	if err != nil {
		return nil, err
	}
	doc, err := patch.TOML(text)
	if err != nil {
		return nil, fmt.Errorf("containerd's configuration: %w", err)
	}
	for _, merges := range []bool{true, false} { // as in kind: merge patches first
		for i, p := range m.config.ContainerdPatches {
			if (p.TOML != "") != merges {
				continue
			}
			at := fmt.Sprintf("containerdPatches[%d]", i)
			next, err := patchContainerd(doc, p)
			if err != nil {
				errs = append(errs, config.Error{Path: at, Message: err.Error()})
				continue
			}
			errs = append(errs, m.checkContainerd(at, doc, next)...)
			doc = next
		}
	}
	if m.containerd, err = patch.FormatTOML(doc); err != nil {
		errs = append(errs, config.Error{Path: "containerdPatches", Message: "the result is not TOML: " + err.Error()})
	}
	return errs, nil
}

func patchContainerd(doc map[string]any, p config.ContainerdPatch) (map[string]any, error) {
	if p.TOML == "" {
		operations := make([]patch.Operation, len(p.JSON6902))
		for i, o := range p.JSON6902 {
			var err error
			if o.Path, err = movePointer(o.Path); err == nil {
				o.From, err = movePointer(o.From)
			}
			if err != nil {
				return nil, err
			}
			operations[i] = patch.Operation(o)
		}
		out, err := patch.JSON(doc, operations)
		if err != nil {
			return nil, fmt.Errorf("does not apply: %w", err)
		}
		return out, nil
	}
	change, err := patch.TOML(p.TOML)
	if err != nil {
		return nil, fmt.Errorf("is not TOML: %w", err)
	}
	switch version := change["version"]; version {
	case nil, int64(2):
		move(change)
	case int64(3):
	default:
		return nil, fmt.Errorf("is for version %v of containerd's configuration; write one for version 2 or 3", version)
	}
	delete(change, "version")
	if plugins, ok := change["plugins"].(map[string]any); ok && plugins["cri"] != nil {
		return nil, fmt.Errorf("has the plugin \"cri\" of version 1; write %q (version 2) or %q and %q (version 3)", criV2, criImages, criRuntime)
	}
	return patch.Merge(doc, change), nil
}

// move gives what version 2 has in one plugin to those that have it in version 3.
func move(doc map[string]any) {
	plugins, _ := doc["plugins"].(map[string]any)
	old, _ := plugins[criV2].(map[string]any)
	delete(plugins, criV2)
	put := func(plugin string, value map[string]any) {
		now, _ := plugins[plugin].(map[string]any)
		plugins[plugin] = patch.Merge(value, now) // what is written for version 3 counts
	}
	for field, value := range old {
		switch section, isMap := value.(map[string]any); {
		case field == "sandbox_image":
			put(criImages, map[string]any{"pinned_images": map[string]any{"sandbox": value}})
		case field == "enable_cdi": // always on in version 3
		case field == "cni" && isMap:
			if dir, ok := section["bin_dir"]; ok {
				delete(section, "bin_dir")
				section["bin_dirs"] = []any{dir}
			}
			put(criRuntime, map[string]any{field: section})
		case field == "containerd" && isMap:
			for _, name := range movedImages {
				if v, ok := section[name]; ok {
					put(criImages, map[string]any{name: v})
					delete(section, name)
				}
			}
			put(criRuntime, map[string]any{field: section})
		default:
			plugin, ok := movedTo[field]
			if !ok {
				plugin = criRuntime
			}
			put(plugin, map[string]any{field: value})
		}
	}
}

// movePointer does what move does for the path of a JSON patch.
func movePointer(pointer string) (string, error) {
	rest, ok := strings.CutPrefix(pointer, "/plugins/"+criV2)
	if !ok {
		return pointer, nil
	}
	keys := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	switch field := keys[0]; {
	case field == "", field == "containerd" && len(keys) == 1:
		return "", fmt.Errorf("%s is more than one section in version 3 of containerd's configuration; name the fields", pointer)
	case field == "sandbox_image":
		return "/plugins/" + criImages + "/pinned_images/sandbox", nil
	case field == "containerd" && slices.Contains(movedImages, keys[1]):
		return "/plugins/" + criImages + "/" + strings.Join(keys[1:], "/"), nil
	case movedTo[field] != "":
		return "/plugins/" + movedTo[field] + rest, nil
	}
	return "/plugins/" + criRuntime + rest, nil
}

// checkContainerd refuses changes that a node cannot have.
func (m *maker) checkContainerd(at string, before, after map[string]any) config.Errors {
	var errs config.Errors
	refuse := func(format string, args ...any) {
		errs = append(errs, config.Error{Path: at, Message: fmt.Sprintf(format, args...)})
	}
	for _, c := range patch.Changes(before, after) {
		path := strings.Join(c.Path, ".")
		if path == systemdCgroup {
			m.warnings = append(m.warnings, at+": SystemdCgroup of runc has no effect: each node sets it by what the host delegates")
			continue
		}
		if _, isMap := c.After.(map[string]any); c.After != nil && !isMap && slices.ContainsFunc(slices.Collect(maps.Keys(containerdRules)), func(rule string) bool {
			return strings.HasPrefix(rule, path+".")
		}) {
			refuse("%s must be a table", path)
		}
		for i := len(c.Path); i > 0; i-- {
			if why, ok := containerdRules[strings.Join(c.Path[:i], ".")]; ok {
				refuse("%s cannot be changed: %s", path, why)
				break
			}
		}
	}
	registry, _ := patch.At(after, "plugins", criImages, "registry").(map[string]any)
	if path, _ := registry["config_path"].(string); path != "" && (registry["mirrors"] != nil || registry["configs"] != nil || registry["auths"] != nil) {
		refuse("registry.config_path cannot be together with mirrors, configs or auths: containerd would not start its CRI; write everything below config_path")
	}
	if path, _ := registry["config_path"].(string); m.hasRegistries() &&
		(path != "" && !slices.Contains(strings.Split(path, ":"), strings.TrimSuffix(certsDir, "/")) || registry["mirrors"] != nil || registry["configs"] != nil || registry["auths"] != nil) {
		refuse("registry: together with registries, which rk writes below %s, mirrors, configs and auths cannot be set, and config_path must name that folder", strings.TrimSuffix(certsDir, "/"))
	}
	return errs
}
