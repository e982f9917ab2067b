// SPDX-License-Identifier: Apache-2.0

// Package ui is what the command line shows: progress on standard error
// (live on a terminal, else line by line or as JSON), results as tables or
// documents on standard output, and errors with their fix.
//
// Only pkg/cli may import it; it must never import engine, plan or cluster.
package ui

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// Mode is how progress is shown.
type Mode string

// The values of --progress.
const (
	Auto  Mode = "auto"  // TTY on a terminal, else Plain
	TTY   Mode = "tty"   // live lines
	Plain Mode = "plain" // a line for each event worth reading
	JSON  Mode = "json"  // every event as one line of JSON
	Quiet Mode = "quiet" // nothing
)

// Modes lists the values of --progress.
var Modes = []Mode{Auto, TTY, Plain, JSON, Quiet}

// ParseMode reads a value of --progress. The error holds problem.InvalidUsage.
func ParseMode(s string) (Mode, error) {
	if m := Mode(s); slices.Contains(Modes, m) {
		return m, nil
	}
	return "", problem.InvalidUsage.Wrapf("--progress=%s: use one of %s", s, join(Modes))
}

func join[T ~string](values []T) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return strings.Join(out, ", ")
}

// Style is what the terminal can show.
type Style struct {
	Color   bool
	Unicode bool
}

// Detect returns the mode that Auto stands for, other modes unchanged, and
// the style, for a stream and the environment. It is TTY if the stream is a
// terminal, TERM is not "dumb" and CI is not set to true. Colours need a
// terminal and no NO_COLOR (https://no-color.org).
func Detect(m Mode, stream *os.File, getenv func(string) string) (Mode, Style) {
	terminal := term.IsTerminal(int(stream.Fd())) && getenv("TERM") != "dumb"
	if m == Auto {
		m = Plain
		if ci := strings.ToLower(getenv("CI")); terminal && ci != "true" && ci != "1" {
			m = TTY
		}
	}
	return m, Style{Color: terminal && getenv("NO_COLOR") == "", Unicode: unicode(getenv)}
}

// unicode reports whether the locale is UTF-8; one that is not set is taken
// for it, as terminals are.
func unicode(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

// Progress is a reporter that must be closed before anything else is written
// to its stream.
type Progress interface {
	step.Reporter
	Close()
}

// NewProgress returns the reporter for a mode; Auto is Plain here, see
// Detect. With verbose, finished steps inside of groups get a line too.
func NewProgress(m Mode, w io.Writer, s Style, verbose bool) Progress {
	switch m {
	case TTY:
		return newTTY(w, s, verbose)
	case JSON:
		return &jsonProgress{w: w}
	case Quiet:
		return quiet{}
	case Auto, Plain:
	}
	return &plain{w: w, painter: painter{s}, verbose: verbose}
}

type quiet struct{}

func (quiet) Report(step.Event) {}
func (quiet) Close()            {}

// painter knows the symbols and colours of a style.
type painter struct{ Style }

func (p painter) paint(code, s string) string {
	if !p.Color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) red(s string) string   { return p.paint("31", s) }
func (p painter) green(s string) string { return p.paint("32", s) }
func (p painter) bold(s string) string  { return p.paint("1", s) }
func (p painter) dim(s string) string   { return p.paint("2", s) }

func (p painter) symbol(unicode, ascii string) string {
	if p.Unicode {
		return unicode
	}
	return ascii
}

func (p painter) ok() string   { return p.green(p.symbol("✓", "+")) }
func (p painter) bad() string  { return p.red(p.symbol("✗", "x")) }
func (p painter) item() string { return p.symbol("•", "-") }

// seconds renders a duration as it is shown everywhere: "0.4s", "12.0s", "3m05s".
func seconds(d interface{ Seconds() float64 }) string {
	s := d.Seconds()
	if s < 60 {
		return fmt.Sprintf("%.1fs", s)
	}
	n := int(s + 0.5)
	return fmt.Sprintf("%dm%02ds", n/60, n%60)
}

// oneLine makes foreign text safe for a line of progress: the first line,
// without control characters.
func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
