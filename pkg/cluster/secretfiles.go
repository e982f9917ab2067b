// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/authfile"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

const secretMode = 0o600

// secretFiles makes the files that a plan says are secret, of the user's own files.
func secretFiles(list []plan.Secret) ([]node.File, error) {
	var out []node.File
	for _, s := range list {
		data, err := secretFile(s)
		if err != nil {
			return nil, problem.InvalidConfig.Wrapf("registries: %w", err)
		}
		out = append(out, node.File{Path: s.Path, Mode: secretMode, Data: data})
	}
	return out, nil
}

func secretFile(s plan.Secret) ([]byte, error) {
	switch s.Format {
	case plan.SecretCopy:
		return os.ReadFile(s.From[0].File)
	case plan.SecretLogin:
		c, err := credentials(s.From[0])
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]string{"ServerURL": s.From[0].Host, "Username": c.Username, "Secret": c.Password})
	case plan.SecretDockerConfig:
		auths := map[string]map[string]string{}
		for _, from := range s.From {
			c, err := credentials(from)
			if err != nil {
				return nil, err
			}
			// The kubelet reads this field alone (pkg/credentialprovider/config.go).
			auths[from.Host] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))}
		}
		return json.MarshalIndent(map[string]any{"auths": auths}, "", "  ")
	}
	return nil, fmt.Errorf("secret %s has the unknown format %q", s.Path, s.Format)
}

func credentials(from plan.SecretFrom) (authfile.Credentials, error) {
	data, err := os.ReadFile(from.File)
	if err != nil {
		return authfile.Credentials{}, err
	}
	c, ok, err := authfile.Find(data, from.Host)
	switch {
	case err != nil:
		return c, fmt.Errorf("%s: %w", from.File, err)
	case !ok:
		return c, fmt.Errorf("%s has no credentials for %s any more", from.File, strings.TrimSpace(from.Host))
	}
	return c, nil
}
