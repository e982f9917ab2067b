// SPDX-License-Identifier: Apache-2.0

// Package templates holds the per-node files that a plan renders: kubelet,
// kubeadm, CNI and the node's own environment.
package templates

import "embed"

// FS holds *.tmpl.
//
//go:embed *.tmpl
var FS embed.FS
