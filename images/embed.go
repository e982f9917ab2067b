// SPDX-License-Identifier: Apache-2.0

// Package images holds one folder per image that runs in a cluster: how it is
// made (image.yaml) and the Kubernetes objects that run it (*.yaml.tmpl).
package images

import "embed"

// FS holds NAME/image.yaml and NAME/*.yaml.tmpl.
//
//go:embed */*.tmpl */image.yaml
var FS embed.FS
