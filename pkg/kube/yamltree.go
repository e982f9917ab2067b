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

// noteContext keeps the name of the previously current context in a context.
func noteContext(item *yaml.Node, previous string) {
	ctx := field(item, "context")
	if previous == "" || ctx == nil {
		return
	}
	list := field(ctx, "extensions")
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
