// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// ProxyFromEnvironment completes p with HTTP_PROXY, HTTPS_PROXY and NO_PROXY of
// an environment, of which the lower-case forms win, as in curl: unless p is
// Disabled or has a proxy itself. An unusable variable is an error, which does
// not hold its value.
func ProxyFromEnvironment(p Proxy, env func(string) string) (Proxy, error) {
	if p.Disabled || p.HTTP != "" || p.HTTPS != "" {
		return p, nil
	}
	get := func(name string) string {
		if v := env(strings.ToLower(name)); v != "" {
			return v
		}
		return env(name)
	}
	for _, v := range []struct {
		name string
		to   *string
	}{{"HTTP_PROXY", &p.HTTP}, {"HTTPS_PROXY", &p.HTTPS}} {
		value := get(v.name)
		if value == "" {
			continue
		}
		if _, err := ProxyURL(value); err != nil {
			return p, fmt.Errorf("the environment variable %s %w", v.name, err)
		}
		*v.to = value
	}
	if p.HTTP == "" && p.HTTPS == "" || len(p.NoProxy) > 0 {
		return p, nil
	}
	for name := range strings.SplitSeq(get("NO_PROXY"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			p.NoProxy = append(p.NoProxy, name)
		}
	}
	return p, nil
}
