// SPDX-License-Identifier: Apache-2.0

// Package docker is the engine adapter for rootless Docker 20.10 and later:
// translate.go turns the port's structs into those of Docker's API and back,
// purely; the rest is a thin client on Docker's own Go client, which no other
// package imports. The API version is the newest that both sides know.
//
// It must never import anything of rk but the port.
package docker
