// SPDX-License-Identifier: Apache-2.0

// Package podman is the engine adapter for Podman 4.3 and later: translate.go
// turns the port's structs into those of Podman's API and back, purely; the
// rest is a thin client on Podman's own Go bindings, which no other package
// imports. The engine's command is never run here (see package connect).
//
// It must never import anything of rk but the port.
package podman
