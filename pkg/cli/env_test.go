// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/cli"
)

// Kind's variable names the engine where nothing of rk's does. There is none here, and the error says which was looked for.
func TestKindProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env        map[string]string
		args, want string
		unwanted   string
	}{
		{map[string]string{"KIND_EXPERIMENTAL_PROVIDER": "docker"}, "", "Docker", "Podman"},
		{map[string]string{"KIND_EXPERIMENTAL_PROVIDER": "podman"}, "", "Podman", "Docker"},
		{map[string]string{"KIND_EXPERIMENTAL_PROVIDER": "docker", "RK_ENGINE": "podman"}, "", "Podman", "Docker"},
		{map[string]string{"KIND_EXPERIMENTAL_PROVIDER": "docker"}, "--engine=podman", "Podman", "Docker"},
		{map[string]string{"KIND_EXPERIMENTAL_PROVIDER": "nerdctl"}, "", "KIND_EXPERIMENTAL_PROVIDER=nerdctl is ignored", "panic"},
	} {
		var errs bytes.Buffer
		c.env["XDG_RUNTIME_DIR"] = t.TempDir()
		args := append([]string{"get", "clusters"}, strings.Fields(c.args)...)
		exit := cli.Run(t.Context(), cli.Deps{
			In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &errs, Env: func(name string) string { return c.env[name] },
		}, args)
		first, _, _ := strings.Cut(errs.String(), "\nFix:") // which speaks of both
		if exit == 0 || !strings.Contains(first, c.want) || strings.Contains(first, c.unwanted) {
			t.Errorf("%v %s: exit code %d\n%s", c.env, c.args, exit, &errs)
		}
	}
}
