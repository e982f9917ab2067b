// SPDX-License-Identifier: Apache-2.0

package problem

import "errors"

// Excerpt is a piece of a log that shows a cause.
type Excerpt struct {
	Source string   `json:"source"` // where the lines come from, e.g. "demo-worker: kubelet"
	Lines  []string `json:"lines"`  // oldest first, without line ends
}

// WithLogs returns err with excerpts of logs. The error's text stays the
// same; the command line shows the excerpts below it. Without excerpts, and
// for nil, err itself is returned.
func WithLogs(err error, logs ...Excerpt) error {
	if err == nil || len(logs) == 0 {
		return err
	}
	return &withLogs{err: err, logs: logs}
}

// Logs returns the excerpts that err carries.
func Logs(err error) []Excerpt {
	var l *withLogs
	if !errors.As(err, &l) {
		return nil
	}
	return append(l.logs[:len(l.logs):len(l.logs)], Logs(l.err)...)
}

type withLogs struct {
	err  error
	logs []Excerpt
}

func (e *withLogs) Error() string { return e.err.Error() }
func (e *withLogs) Unwrap() error { return e.err }
