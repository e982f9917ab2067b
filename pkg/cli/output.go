// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"
)

// list is what "rk get" prints of several things.
type list struct {
	header, wide []string // columns; those of wide only with -o wide
	rows         [][]string
	names        []string
	empty        string // said on standard error if there is nothing
}

// printList prints l as table or names, data as json or yaml.
func (a *app) printList(output string, l list, data any) error {
	switch output {
	case "json", "yaml":
		return a.printData(output, data)
	case "name":
		for _, n := range l.names {
			if _, err := fmt.Fprintln(a.Out, n); err != nil {
				return err
			}
		}
		return nil
	}
	if len(l.rows) == 0 {
		a.note("%s", l.empty)
		return nil
	}
	columns := len(l.header)
	if output == "wide" {
		l.header = append(l.header, l.wide...)
		columns = len(l.header)
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{l.header}, l.rows...) {
		if _, err := io.WriteString(w, strings.Join(row[:columns], "\t")+"\n"); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printData prints a value as json or yaml.
func (a *app) printData(output string, data any) error {
	text, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return err
	}
	if output == "yaml" {
		return a.printYAML("yaml", text)
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", text)
	return err
}

// printYAML prints a YAML (or JSON) document as yaml or json.
func (a *app) printYAML(output string, data []byte) error {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return err
	}
	if output == "json" {
		return a.printData(output, v)
	}
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(text)
	return err
}
