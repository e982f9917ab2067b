// SPDX-License-Identifier: Apache-2.0

// Package docs embeds the pages that the command line prints.
//
// It must never import anything but the standard library's pure packages.
package docs

import (
	"embed"
	"strings"
)

// The pages are made by a test of package preflight.
//
//go:embed codes/RK*.md
var codes embed.FS

// Code returns the page docs/codes/CODE.md of a code such as "RK101", in
// Markdown, for a terminal: without its mark as a title and without comments.
// It is false if there is none.
func Code(code string) (string, bool) {
	data, err := codes.ReadFile("codes/" + strings.ToUpper(code) + ".md")
	if err != nil {
		return "", false
	}
	var b strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(string(data), "# ")) {
		if !strings.HasPrefix(line, "<!--") {
			b.WriteString(line)
		}
	}
	return strings.Replace(b.String(), "\n\n\n", "\n\n", 1), true
}
