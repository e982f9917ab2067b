// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/containers/podman/v5/pkg/errorhandling"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// apiError is what the API service answered instead of a result.
type apiError struct {
	text string
	kind error // the port's error that it is, or nil
}

func (e *apiError) Error() string { return e.text }
func (e *apiError) Unwrap() error { return e.kind }

// answered turns an error of the bindings into an apiError. Status 404 means
// the same for all endpoints; the rest of the classification depends on the
// operation and mostly on the text, since Podman answers most failures with
// status 500.
func answered(err error) error {
	if err == nil {
		return nil
	}
	e := &apiError{text: oneLine(err.Error())}
	if statusOf(err) == http.StatusNotFound {
		e.kind = engine.ErrNotFound
	}
	return e
}

// statusOf returns the status of the API's answer, 0 if err is none. (The
// bindings return the model as a value or as a pointer.)
func statusOf(err error) int {
	if model := new(errorhandling.ErrorModel); errors.As(err, &model) || errors.As(err, model) {
		return model.ResponseCode
	}
	return 0
}

// pattern gives a text of Podman's a meaning. The comments name where the text
// comes from.
type pattern struct {
	text *regexp.Regexp
	kind error
}

var (
	creating = []pattern{
		{regexp.MustCompile(`image not known|no such image`), engine.ErrNotFound},                                     // containers/storage ErrImageUnknown; 404 from 5.0 on
		{regexp.MustCompile(`network not found`), engine.ErrNotFound},                                                 // libpod define.ErrNoSuchNetwork
		{regexp.MustCompile(`name .* (is already in use|already exists)|name is already in use`), engine.ErrConflict}, // storage ErrDuplicateName, libpod ErrCtrExists
	}
	starting = []pattern{
		{regexp.MustCompile(`listen (tcp|udp)\S* .*address already in use`), engine.ErrPortInUse},                    // rootlessport
		{regexp.MustCompile(`(bind|publish|port).*(address already in use|already allocated)`), engine.ErrPortInUse}, // pasta
	}
	networking = []pattern{
		{regexp.MustCompile(`network (name \S+ )?already (used|exists)`), engine.ErrConflict}, // libnetwork ErrNetworkExists
		{regexp.MustCompile(`subnet \S+ is already used`), engine.ErrConflict},                // by a network, or an interface of the host
	}
)

var (
	attaching = []pattern{
		{regexp.MustCompile(`already connected to network`), engine.ErrConflict}, // libpod define.ErrNetworkConnected
		{regexp.MustCompile(`network not found`), engine.ErrNotFound},            // before 5.0
	}
	detaching = []pattern{
		{regexp.MustCompile(`is not connected to network|network not found`), engine.ErrNotFound}, // libpod/networking_common.go
	}
)

// classify gives err the kind that the first matching pattern says.
func classify(err error, patterns []pattern) error {
	var e *apiError
	if !errors.As(err, &e) || e.kind != nil {
		return err
	}
	for _, p := range patterns {
		if p.text.MatchString(e.text) {
			return &apiError{e.text, p.kind}
		}
	}
	return err
}

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
