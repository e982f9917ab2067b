// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	Path    string // field, e.g. "nodes[1].labels"; "" for the file as a whole
	Line    int    // in the file, from 1; 0 if unknown
	Column  int    // of the line, in characters from 1; 0 if unknown
	Message string // what is wrong and, where it is known, what to write instead
}

// Error returns "line 3, column 9: nodes[0].role: message", without what is unknown.
func (e Error) Error() string {
	var b strings.Builder
	switch {
	case e.Line > 0 && e.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Errors is everything that is wrong with a configuration; never empty when
// it is returned as an error.
type Errors []Error

// maxShown is how many errors are told in words: more than anybody reads.
const maxShown = 50

// Error returns the one error, or all of them (up to 50), one per indented line.
func (e Errors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d errors:", len(e))
	for i, err := range e {
		if i == maxShown {
			fmt.Fprintf(&b, "\n  … and %d more", len(e)-i)
			break
		}
		b.WriteString("\n  " + err.Error())
	}
	return b.String()
}

// orNil is the errors as an error, nil if there are none.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

func (e *Errors) add(path, format string, args ...any) {
	*e = append(*e, Error{Path: path, Message: message(format, args...)})
}

// byPosition orders errors as the file has them.
func (e Errors) byPosition() {
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// text is a part of a message that is never cut short: rk's own words.
type text string

// message is fmt.Sprintf in which strings, which come from the file, are cut
// to a length that can be read.
func message(format string, args ...any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = shorten(s)
		}
	}
	return fmt.Sprintf(format, args...)
}

// maxValue is how much of a value is shown, in characters.
const maxValue = 80

func shorten(s string) string {
	if runes := []rune(s); len(runes) > maxValue {
		return string(runes[:maxValue]) + "…"
	}
	return s
}

// plainRe is what a name may be made of to stand in a path as it is.
var plainRe = regexp.MustCompile(`^[A-Za-z0-9_./ -]{1,80}$`)

// segment is a name as part of a path: in quotes if it is out of the ordinary,
// so that a file cannot write control characters to a terminal.
func segment(name string) string {
	if plainRe.MatchString(name) {
		return name
	}
	return strconv.Quote(shorten(name))
}
