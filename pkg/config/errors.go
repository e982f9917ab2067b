// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	Path    string // field, e.g. "nodes[1].labels"; "" for the file as a whole
	Line    int    // in the file, from 1; 0 if unknown
	Message string // what is wrong and, where it is known, what to write instead
}

// Error returns "line 3: nodes[0].role: message", without what is unknown.
func (e Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
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

// Error returns the one error, or all of them, one per indented line.
func (e Errors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d errors:", len(e))
	for _, err := range e {
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
	*e = append(*e, Error{Path: path, Message: fmt.Sprintf(format, args...)})
}

// Locate returns err with the lines of data, the file that was loaded, filled
// in where err is [Errors] without them: those of [Validate]. A field that the
// file leaves out gets the line of what it belongs to. The errors are ordered by line.
func Locate(data []byte, err error) error {
	var errs Errors
	if !errors.As(err, &errs) {
		return err
	}
	root, parseErr := parse(data)
	if parseErr != nil {
		return err
	}
	located := make(Errors, len(errs))
	for i, e := range errs {
		if e.Line == 0 && e.Path != "" {
			e.Line = lineOf(root, e.Path)
		}
		located[i] = e
	}
	slices.SortStableFunc(located, func(a, b Error) int { return a.Line - b.Line })
	return located
}
