// SPDX-License-Identifier: Apache-2.0

// Package part provides the programs of a node image: which ones there are,
// at which versions, and how they are come by: compiled from their Go modules
// ([Module]), fetched as their projects publish them ([Official]) or taken from a
// folder ([Dir]). All of them are static, but for what releases.yaml says of the
// published ones.
// It knows nothing of root file systems, containerd or OCI images.
//
// It must never import an engine, a cluster package or cobra.
package part
