// SPDX-License-Identifier: Apache-2.0

package imagearchive

import (
	"fmt"

	"github.com/distribution/reference"
)

// FullName is the name by which Kubernetes looks for an image in a node when a
// pod asks for ref: "docker.io/library/web:latest" for "web". The error says
// what is wrong with ref.
func FullName(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref) // as containerd's CRI plugin does
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", ref, err)
	}
	return named.String(), nil
}
