#!/usr/bin/env bash
# Passes `go test -v` through without the lines that say nothing (RUN, PAUSE,
# CONT, packages without tests), and keeps go test's result: a FAIL fails.
set -uo pipefail
awk '
	/^=== (RUN|PAUSE|CONT|NAME)/ { next }
	/\[no test files\]/ { next }
	{ print; fflush() }
	/^(--- FAIL|FAIL|panic:)/ { failed = 1 }
	END { exit failed }
'
