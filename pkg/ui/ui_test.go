// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// run is the events of a run that fails in its second step and rolls back.
func run() []step.Event {
	err := problem.NodesNotReady.Wrapf("node b:\x1b[31m not\nregistered")
	return []step.Event{
		{Step: "nodes", Title: "Starting nodes", State: step.Started},
		{Step: "node/a", Title: "a", Parent: "nodes", State: step.Started},
		{Step: "node/b", Title: "b", Parent: "nodes", State: step.Started},
		{Step: "node/a", Title: "a", Parent: "nodes", State: step.Done, Elapsed: sec(0.84)},
		{Step: "node/b", Title: "b", Parent: "nodes", State: step.Done, Elapsed: sec(0.96)},
		{Step: "nodes", Title: "Starting nodes", State: step.Done, Elapsed: sec(1)},
		{Step: "ready", Title: "Waiting for nodes", State: step.Started},
		{Step: "ready", Title: "Waiting for nodes", State: step.Progress, Detail: "0 of 2", Elapsed: sec(1)},
		{Step: "ready", Title: "Waiting for nodes", State: step.Progress, Detail: "1 of 2", Elapsed: sec(2.5)},
		{Step: "ready", Title: "Waiting for nodes", State: step.Progress, Detail: "flapping", Elapsed: sec(3)},
		{Step: "ready", Title: "Waiting for nodes", State: step.Failed, Err: err, Elapsed: sec(125)},
		{Step: "node/b", Title: "b", Parent: "nodes", State: step.Undoing},
		{Step: "node/b", Title: "b", Parent: "nodes", State: step.Undone, Elapsed: sec(0.2)},
		{Step: "node/a", Title: "a", Parent: "nodes", State: step.Undoing},
		{Step: "node/a", Title: "a", Parent: "nodes", State: step.Undone, Err: errors.New("undo node/a: engine is gone"), Elapsed: sec(0.3)},
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	const quiet = `• Starting nodes
✓ Starting nodes (1.0s)
• Waiting for nodes
  Waiting for nodes: 1 of 2 (2.5s)
✗ Waiting for nodes (2m05s)
• Removing what was made
✗ undo a: undo node/a: engine is gone (0.3s)
`
	const verbose = `• Starting nodes
  ✓ a (0.8s)
  ✓ b (1.0s)
✓ Starting nodes (1.0s)
• Waiting for nodes
  Waiting for nodes: 1 of 2 (2.5s)
✗ Waiting for nodes (2m05s)
• Removing what was made
✓ undo b (0.2s)
✗ undo a: undo node/a: engine is gone (0.3s)
`
	for _, v := range []bool{false, true} {
		var buf bytes.Buffer
		p := NewProgress(Plain, &buf, Style{Unicode: true}, v)
		for _, e := range run() {
			p.Report(e)
		}
		p.Close()
		if diff := cmp.Diff(map[bool]string{false: quiet, true: verbose}[v], buf.String()); diff != "" {
			t.Errorf("verbose %v (-want +got):\n%s", v, diff)
		}
	}
}

func TestPlainKeptColourAndASCII(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := NewProgress(Plain, &buf, Style{Color: true}, false)
	p.Report(step.Event{Step: "a", State: step.Done, Elapsed: sec(1)})
	p.Report(step.Event{Step: "a", Title: "A", State: step.Kept})
	if want := "\x1b[32m+\x1b[0m a \x1b[2m(1.0s)\x1b[0m\n- kept: A\n"; buf.String() != want {
		t.Errorf("got %q, want %q", buf.String(), want)
	}
}

func TestJSONProgress(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := NewProgress(JSON, &buf, Style{Color: true}, false)
	for _, e := range run() {
		p.Report(e)
	}
	p.Close()
	lines := strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
	if len(lines) != len(run()) {
		t.Fatalf("%d lines for %d events", len(lines), len(run()))
	}
	var got []map[string]any
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, m["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(m, "time")
		got = append(got, m)
	}
	want := map[int]map[string]any{
		3: {"step": "node/a", "title": "a", "parent": "nodes", "state": "done", "elapsed": 0.84},
		7: {"step": "ready", "title": "Waiting for nodes", "state": "progress", "detail": "0 of 2", "elapsed": 1.0},
		10: {"step": "ready", "title": "Waiting for nodes", "state": "failed", "elapsed": 125.0, "code": "RK503",
			"error": "not all nodes became Ready in time: node b:\x1b[31m not\nregistered"},
	}
	for i, w := range want {
		if diff := cmp.Diff(w, got[i]); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := NewProgress(Quiet, &buf, Style{}, true)
	for _, e := range run() {
		p.Report(e)
	}
	p.Close()
	if buf.Len() > 0 {
		t.Errorf("got %q", buf.String())
	}
}

func TestParseMode(t *testing.T) {
	t.Parallel()
	for _, m := range Modes {
		if got, err := ParseMode(string(m)); got != m || err != nil {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	_, err := ParseMode("fancy")
	if !errors.Is(err, problem.InvalidUsage) || !strings.Contains(err.Error(), "--progress=fancy: use one of auto, tty, plain, json, quiet") {
		t.Errorf("got %v", err)
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	_, terminal := openPTY(t)
	for _, tc := range []struct {
		name   string
		mode   Mode
		stream *os.File
		env    map[string]string
		want   Mode
		style  Style
	}{
		{"terminal", Auto, terminal, nil, TTY, Style{Color: true, Unicode: true}},
		{"file", Auto, file, nil, Plain, Style{Unicode: true}},
		{"CI", Auto, terminal, map[string]string{"CI": "true"}, Plain, Style{Color: true, Unicode: true}},
		{"not CI", Auto, terminal, map[string]string{"CI": "false"}, TTY, Style{Color: true, Unicode: true}},
		{"dumb", Auto, terminal, map[string]string{"TERM": "dumb"}, Plain, Style{Unicode: true}},
		{"no colour", Auto, terminal, map[string]string{"NO_COLOR": "1"}, TTY, Style{Unicode: true}},
		{"ASCII locale", Auto, terminal, map[string]string{"LANG": "C.UTF-8", "LC_ALL": "POSIX"}, TTY, Style{Color: true}},
		{"UTF-8 locale", Auto, terminal, map[string]string{"LANG": "de_DE.utf8"}, TTY, Style{Color: true, Unicode: true}},
		{"explicit", JSON, terminal, nil, JSON, Style{Color: true, Unicode: true}},
		{"explicit on a file", TTY, file, nil, TTY, Style{Unicode: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, s := Detect(tc.mode, tc.stream, func(k string) string { return tc.env[k] })
			if m != tc.want || s != tc.style {
				t.Errorf("got %v %+v, want %v %+v", m, s, tc.want, tc.style)
			}
		})
	}
}

func TestPrintError(t *testing.T) {
	t.Parallel()
	known := problem.NodesNotReady.With("Wait longer:\n  --wait=10m").Wrap(fmt.Errorf("node b: not registered: %w", context.DeadlineExceeded))
	logs := problem.Excerpt{Source: "demo-b: kubelet", Lines: []string{"line 1", "line 2"}}
	for _, tc := range []struct {
		name    string
		err     error
		verbose bool
		want    string
	}{
		{"unknown", errors.New("something"), false, "Error: something\n"},
		{
			"problem in a step, with logs and clean-up errors",
			errors.Join(&step.Error{Step: "ready", Err: problem.WithLogs(known, logs)}, errors.New("undo node/a: gone")), false,
			`Error: node b: not registered: context deadline exceeded
RK503: not all nodes became Ready in time
Fix: Wait longer:
       --wait=10m
More: rk explain RK503

demo-b: kubelet
  line 1
  line 2

While cleaning up:
  undo node/a: gone
`,
		},
		{
			"verbose", &step.Error{Step: "ready", Err: known}, true,
			`Error: node b: not registered: context deadline exceeded
RK503: not all nodes became Ready in time
Fix: Wait longer:
       --wait=10m
More: rk explain RK503

In full:
  ready: not all nodes became Ready in time: node b: not registered: context deadline exceeded
`,
		},
		{
			"problem without a cause", problem.ClusterNotFound.With("Look."), false,
			"Error: there is no cluster of this name\nFix: Look.\nMore: rk explain RK405\n",
		},
		{
			"interrupted", &step.Error{Step: "nodes", Err: context.Canceled}, false,
			"Error: nodes: context canceled\nRK508: interrupted\nFix: " + indent(problem.Interrupted.Advice, "     ") + "\nMore: rk explain RK508\n",
		},
		{
			"panic", &step.Error{Step: "nodes", Err: &step.PanicError{Value: "oops", Stack: []byte("the stack")}}, false,
			"Error: nodes: panic: oops\nRK901: rk has a bug\nFix: " + problem.Internal.Advice + "\nMore: rk explain RK901\n",
		},
		{
			"panic, verbose", &step.PanicError{Value: "oops", Stack: []byte("the stack")}, true,
			"Error: panic: oops\nRK901: rk has a bug\nFix: " + problem.Internal.Advice + "\nMore: rk explain RK901\n\nthe stack\n",
		},
		{
			"several lines", errors.Join(problem.InvalidConfig.With("Correct it.").Wrap(errors.Join(errors.New("a: bad"), errors.New("b: bad")))), false,
			"Error: a: bad\n       b: bad\nRK402: the configuration is not valid\nFix: Correct it.\nMore: rk explain RK402\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var buf bytes.Buffer
			PrintError(&buf, tc.err, Style{}, tc.verbose)
			if diff := cmp.Diff(tc.want, buf.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrintErrorJSON(t *testing.T) {
	t.Parallel()
	err := problem.WithLogs(problem.PortTaken.With("Stop it.").Wrapf("port 6443"), problem.Excerpt{Source: "a", Lines: []string{"b"}})
	var buf bytes.Buffer
	PrintErrorJSON(&buf, err)
	want := `{"state":"error","error":"a port of this host is already in use: port 6443","code":"RK106","summary":"a port of this host is already in use",` +
		`"advice":"Stop it.","exitCode":1,"logs":[{"source":"a","lines":["b"]}]}` + "\n"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	err := Summary(&buf, []step.Timing{
		{Step: "nodes", Title: "Starting nodes", State: step.Done, Elapsed: sec(1)},
		{Step: "api", Title: "Waiting for the API", State: step.Failed, Elapsed: sec(12)},
		{Step: "node/a", Title: "a", Parent: "nodes", State: step.Done, Elapsed: sec(0.5)},
	}, sec(13.5))
	if err != nil {
		t.Fatal(err)
	}
	const want = `Where the time went:
   1.0s   7%  Starting nodes
   0.5s   4%    a
  12.0s  89%  Waiting for the API  failed
  13.5s       total
`
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type node struct {
	Name string `json:"name"`
	Role string `json:"role"`
	IP   string `json:"ip"`
}

func TestPrintList(t *testing.T) {
	t.Parallel()
	items := []node{{"a", "control-plane", "10.0.0.2"}, {"bb", "worker", ""}}
	columns := []Column[node]{
		{Name: "NAME", Value: func(n node) string { return n.Name }},
		{Name: "ROLE", Value: func(n node) string { return n.Role }},
		{Name: "IP", Wide: true, Value: func(n node) string { return n.IP }},
	}
	for _, tc := range []struct {
		format Format
		items  []node
		want   string
	}{
		{FormatTable, items, "NAME   ROLE\na      control-plane\nbb     worker\n"},
		{FormatWide, items, "NAME   ROLE            IP\na      control-plane   10.0.0.2\nbb     worker          <none>\n"},
		{FormatName, items, "a\nbb\n"},
		{FormatJSON, items[:1], "[\n  {\n    \"name\": \"a\",\n    \"role\": \"control-plane\",\n    \"ip\": \"10.0.0.2\"\n  }\n]\n"},
		{FormatYAML, items[:1], "- ip: 10.0.0.2\n  name: a\n  role: control-plane\n"},
		{FormatTable, nil, ""},
		{FormatName, nil, ""},
		{FormatJSON, nil, "[]\n"},
		{FormatYAML, nil, "[]\n"},
	} {
		var buf bytes.Buffer
		if err := PrintList(&buf, tc.format, tc.items, columns...); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tc.want, buf.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.format, diff)
		}
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	if f, err := ParseFormat("json", FormatJSON, FormatYAML); f != FormatJSON || err != nil {
		t.Errorf("got %v, %v", f, err)
	}
	if f, err := ParseFormat("", FormatJSON); f != FormatTable || err != nil {
		t.Errorf("got %v, %v", f, err)
	}
	_, err := ParseFormat("xml", FormatJSON, FormatYAML)
	if !errors.Is(err, problem.InvalidUsage) || !strings.Contains(err.Error(), "--output=xml: use one of json, yaml") {
		t.Errorf("got %v", err)
	}
}
