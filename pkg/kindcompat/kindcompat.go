// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/patch"
)

// APIVersion is the format of kind's configuration that is read.
const APIVersion = "kind.x-k8s.io/v1alpha4"

// groups are kind's API groups, the present one and that of its first releases.
var groups = []string{"kind.x-k8s.io/", "kind.sigs.k8s.io/"}

// Is says whether a file is a configuration of kind, of whatever version.
func Is(data []byte) bool {
	var meta struct {
		APIVersion string `yaml:"apiVersion"`
	}
	if yaml.Unmarshal(data, &meta) != nil {
		return false
	}
	return slices.ContainsFunc(groups, func(g string) bool { return strings.HasPrefix(meta.APIVersion, g) })
}

// File is a converted configuration file of kind.
type File struct {
	// Cluster is neither defaulted nor validated.
	Cluster config.Cluster
	// Notes are what became something else than it says, and why.
	Notes []string

	root    *yaml.Node
	origins map[string]string // path of a patch in Cluster -> path in the file
}

// Parse reads a file of kind. releases are the versions of Kubernetes that rk
// can make node images of ("v1.36.3"), for the tags of kindest/node. The error
// is config.Errors, in the words and at the places of the file.
func Parse(data []byte, releases []string) (*File, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	f := &File{root: &yaml.Node{}, origins: map[string]string{}}
	if err := dec.Decode(f.root); err != nil {
		return nil, config.Errors{{Message: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	var meta struct {
		Kind       string `yaml:"kind"`
		APIVersion string `yaml:"apiVersion"`
	}
	if err := f.root.Decode(&meta); err != nil {
		return nil, decodeErrors(err)
	}
	switch {
	case meta.APIVersion != APIVersion:
		return nil, f.locate(config.Errors{{Path: "apiVersion", Message: fmt.Sprintf("%q is an older format of kind; kind and rk read %s", meta.APIVersion, APIVersion)}})
	case meta.Kind != config.Kind:
		return nil, f.locate(config.Errors{{Path: "kind", Message: fmt.Sprintf("%q is not known; write: %s", meta.Kind, config.Kind)}})
	}
	var in v1alpha4.Cluster
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	if err := strict.Decode(&in); err != nil {
		return nil, f.locateValues(decodeErrors(err))
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		f.note("the file has more than one document; kind reads the first alone, and so does rk")
	}
	errs := f.convert(in, releases)
	if len(errs) > 0 {
		return nil, f.locate(errs)
	}
	return f, nil
}

func (f *File) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

var (
	unknownFieldRe = regexp.MustCompile(`^line (\d+): field (\S+) not found in type v1alpha4\.(\w+)$`)
	lineRe         = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
)

// decodeErrors words what the decoder says.
func decodeErrors(err error) config.Errors {
	messages := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	var list *yaml.TypeError
	if errors.As(err, &list) {
		messages = list.Errors
	}
	var out config.Errors
	for _, m := range messages {
		e := config.Error{Message: m}
		if u := unknownFieldRe.FindStringSubmatch(m); u != nil {
			e.Line, _ = strconv.Atoi(u[1])
			e.Message = fmt.Sprintf("%s: unknown field of kind's %s", u[2], strings.TrimSuffix(u[3], "Alias"))
		} else if l := lineRe.FindStringSubmatch(m); l != nil {
			e.Line, _ = strconv.Atoi(l[1])
			e.Message = l[2]
		}
		out = append(out, e)
	}
	return out
}

func (f *File) convert(in v1alpha4.Cluster, releases []string) config.Errors {
	c := config.Cluster{
		APIVersion: config.APIVersion, Kind: config.Kind, Name: in.Name,
		FeatureGates: in.FeatureGates, RuntimeConfig: in.RuntimeConfig, Networking: f.networking(in.Networking),
	}
	var errs config.Errors
	c.KubeadmPatches, errs = f.kubeadmPatches("", in.KubeadmConfigPatches, in.KubeadmConfigPatchesJSON6902)
	more := f.containerdPatches(&c, in)
	errs = append(errs, more...)
	for i, n := range in.Nodes {
		out := config.Node{Role: string(n.Role), Labels: n.Labels}
		if out.Role == "" {
			out.Role = config.RoleControlPlane
		}
		for _, m := range n.ExtraMounts {
			out.Mounts = append(out.Mounts, config.Mount{
				HostPath: m.HostPath, ContainerPath: m.ContainerPath, ReadOnly: m.Readonly, SELinuxRelabel: m.SelinuxRelabel, Propagation: string(m.Propagation),
			})
		}
		for _, p := range n.ExtraPortMappings {
			out.Ports = append(out.Ports, config.Port{
				ContainerPort: int(p.ContainerPort), HostPort: int(p.HostPort), ListenAddress: p.ListenAddress, Protocol: string(p.Protocol),
			})
		}
		out.KubeadmPatches, more = f.kubeadmPatches(fmt.Sprintf("nodes[%d].", i), n.KubeadmConfigPatches, n.KubeadmConfigPatchesJSON6902)
		errs = append(errs, more...)
		c.Nodes = append(c.Nodes, out)
	}
	errs = append(errs, f.images(&c, in.Nodes, releases)...)
	f.Cluster = c
	return errs
}

func (f *File) networking(in v1alpha4.Networking) config.Networking {
	out := config.Networking{
		IPFamily: string(in.IPFamily), PodSubnet: masked(in.PodSubnet), ServiceSubnet: masked(in.ServiceSubnet),
		APIServerAddress: in.APIServerAddress, APIServerPort: int(in.APIServerPort), DisableDefaultCNI: in.DisableDefaultCNI, KubeProxyMode: string(in.KubeProxyMode),
	}
	if in.APIServerPort == config.HostPortOfEngine {
		out.APIServerPort = 0
		f.note("networking.apiServerPort: -1 lets the engine pick a port at each start; rk picks a free one, which stays the same")
	}
	if in.DNSSearch != nil {
		out.DNSSearch = append([]string{}, *in.DNSSearch...)
	}
	return out
}

// masked clears the bits behind the prefixes of subnets, which kind does not mind.
func masked(s string) string {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		if p, err := netip.ParsePrefix(strings.TrimSpace(part)); err == nil {
			parts[i] = p.Masked().String()
		}
	}
	return strings.Join(parts, ",")
}

// kindestRe is an image of kind's own: the version of Kubernetes is all that
// can be kept of it.
var kindestRe = regexp.MustCompile(`^(?:[a-z0-9.-]+(?::\d+)?/)*kindest/node:(v\d+\.\d+\.\d+)(?:@sha256:[0-9a-f]{64})?$`)

// images turns the nodes' images into a version of Kubernetes, where they are
// kind's own, else leaves them as they are.
func (f *File) images(c *config.Cluster, nodes []v1alpha4.Node, releases []string) config.Errors {
	first := map[string]int{} // version -> node
	var versions []string
	for i, n := range nodes {
		if n.Image == "" {
			continue
		}
		m := kindestRe.FindStringSubmatch(n.Image)
		if m == nil {
			c.Nodes[i].Image = n.Image
			continue
		}
		if _, known := first[m[1]]; !known {
			first[m[1]] = i
			versions = append(versions, m[1])
		}
	}
	if own := c.Nodes; len(own) > 0 && own[0].Image != "" && !slices.ContainsFunc(own, func(n config.Node) bool { return n.Image != own[0].Image }) {
		c.Image = own[0].Image
		for i := range own {
			own[i].Image = ""
		}
	}
	switch len(versions) {
	case 0:
		return nil
	case 1:
	default:
		return config.Errors{{Path: fmt.Sprintf("nodes[%d].image", first[versions[1]]), Message: fmt.Sprintf(
			"is of Kubernetes %s, but nodes[%d] has %s; all nodes of a cluster have one version", versions[1], first[versions[0]], versions[0])}}
	}
	v := versions[0]
	c.KubernetesVersion = nearest(v, releases)
	if c.KubernetesVersion != v {
		f.note("nodes[%d].image: kind's image of Kubernetes %s becomes rk's of %s, the %s that this rk builds", first[v], v, c.KubernetesVersion, minor(v))
	} else {
		f.note("nodes[%d].image: kind's image becomes rk's node image of Kubernetes %s", first[v], v)
	}
	return nil
}

// minor is "v1.36" of "v1.36.3".
func minor(v string) string { return v[:strings.LastIndexByte(v, '.')] }

// nearest is the release of the same minor version, else v itself.
func nearest(v string, releases []string) string {
	if slices.Contains(releases, v) {
		return v
	}
	for _, r := range releases {
		if minor(r) == minor(v) {
			return r
		}
	}
	return v
}

// kubeadmPatches converts the two lists of a place; prefix is its path.
func (f *File) kubeadmPatches(prefix string, merges []string, patches6902 []v1alpha4.PatchJSON6902) (out []config.KubeadmPatch, errs config.Errors) {
	for i, text := range merges {
		at := fmt.Sprintf("%skubeadmConfigPatches[%d]", prefix, i)
		for document := range strings.SplitSeq(text, "\n---") {
			p, err := f.mergePatch(at, document)
			switch {
			case err != nil:
				errs = append(errs, config.Error{Path: at, Message: err.Error()})
			case p != nil:
				f.origins[fmt.Sprintf("%skubeadmPatches[%d]", prefix, len(out))] = at
				out = append(out, *p)
			}
		}
	}
	for i, in := range patches6902 {
		at := fmt.Sprintf("%skubeadmConfigPatchesJSON6902[%d]", prefix, i)
		version := in.Version
		if in.Group != "" {
			version = in.Group + "/" + in.Version
		}
		if !f.patchable(at, in.Kind, version) {
			continue
		}
		operations, err := parseOperations(in.Patch)
		if err != nil {
			errs = append(errs, config.Error{Path: at + ".patch", Message: err.Error()})
			continue
		}
		f.origins[fmt.Sprintf("%skubeadmPatches[%d]", prefix, len(out))] = at
		out = append(out, config.KubeadmPatch{Kind: in.Kind, APIVersion: version, JSON6902: operations})
	}
	return out, errs
}

// mergePatch reads one document of a merge patch; nil if nothing comes of it.
func (f *File) mergePatch(at, text string) (*config.KubeadmPatch, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	doc, err := patch.YAML(text)
	if err != nil {
		return nil, fmt.Errorf("is not a patch: %w", err)
	}
	kind, _ := doc["kind"].(string)
	version, _ := doc["apiVersion"].(string)
	for _, field := range []string{"kind", "apiVersion", "metadata"} {
		delete(doc, field)
	}
	if !f.patchable(at, kind, version) {
		return nil, nil
	}
	if len(doc) == 0 {
		f.note("%s: changes nothing", at)
		return nil, nil
	}
	return &config.KubeadmPatch{Kind: kind, APIVersion: version, Merge: doc}, nil
}

// patchable says whether rk has a document that a patch is for. kind leaves out
// patches of what it has no document of, without a word.
func (f *File) patchable(at, kind, version string) bool {
	switch {
	case kind == "":
		f.note("%s: has no kind, so that it changes nothing, in kind neither", at)
	case !config.CanPatch(kind, ""):
		f.note("%s: %s is nothing that can be patched, in kind neither", at, kind)
	case !config.CanPatch(kind, version):
		f.note("%s: is for %s, which kubeadm no longer knows; kind leaves such a patch out, and so does rk", at, version)
	default:
		return true
	}
	return false
}

// parseOperations reads a JSON patch, in JSON or YAML.
func parseOperations(text string) ([]config.PatchOperation, error) {
	doc, err := patch.YAML("patch:\n" + indent(text))
	if err != nil {
		return nil, fmt.Errorf("is not a JSON patch: %w", err)
	}
	list, ok := doc["patch"].([]any)
	if !ok {
		return nil, errors.New("is not a JSON patch: it must be a list of operations")
	}
	var out []config.PatchOperation
	for _, item := range list {
		m, ok := item.(map[string]any)
		o := config.PatchOperation{Value: m["value"]}
		for field, to := range map[string]*string{"op": &o.Op, "path": &o.Path, "from": &o.From} {
			s, isText := m[field].(string)
			ok = ok && (isText || m[field] == nil)
			*to = s
		}
		if !ok {
			return nil, errors.New("is not a JSON patch: each operation has op, path and value")
		}
		out = append(out, o)
	}
	return out, nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

func (f *File) containerdPatches(c *config.Cluster, in v1alpha4.Cluster) (errs config.Errors) {
	for i, text := range in.ContainerdConfigPatches {
		if strings.TrimSpace(text) == "" {
			continue
		}
		f.origins[fmt.Sprintf("containerdPatches[%d]", len(c.ContainerdPatches))] = fmt.Sprintf("containerdConfigPatches[%d]", i)
		c.ContainerdPatches = append(c.ContainerdPatches, config.ContainerdPatch{TOML: text})
	}
	for i, text := range in.ContainerdConfigPatchesJSON6902 {
		at := fmt.Sprintf("containerdConfigPatchesJSON6902[%d]", i)
		operations, err := parseOperations(text)
		if err != nil {
			errs = append(errs, config.Error{Path: at, Message: err.Error()})
			continue
		}
		f.origins[fmt.Sprintf("containerdPatches[%d]", len(c.ContainerdPatches))] = at
		c.ContainerdPatches = append(c.ContainerdPatches, config.ContainerdPatch{JSON6902: operations})
	}
	return errs
}
