// SPDX-License-Identifier: Apache-2.0

// Package kindcompat makes what people have of kind work with rk.
//
// It is the only package that may import sigs.k8s.io/kind.
package kindcompat
