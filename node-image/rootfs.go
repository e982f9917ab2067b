// SPDX-License-Identifier: Apache-2.0

package nodeimagedata

import "embed"

// Rootfs holds rootfs.yaml, which says how the root file system of a node is
// made, and rootfs/, the files that are laid over it.
//
//go:embed rootfs.yaml all:rootfs
var Rootfs embed.FS
