// SPDX-License-Identifier: Apache-2.0

// Package problem is the catalogue of what can go wrong for a user: a stable
// code, the cause in one sentence, the exact fix, and the exit code. Packages
// wrap their causes in a Problem; the command line prints it.
//
// It must never import anything but the standard library's pure packages.
package problem
