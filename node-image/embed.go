// SPDX-License-Identifier: Apache-2.0

// Package nodeimagedata embeds the data that a node image is made of: the
// version pins and the module requirements of its parts. It is data only:
// packages below pkg/nodeimage give it meaning.
//
// It must never import anything but embed.
package nodeimagedata

import "embed"

// FS holds versions.yaml, releases.yaml and parts/NAME.mod with parts/NAME.sum.
//
//go:embed versions.yaml releases.yaml parts/*.mod parts/*.sum
var FS embed.FS
