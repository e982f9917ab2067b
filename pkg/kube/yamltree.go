// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// Helpers on YAML trees. All of them take nil for a node that is missing.

func scalar(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(value)
	return n
}

// plain rewrites a tree so that each value stands where it counts: aliases
// and merge keys are replaced by what they stand for, and of a key that is
// there several times the last is left, which is the one that kubectl reads.
// The tree must be one that kubectl can read: it bounds what aliases add up to.
func plain(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		target := *n.Alias
		target.HeadComment, target.LineComment, target.FootComment = n.HeadComment, n.LineComment, n.FootComment
		return plain(&target)
	}
	out := *n
	out.Anchor = ""
	out.Content = nil
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			out.Content = append(out.Content, plain(c))
		}
		return &out
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := plain(n.Content[i]), plain(n.Content[i+1])
		if key.ShortTag() != "!!merge" {
			out.Content = setKey(out.Content, key, value)
			continue
		}
		sources := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			sources = value.Content
		}
		for _, s := range slices.Backward(sources) { // the first wins
			for j := 0; j+1 < len(s.Content); j += 2 {
				out.Content = setKey(out.Content, s.Content[j], s.Content[j+1])
			}
		}
	}
	return &out
}

// setKey returns the content of a mapping with a key set.
func setKey(content []*yaml.Node, key, value *yaml.Node) []*yaml.Node {
	for i := 0; i+1 < len(content); i += 2 {
		if k := content[i]; key.Kind == yaml.ScalarNode && k.Kind == yaml.ScalarNode && k.Value == key.Value {
			content[i], content[i+1] = key, value
			return content
		}
	}
	return append(content, key, value)
}

// text is the value of a scalar, empty for anything else and for null.
func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// field returns the value of a key of a mapping.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func setField(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, scalar(key), value)
}

func items(list *yaml.Node) []*yaml.Node {
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	return list.Content
}

func indexNamed(list *yaml.Node, name string) int {
	return slices.IndexFunc(items(list), func(n *yaml.Node) bool { return text(field(n, "name")) == name })
}

// named returns the item of a list whose name is this one.
func named(list *yaml.Node, name string) *yaml.Node {
	if i := indexNamed(list, name); i >= 0 {
		return list.Content[i]
	}
	return nil
}

func setNamed(list *yaml.Node, name string, item *yaml.Node) {
	if i := indexNamed(list, name); i >= 0 {
		list.Content[i] = item
		return
	}
	list.Content = append(list.Content, item)
}

func removeNamed(list *yaml.Node, name string) {
	if i := indexNamed(list, name); i >= 0 {
		list.Content = slices.Delete(list.Content, i, i+1)
	}
}

// noteContext keeps the name of the previously current context in a context;
// "" is none.
func noteContext(item *yaml.Node, previous string) {
	ctx := field(item, "context")
	if ctx == nil {
		return
	}
	list := field(ctx, "extensions")
	if previous == "" {
		if named(list, extensionName) != nil {
			removeNamed(list, extensionName)
		}
		return
	}
	if list == nil || list.Kind != yaml.SequenceNode {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		setField(ctx, "extensions", list)
	}
	setNamed(list, extensionName, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		scalar("name"), scalar(extensionName),
		scalar("extension"), {Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("previousContext"), scalar(previous)}},
	}})
}

// notedContext returns what noteContext kept.
func notedContext(item *yaml.Node) string {
	ext := named(field(field(item, "context"), "extensions"), extensionName)
	return text(field(field(ext, "extension"), "previousContext"))
}
