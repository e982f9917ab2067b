// SPDX-License-Identifier: Apache-2.0

// Package registry embeds the source of the registry program: the registry of
// the CNCF Distribution project with what rk uses of it. The project's own main
// package also links the clients of three object stores, which would double the
// program's size and the time that it takes to build.
//
// It must never import anything but embed.
package registry

import _ "embed"

// Source is the program's only file, registry/main.go. What it imports is in
// parts/registry.mod.
//
//go:embed registry/main.go
var Source []byte
