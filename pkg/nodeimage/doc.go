// SPDX-License-Identifier: Apache-2.0

// Package nodeimage builds node images: `rk build node-image`. It makes four
// layers (Debian base, programs, rk's own files, a containerd store with the
// images of a cluster), and a fifth with images of the user's own if there are
// some, as reproducible tar files and joins them to an OCI archive. It needs mmdebstrap, but no root, no registry and no engine.
//
// It must never import an engine, a cluster package or cobra.
package nodeimage
