// SPDX-License-Identifier: Apache-2.0

// Package pause embeds the source of the pause program, the process that
// holds a pod's namespaces. The program has no dependency beyond the standard
// library, so its source is all that a build needs.
//
// It must never import anything but embed.
package pause

import _ "embed"

// Source is the program's only file, pause/main.go.
//
//go:embed pause/main.go
var Source []byte
