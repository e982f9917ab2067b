// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

var errStalled = errors.New("the connection brought nothing for too long")

// localError is an error of this machine's files.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// permanentError is one that another attempt does not mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// statusError is an answer that is not the file.
type statusError struct {
	status string // e.g. "404 Not Found"
	code   int
	after  time.Duration // Retry-After in seconds; 0: not said
}

func newStatusError(resp *http.Response) error {
	e := &statusError{status: resp.Status, code: resp.StatusCode}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		e.after = time.Duration(n) * time.Second
	}
	return e
}

func (e *statusError) Error() string { return "the server answered " + e.status }

func (e *statusError) temporary() bool {
	return e.code >= 500 && e.code != http.StatusNotImplemented || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

// temporary says whether another attempt may succeed.
func temporary(err error) bool {
	var local *localError
	var permanent *permanentError
	var status *statusError
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &local), errors.As(err, &permanent), errors.As(err, &certificate):
		return false
	case errors.As(err, &status):
		return status.temporary()
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return true
}

// unwrapURL leaves out the address, which the error of a download names anyway.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
