// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	a, b := Excerpt{"node-a", []string{"x"}}, Excerpt{"node-b", []string{"y", "z"}}
	cause := NodeExited.Wrapf("exit code %d", 1)
	err := fmt.Errorf("create: %w", WithLogs(fmt.Errorf("step: %w", WithLogs(cause, b)), a))

	if diff := cmp.Diff([]Excerpt{a, b}, Logs(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !errors.Is(err, cause) || err.Error() != "create: step: "+cause.Error() {
		t.Errorf("got %v", err)
	}
	if WithLogs(nil, a) != nil || Logs(WithLogs(cause)) != nil || Logs(cause) != nil {
		t.Error("logs out of nothing")
	}
}
