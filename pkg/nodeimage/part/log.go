// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
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
// among the go tool's messages, what it means and what helps.
var failures = []struct{ text, cause, fix string }{
	{"SECURITY ERROR", "a module is not the one that rk's checksums are for",
		"find out who changed it before anything else; empty the module cache with go clean -modcache if it came from a disk fault"},
	{"no space left on device", "the disk is full", "free a few gigabytes in the folders of go env GOCACHE GOMODCACHE GOTMPDIR and in rk's cache"},
	{"signal: killed", "the compiler was killed, probably for want of memory", "have 4 GiB of memory free, or build on another machine and use --source dir"},
	{"module lookup disabled by GOPROXY=off", unreachable, reach},
	{"dial tcp", unreachable, reach},
	{"no such host", unreachable, reach},
	{"i/o timeout", unreachable, reach},
	{"TLS handshake", unreachable, reach},
	{"x509: ", unreachable, reach},
	{"Proxy Authentication Required", unreachable, reach},
	{"403 Forbidden", unreachable, reach},
	{"404 Not Found", unreachable, reach},
	{"410 Gone", unreachable, reach},
	{"502 Bad Gateway", unreachable, reach},
	{"503 Service Unavailable", unreachable, reach},
}

const (
	unreachable = "a Go module can't be downloaded"
	reach       = "check the network, HTTPS_PROXY and GOPROXY (now %q), or build on a machine that reaches the modules and take the parts from a folder with --source dir"
)

// explain makes the end of a build an error that says what helps.
func explain(ctx context.Context, p Part, tools toolchain, text string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("building part %s: %w", p.Name, err)
	}
	for _, f := range failures {
		if !strings.Contains(text, f.text) {
			continue
		}
		fix := f.fix
		if fix == reach {
			fix = fmt.Sprintf(reach, tools.proxy)
		}
		return &Error{Part: p.Name, Cause: f.cause, Fix: fix, Err: fmt.Errorf("%w:\n%s\n", err, text)}
	}
	return fmt.Errorf("compiling part %s: %w:\n%s", p.Name, err, text)
}
