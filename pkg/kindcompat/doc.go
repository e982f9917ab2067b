// SPDX-License-Identifier: Apache-2.0

// Package kindcompat makes what people have of kind work with rk: it reads
// kind's configuration files (kind.x-k8s.io/v1alpha4), as strictly as kind
// does and through kind's own types, and converts them to rk.io/v1alpha1; it
// lists kind's own clusters; and it gives rk's nodes as kind's nodes.Node.
//
// It is the only package that may import sigs.k8s.io/kind. It must never import
// an engine adapter.
package kindcompat
