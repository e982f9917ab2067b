// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema is the JSON schema (draft 2020-12) of rk.io/v1alpha1, for editors. It
// accepts every file that [Load] does; what it cannot say, like that subnets do
// not overlap, is left to Load.
func Schema() []byte { return slices.Clone(schema) }
