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
// contains although their result depends on more than their arguments.
var notRepeatable = []string{
	// the clock
	"ago", "durationRound", "mustDateModify", "must_date_modify",
	// the host's time zone
	"toDate", "mustToDate",
	// randomness
	"shuffle", "randInt", "bcrypt", "htpasswd", "encryptAES",
	"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey",
	// the order of a Go map; range over the map itself is sorted
	"keys", "values",
}

func functions() template.FuncMap {
	f := sprig.HermeticTxtFuncMap()
	for _, name := range notRepeatable {
		delete(f, name)
	}
	return f
}

// File renders the template called name of fsys with data. A field or key that data
// does not have is an error, as is everything else that text/template would
// render as "<no value>". Errors name the template and its line.
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
