// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"

	"github.com/rootless-kubernetes/rk/pkg/step"
)

// openPTY returns both ends of a new pseudo terminal.
func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close(); _ = master.Close() })
	return master, terminal
}

// screen is what a terminal shows, as far as mpb's output needs one.
type screen struct {
	mu     sync.Mutex
	lines  []string
	row    int
	raw    strings.Builder
	shown  []string // every state of the screen
	widest int
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	for text != "" {
		if m := escape.FindStringSubmatch(text); m != nil {
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				s.row = max(0, s.row-n)
			case "J":
				s.lines = s.lines[:min(s.row, len(s.lines))]
			case "m":
			default:
				panic(fmt.Sprintf("the screen does not know %q", m[0]))
			}
			text = text[len(m[0]):]
			continue
		}
		end := strings.IndexAny(text, "\n\x1b")
		if end < 0 {
			end = len(text)
		}
		for len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		s.lines[s.row] += text[:end]
		s.widest = max(s.widest, runewidth.StringWidth(s.lines[s.row]))
		text = text[end:]
		if strings.HasPrefix(text, "\n") {
			s.row++
			text = text[1:]
		}
	}
	s.shown = append(s.shown, strings.Join(s.lines, "\n"))
	return len(b), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimRight(strings.Join(s.lines, "\n"), "\n ")
}

// shows waits until the screen has shown want.
func (s *screen) shows(t *testing.T, want string) {
	t.Helper()
	for {
		s.mu.Lock()
		for _, state := range s.shown {
			if strings.Contains(state, want) {
				s.mu.Unlock()
				return
			}
		}
		s.mu.Unlock()
		select {
		case <-t.Context().Done():
			t.Fatalf("%q was not shown", want)
		case <-time.After(refreshInterval / 4):
		}
	}
}

func TestTTY(t *testing.T) {
	t.Parallel()
	master, terminal := openPTY(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 60, Row: 24}); err != nil {
		t.Fatal(err)
	}
	var s screen
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			text, _, end := strings.Cut(string(buf[:n]), "\x04")
			_, _ = s.Write([]byte(text))
			if err != nil || end {
				return
			}
		}
	})

	p := NewProgress(TTY, terminal, Style{Color: true, Unicode: true}, false)
	events := run()
	for _, e := range events[:3] {
		p.Report(e)
	}
	s.shows(t, " Starting nodes 0.")
	s.shows(t, " b 0.")
	for _, e := range events[3:8] {
		p.Report(e)
	}
	s.shows(t, "✓ Starting nodes (1.0s)\n")
	s.shows(t, "s  0 of 2")
	for _, e := range events[8:] {
		p.Report(e)
	}
	p.Close()
	if _, err := terminal.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	reading.Wait()

	const want = `✓ Starting nodes (1.0s)
✗ Waiting for nodes (2m05s)
• Removing what was made
✗ undo a: undo node/a: engine is gone (0.3s)`
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("what stays (-want +got):\n%s\nraw: %q", diff, s.raw.String())
	}
	if s.widest > 60 {
		t.Errorf("a line is %d wide", s.widest)
	}
}

func newTree(t *testing.T, s Style) *tty {
	t.Helper()
	tr := newTTY(&screen{}, s, false)
	t.Cleanup(tr.Close)
	tr.Report(step.Event{Step: "nodes", Title: "Starting nodes", State: step.Started})
	tr.Report(step.Event{Step: "net", Title: "Network", State: step.Started})
	tr.Report(step.Event{Step: "a", Title: "node a", Parent: "nodes", State: step.Started})
	tr.Report(step.Event{Step: "a1", Title: "copy", Parent: "a", State: step.Started})
	tr.Report(step.Event{Step: "b", Title: "node b", Parent: "nodes", State: step.Started})
	tr.Report(step.Event{Step: "b", Title: "node b", Parent: "nodes", State: step.Progress, Detail: "waiting for\x1b[2J systemd\nmore"})
	return tr
}

var frameSymbol = regexp.MustCompile(`[\x{2801}-\x{28ff}/|\\-] `)

func renderTree(tr *tty, width int) string {
	now := tr.live[0].start.Add(90 * time.Second)
	return frameSymbol.ReplaceAllString(strings.Join(tr.lines(width, now), "\n"), "* ")
}

func TestTreeOfLiveLines(t *testing.T) {
	t.Parallel()
	const want = `* Starting nodes 1m30s
  * node a 1m30s
    * copy 1m30s
  * node b 1m30s  waiting for[2J systemd
* Network 1m30s`
	if diff := cmp.Diff(want, renderTree(newTree(t, Style{Unicode: true}), 80)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNarrowTerminal(t *testing.T) {
	t.Parallel()
	for _, s := range []Style{{}, {Unicode: true}} {
		tr := newTree(t, s)
		for _, width := range []int{100, 40, 30, 20, 10, 3, 1} {
			for line := range strings.SplitSeq(renderTree(tr, width), "\n") {
				if got := runewidth.StringWidth(line); got > width {
					t.Errorf("width %d: %q is %d wide", width, line, got)
				}
			}
		}
		if got := strings.Split(renderTree(tr, 30), "\n")[3]; got != "  * node b 1m30s  waiting f"+tr.symbol("…", "...") && got != "  * node b 1m30s  waiting for"+tr.symbol("…", "...") {
			t.Errorf("at width 30: %q", got)
		}
	}
}

func TestTTYOnSomethingElseThanATerminal(t *testing.T) {
	t.Parallel()
	var s screen
	p := NewProgress(TTY, &s, Style{}, true)
	for _, e := range run() {
		p.Report(e)
	}
	p.Close()
	p.Report(run()[0]) // late events of a step that was cut off are dropped
	if got := s.String(); !strings.HasPrefix(got, "  + a (0.8s)\n  + b (1.0s)\n+ Starting nodes (1.0s)\n") {
		t.Errorf("got %q", got)
	}
}
