// SPDX-License-Identifier: Apache-2.0

package authfile

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	const file = `{"auths": {
		"registry.example.com": {"auth": "dXNlcjpodW50ZXIy"},
		"registry.example.com/team": {"auth": "b3RoZXI6b3RoZXI="},
		"https://old.example.com/v1/": {"username": "u", "password": "p:q"},
		"colon.example.com:5000": {"auth": "dTpwOnE="},
		"token.example.com": {"identitytoken": "hunter2"},
		"broken.example.com": {"auth": "hunter2"},
		"helped.example.com": {}
	}, "credHelpers": {"helped.example.com": "pass"}}`
	for host, want := range map[string]struct {
		c   Credentials
		ok  bool
		err string
	}{
		"registry.example.com":   {c: Credentials{"user", "hunter2"}, ok: true},
		"old.example.com":        {c: Credentials{"u", "p:q"}, ok: true},
		"colon.example.com:5000": {c: Credentials{"u", "p:q"}, ok: true},
		"colon.example.com":      {},
		"none.example.com":       {},
		"token.example.com":      {err: "identity token"},
		"broken.example.com":     {err: "not a name and a password"},
		"helped.example.com":     {err: "credential helper"},
	} {
		c, ok, err := Find([]byte(file), host)
		if c != want.c || ok != want.ok || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %v %v %v", host, c, ok, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error has a secret: %v", host, err)
		}
	}
	if _, _, err := Find([]byte(`hunter2`), "registry.example.com"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("not JSON: %v", err)
	}
}
