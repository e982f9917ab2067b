// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

// TestDoctor breaks a host in every way that concerns it alone, and repairs it
// with what rk prints. (Settings of the kernel that all hosts of the machine
// share stay as they are; package preflight's own tests are about those.)
func TestDoctor(t *testing.T) {
	h := testhost.ForTest(t, testhost.Options{
		Release: testhost.Trixie, PodmanSocket: true, Binds: []testhost.Bind{{Src: bin(t), Dst: hostBin}},
	})
	runScenarios(t, h, podman, "doctor")
}

// TestDoctorDocker is the same for what concerns rootless Docker alone.
func TestDoctorDocker(t *testing.T) {
	h := testhost.ForTest(t, testhost.Options{
		Release: testhost.Trixie, Docker: &testhost.Docker{Net: "pasta"}, Binds: []testhost.Bind{{Src: bin(t), Dst: hostBin}},
	})
	runScenarios(t, h, docker, "doctor-docker")
}

// finding CODE STATUS [ARGS] expects that status of a check, and that the exit
// code fits. It prints what was found and the fix.
func (s *scenario) finding(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: finding CODE STATUS [ARGS]")
	}
	out, exit := s.doctor(ts, append([]string{"--only", args[0], "-o", "json"}, args[2:]...)...)
	var d struct {
		Findings []struct {
			Code, Level, Status, Found string
			Fix                        struct {
				Note, After string
				Steps       []struct{ Command, File, Content string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil || len(d.Findings) != 1 {
		ts.Fatalf("rk doctor prints %q: %v", out, err)
	}
	x := d.Findings[0]
	var b strings.Builder
	fmt.Fprintln(&b, x.Found)
	fmt.Fprint(&b, x.Fix.Note, "\n")
	for _, step := range x.Fix.Steps {
		fmt.Fprintln(&b, step.Command+step.File, step.Content)
	}
	fmt.Fprint(&b, x.Fix.After, "\n")
	_, _ = fmt.Fprint(ts.Stdout(), b.String())
	if x.Code != args[0] || x.Status != args[1] {
		ts.Fatalf("%s is %s: %s", x.Code, x.Status, x.Found)
	}
	if failed := x.Status == "failed" && x.Level != "recommended"; failed != (exit == 3) || !failed && exit != 0 {
		ts.Fatalf("exit code %d for a check that is %s and %s", exit, x.Level, x.Status)
	}
}

// repair CODE [ARGS] runs the printed script as root, twice, as it can be
// repeated, and expects the check to pass then.
func (s *scenario) repair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: repair CODE [ARGS]")
	}
	script, exit := s.doctor(ts, append([]string{"--only", args[0], "--fix-script"}, args[1:]...)...)
	if exit != 0 || !strings.Contains(script, "\n# "+args[0]+" (") {
		ts.Fatalf("the script for %s, exit code %d:\n%s", args[0], exit, script)
	}
	for range 2 {
		out, err := s.host.Root(s.ctx, script)
		if err != nil {
			ts.Fatalf("%v\n%s\n%s", err, out, script)
		}
	}
	s.finding(ts, false, append([]string{args[0], "ok"}, args[1:]...))
}

// root FILE runs a script of the scenario as the host's root.
func (s *scenario) root(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: root FILE")
	}
	out, err := s.host.Root(s.ctx, "set -eu\n"+ts.ReadFile(args[0]))
	_, _ = fmt.Fprint(ts.Stdout(), out)
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

// doctor runs rk doctor as the user.
func (s *scenario) doctor(ts *testscript.TestScript, args ...string) (stdout string, exit int) {
	var out strings.Builder
	err := s.host.Run(s.ctx, testhost.Command{
		Script: s.prelude + "\ncd " + quote([]string{ts.Getenv("WORK")}) + "\nexec " + quote(append([]string{"rk", "doctor"}, args...)),
		Env:    []string{"PATH=" + hostBin + ":/usr/local/bin:/usr/bin:/bin"},
		Stdout: &out, Stderr: ts.Stderr(),
	})
	var ended *testhost.ExitError
	switch {
	case errors.As(err, &ended):
		exit = ended.Code
	case err != nil:
		ts.Fatalf("test host: %v", err)
	}
	return out.String(), exit
}
