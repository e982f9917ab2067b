// SPDX-License-Identifier: Apache-2.0

// Package fetch downloads files with known checksums over HTTP. What came
// before a connection broke, or the process was killed, is kept and not
// fetched again. It knows nothing of what is in the files.
//
// It must never import any package of this module but problem.
package fetch
