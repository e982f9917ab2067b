// SPDX-License-Identifier: Apache-2.0

// Package render fills text templates strictly: an unknown key is an error,
// and the functions are those of sprig that give the same result for the same
// input every time, so that a plan is reproducible.
//
// It must never import os, net/http, a clock or randomness.
package render

import (
	"bytes"
	"fmt"
	"io/fs"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// notRepeatable are the functions that sprig's own hermetic set still
// contains although their result depends on a clock or on randomness.
var notRepeatable = []string{
	"ago", "shuffle", "randInt", "mustDateModify", "must_date_modify", "bcrypt", "htpasswd", "encryptAES",
	"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey",
}

func functions() template.FuncMap {
	f := sprig.HermeticTxtFuncMap()
	for _, name := range notRepeatable {
		delete(f, name)
	}
	return f
}

// File renders the template NAME of fsys with data. Errors name the template and its line.
func File(fsys fs.FS, name string, data any) (string, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return "", fmt.Errorf("template: %w", err)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(functions()).Parse(string(text))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}
