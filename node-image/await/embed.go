// SPDX-License-Identifier: Apache-2.0

// Package await embeds the source of the await program, which starts another
// program once the Kubernetes API is ready. It has no dependency beyond the
// standard library, so its source is all that a build needs.
//
// It must never import anything but embed.
package await

import _ "embed"

// Source is the program's only file, await/main.go.
//
//go:embed await/main.go
var Source []byte
