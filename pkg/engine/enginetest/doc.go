// SPDX-License-Identifier: Apache-2.0

// Package enginetest is what tests of the engine port and of everything above
// it need: Fake, an engine in memory with fault injection; Run, the one suite
// that the Fake and every adapter pass; and a tiny image to run it with.
//
// It must never import an adapter, nor be imported outside tests.
package enginetest
