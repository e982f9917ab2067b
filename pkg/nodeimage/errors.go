// SPDX-License-Identifier: Apache-2.0

package nodeimage

// Error is a failure that the user can do something about.
type Error struct {
	Cause       string // one sentence, lower case
	Fix         string // what to do, exactly
	Tool        bool   // a tool of the building machine is missing
	Unreachable bool   // something could not be fetched
	Err         error  // underlying error; may be nil
}

func (e *Error) Error() string {
	s := e.Cause
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Fix
}

func (e *Error) Unwrap() error { return e.Err }
