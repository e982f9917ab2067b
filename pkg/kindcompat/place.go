// SPDX-License-Identifier: Apache-2.0

package kindcompat

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/rootless-kubernetes/rk/pkg/config"
)

// Errors puts errors of a check of Cluster into the names and places of the file.
func (f *File) Errors(errs config.Errors) config.Errors {
	out := slices.Clone(errs)
	for i := range out {
		out[i].Path = f.Path(out[i].Path)
	}
	return f.locate(out)
}

// Path is what a field of Cluster is called in the file. A part of a patch is
// the patch, which is one text there.
func (f *File) Path(path string) string {
	for own, origin := range f.origins {
		if path == own || strings.HasPrefix(path, own+".") {
			return origin
		}
	}
	if path == "kubernetesVersion" || path == "image" {
		return "nodes"
	}
	return strings.NewReplacer("].mounts", "].extraMounts", "].ports", "].extraPortMappings").Replace(path)
}

// locate fills in where errors are: at their path, or the nearest above it that
// is in the file.
func (f *File) locate(errs config.Errors) config.Errors {
	for i, e := range errs {
		if e.Line > 0 || len(f.root.Content) == 0 {
			continue
		}
		if n := find(f.root.Content[0], e.Path); n != nil {
			errs[i].Line, errs[i].Column = n.Line, n.Column
		}
	}
	slices.SortStableFunc(errs, func(a, b config.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return errs
}

var segmentRe = regexp.MustCompile(`[^.\[\]]+`)

// find returns what is at a path, or the deepest thing above it; nil if nothing
// of it is in the file.
func find(n *yaml.Node, path string) *yaml.Node {
	var found *yaml.Node
	for _, segment := range segmentRe.FindAllString(path, -1) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == segment {
					found, next = n.Content[i], n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(segment); err == nil && i < len(n.Content) {
				next = n.Content[i]
				found = next
			}
		}
		if next == nil {
			break
		}
		if next.Kind == yaml.ScalarNode {
			found = next
		}
		n = next
	}
	return found
}

var quotedRe = regexp.MustCompile(`^Unknown (?:PortMappingProtocol|MountPropagation): "([^"]*)"$`)

// locateValues finds the values of which kind's own decoding says what they
// are, but not where.
func (f *File) locateValues(errs config.Errors) config.Errors {
	for i, e := range errs {
		if m := quotedRe.FindStringSubmatch(e.Message); m != nil {
			if n := findValue(f.root, m[1]); n != nil {
				errs[i].Line, errs[i].Column = n.Line, n.Column
			}
		}
	}
	return errs
}

// findValue returns the first protocol or propagation that is s, whatever its case.
func findValue(n *yaml.Node, s string) *yaml.Node {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && (n.Content[i-1].Value == "protocol" || n.Content[i-1].Value == "propagation") && strings.EqualFold(c.Value, s) {
			return c
		}
		if found := findValue(c, s); found != nil {
			return found
		}
	}
	return nil
}

// Text puts a message that begins with a field of Cluster into the names of the file.
func (f *File) Text(message string) string {
	if path, rest, ok := strings.Cut(message, ": "); ok && !strings.Contains(path, " ") {
		return f.Path(path) + ": " + rest
	}
	return message
}
