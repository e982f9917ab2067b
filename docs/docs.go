// SPDX-License-Identifier: Apache-2.0

// Package docs embeds the pages that the command line prints.
//
// It must never import anything but the standard library's pure packages.
package docs

import (
	_ "embed"
	"strings"
)

//go:embed errors.md
var errorsPage string

// Error returns the entry of docs/errors.md for a code such as "RK101", in
// Markdown, from its title to the next one; false if there is none.
func Error(code string) (string, bool) {
	_, rest, ok := strings.Cut(errorsPage, "\n### "+strings.ToUpper(code)+": ")
	if !ok {
		return "", false
	}
	if end := strings.Index(rest, "\n##"); end >= 0 {
		rest = rest[:end]
	}
	return strings.ToUpper(code) + ": " + strings.TrimSpace(rest) + "\n", true
}
