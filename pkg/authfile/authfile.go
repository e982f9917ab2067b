// SPDX-License-Identifier: Apache-2.0

// Package authfile reads credentials for registries from the files that
// "docker login" and "podman login" write: containers-auth.json(5).
//
// It must never import os, or any package of this module.
package authfile

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Credentials are what one logs in to a registry with.
type Credentials struct{ Username, Password string }

// entry is one registry's. A token in place of a password has no use for the kubelet.
type entry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

// Find returns the credentials for a host ("registry.example.com:5000") in a file.
// Errors name neither credentials nor the text of the file.
func Find(file []byte, host string) (c Credentials, ok bool, err error) {
	var f struct {
		Auths       map[string]entry  `json:"auths"`
		CredHelpers map[string]string `json:"credHelpers"`
		CredsStore  string            `json:"credsStore"`
	}
	if err := json.Unmarshal(file, &f); err != nil {
		return c, false, errors.New("it is not a file of credentials as 'podman login' and 'docker login' write it")
	}
	for key, e := range f.Auths {
		if !sameHost(key, host) {
			continue
		}
		switch {
		case e.Auth != "":
			return decode(e.Auth, host)
		case e.Username != "" && e.Password != "":
			return Credentials{e.Username, e.Password}, true, nil
		case e.IdentityToken != "":
			return c, false, fmt.Errorf("what it has for %s is an identity token, and nodes need a name with a password or an access token", host)
		}
	}
	if helper := f.CredHelpers[host]; helper != "" || f.CredsStore != "" {
		return c, false, fmt.Errorf("it leaves the credentials for %s to a credential helper; log in with a file of its own: 'podman login --authfile FILE %s'", host, host)
	}
	return c, false, nil
}

func decode(auth, host string) (Credentials, bool, error) {
	text, err := base64.StdEncoding.DecodeString(auth)
	name, password, ok := strings.Cut(strings.TrimRight(string(text), "\x00"), ":")
	if err != nil || !ok || name == "" {
		return Credentials{}, false, fmt.Errorf("the auth of %s is not a name and a password in base64", host)
	}
	return Credentials{name, password}, true, nil
}

// sameHost compares a key of auths, which may be a URL, with a host.
func sameHost(key, host string) bool {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
		key, _, _ = strings.Cut(key, "/") // docker's keys of old have a path
	}
	return key == host
}
