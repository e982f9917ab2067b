// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Format is how results are written.
type Format string

// The values of -o/--output.
const (
	FormatTable Format = ""
	FormatWide  Format = "wide"
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
	FormatName  Format = "name"
)

// ParseFormat reads a value of --output that is among the allowed ones; the
// empty one always is. The error holds problem.InvalidUsage.
func ParseFormat(s string, allowed ...Format) (Format, error) {
	if f := Format(s); f == FormatTable || slices.Contains(allowed, f) {
		return f, nil
	}
	return "", problem.InvalidUsage.Wrapf("--output=%s: use one of %s", s, join(allowed))
}

// Column is a column of a table of T.
type Column[T any] struct {
	Name  string // in capitals
	Wide  bool   // only with -o wide
	Value func(T) string
}

// PrintList writes results: a table with a header (nothing at all for no
// items), their names line by line, or a JSON or YAML list. T's json tags
// rule both. The first column is the name.
func PrintList[T any](w io.Writer, f Format, items []T, columns ...Column[T]) error {
	switch f {
	case FormatJSON, FormatYAML:
		if items == nil {
			items = []T{} // "[]", not "null"
		}
		return PrintValue(w, f, items)
	case FormatName:
		for _, item := range items {
			if _, err := fmt.Fprintln(w, columns[0].Value(item)); err != nil {
				return err
			}
		}
		return nil
	case FormatTable, FormatWide:
	}
	if len(items) == 0 {
		return nil
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c Column[T]) bool { return c.Wide && f != FormatWide })
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.Name
	}
	_, _ = fmt.Fprintln(tw, strings.Join(row, "\t"))
	for _, item := range items {
		for i, c := range columns {
			if row[i] = oneLine(c.Value(item)); row[i] == "" {
				row[i] = "<none>" // as kubectl shows it
			}
		}
		_, _ = fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// PrintValue writes one value as JSON or YAML.
func PrintValue(w io.Writer, f Format, v any) error {
	var out []byte
	var err error
	if f == FormatYAML {
		out, err = yaml.Marshal(v)
	} else if out, err = json.MarshalIndent(v, "", "  "); err == nil {
		out = append(out, '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}
