// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// logLines is how many lines of the go tool's messages an error may quote.
const logLines = 20

// buildLog takes what "go build -v" prints: progress becomes events, the rest
// is kept for an error.
type buildLog struct {
	part   string
	report func(Event)

	mu      sync.Mutex
	partial []byte
	lines   []string
}

func (l *buildLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		l.line(string(line))
		l.partial = rest
	}
}

func (l *buildLog) line(s string) {
	if module, ok := strings.CutPrefix(s, "go: downloading "); ok {
		l.report(Event{Part: l.part, Kind: Downloading, Detail: module})
		return
	}
	// With -v a package that is being compiled is a line of its own.
	if s != "" && !strings.ContainsAny(s, " \t:") {
		l.report(Event{Part: l.part, Kind: Compiling, Detail: s})
		return
	}
	l.lines = append(l.lines, s)
	if len(l.lines) > logLines {
		l.lines = l.lines[1:]
	}
}

// text returns the last messages.
func (l *buildLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	if len(l.partial) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(l.partial))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// failures are what a build can end with for reasons outside the code: a text
// among the go tool's messages, and what it means.
var failures = []struct {
	text string
	is   *problem.Problem
}{
	{"SECURITY ERROR", problem.ChecksumMismatch.With("Find out who changed the module before anything else. If a fault of the disk did, empty the module cache with 'go clean -modcache'.")},
	{"no space left on device", problem.DiskFull.With("Free some gigabytes where 'go env GOCACHE GOMODCACHE' and the folder ~/.cache/rk point; 'go clean -cache' is one way.")},
	{"signal: killed", problem.BuildFailed.With("The compiler was killed, probably for want of memory: have 4 GiB free" + elsewhere)},
	{"module lookup disabled by GOPROXY=off", problem.SourceUnreachable},
	{"dial tcp", problem.SourceUnreachable},
	{"no such host", problem.SourceUnreachable},
	{"i/o timeout", problem.SourceUnreachable},
	{"TLS handshake", problem.SourceUnreachable},
	{"x509: ", problem.SourceUnreachable},
	{"Proxy Authentication Required", problem.SourceUnreachable},
	{": 403 Forbidden", problem.SourceUnreachable},
	{": 404 Not Found", problem.SourceUnreachable},
	{": 410 Gone", problem.SourceUnreachable},
	{": 502 Bad Gateway", problem.SourceUnreachable},
	{": 503 Service Unavailable", problem.SourceUnreachable},
}

// explain makes the end of a build an error that says what helps. The go
// tool's own messages are part of it.
func explain(ctx context.Context, p Part, tools toolchain, text string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("building part %s: %w", p.Name, err)
	}
	is := problem.BuildFailed
	for _, f := range failures {
		if strings.Contains(text, f.text) {
			is = f.is
			break
		}
	}
	if is == problem.SourceUnreachable {
		is = is.Withf("Check the network, HTTPS_PROXY and GOPROXY (it is %q)%s", tools.proxy, elsewhere)
	}
	return is.Wrapf("part %s: %w:\n%s", p.Name, err, text)
}
