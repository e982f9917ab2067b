// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"
)

// Fix is how a finding is repaired.
type Fix struct {
	// Note says what to do where commands alone do not.
	Note string `json:"note,omitempty"`
	// Steps are commands, in order.
	Steps []Step `json:"steps,omitempty"`
	// After is what must follow for the change to take effect, e.g. "Log out and in again."
	After string `json:"after,omitempty"`
}

// Step is a command or a file to write.
type Step struct {
	Root    bool   `json:"root"`              // it needs root
	Command string `json:"command,omitempty"` // a line of shell
	File    string `json:"file,omitempty"`    // a file to write instead
	Content string `json:"content,omitempty"` // of the file
}

// Shell is the step as one line for the user's own shell.
func (s Step) Shell() string {
	switch {
	case s.File != "":
		dir := s.File[:strings.LastIndexByte(s.File, '/')]
		lines := strings.Split(strings.TrimSuffix(s.Content, "\n"), "\n")
		for i, l := range lines {
			lines[i] = quote(l)
		}
		return fmt.Sprintf("sudo mkdir -p %s && printf '%%s\\n' %s | sudo tee %s", dir, strings.Join(lines, " "), s.File)
	case s.Root:
		return "sudo " + s.Command
	}
	return s.Command
}

// quote quotes a word for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func asRoot(command string) Step { return Step{Root: true, Command: command} }
func asUser(command string) Step { return Step{Command: command} }
func write(path string, text ...string) Step {
	return Step{Root: true, File: path, Content: strings.Join(text, "\n") + "\n"}
}

func note(format string, args ...any) Fix { return Fix{Note: fmt.Sprintf(format, args...)} }

// sysctl sets kernel settings now and at every boot. name is that of its file.
func sysctl(name string, settings ...string) Fix {
	path := "/etc/sysctl.d/90-rk-" + name + ".conf"
	return Fix{Steps: []Step{write(path, settings...), asRoot("sysctl -p " + path)}}
}

// modules loads kernel modules now and at every boot.
func modules(name string, modules ...string) Fix {
	path := "/etc/modules-load.d/rk-" + name + ".conf"
	fix := Fix{Steps: []Step{write(path, modules...)}}
	for _, m := range modules {
		fix.Steps = append(fix.Steps, asRoot("modprobe "+m))
	}
	return fix
}

// packages are the names of what to install, by distribution family; "" is
// what it is called in general.
type packages map[string]string

// install installs packages with the distribution's own tool.
func (o OS) install(p packages) Fix {
	family := o.family()
	names := p[family]
	tool := map[string]string{
		familyDebian: "apt-get install -y", familyFedora: "dnf install -y",
		familyArch: "pacman -S --needed --noconfirm", familySUSE: "zypper --non-interactive install",
	}[family]
	if names == "" || tool == "" {
		return note("Install %s with the package manager of this distribution.", p[""])
	}
	return Fix{Steps: []Step{asRoot(tool + " " + names)}}
}

// Packages of the checks' fixes.
var (
	podmanPackages = packages{
		"": "Podman, newuidmap (uidmap or shadow) and passt", familyDebian: "podman uidmap passt", familyFedora: "podman shadow-utils passt",
		familyArch: "podman passt", familySUSE: "podman shadow passt",
	}
	idMapPackages = packages{
		"": "newuidmap and newgidmap (shadow, or uidmap)", familyDebian: "uidmap", familyFedora: "shadow-utils", familyArch: "shadow", familySUSE: "shadow",
	}
	busPackages = packages{
		"": "a D-Bus daemon for user sessions", familyDebian: "dbus-user-session", familyFedora: "dbus-broker", familyArch: "dbus-broker-units", familySUSE: "dbus-broker",
	}
	pastaPackages = packages{
		"": "passt", familyDebian: "passt", familyFedora: "passt", familyArch: "passt", familySUSE: "passt",
	}
	netavarkPackages = packages{
		"": "netavark and aardvark-dns", familyDebian: "netavark aardvark-dns", familyFedora: "netavark aardvark-dns", familyArch: "netavark aardvark-dns",
		familySUSE: "netavark aardvark-dns",
	}
	slirpPackages = packages{
		"": "slirp4netns", familyDebian: "slirp4netns", familyFedora: "slirp4netns", familyArch: "slirp4netns", familySUSE: "slirp4netns",
	}
)

// join is one fix after the other.
func (f Fix) join(g Fix) Fix {
	out := Fix{Note: strings.TrimSpace(f.Note + " " + g.Note), After: g.After}
	out.Steps = append(append(out.Steps, f.Steps...), g.Steps...)
	if out.After == "" {
		out.After = f.After
	}
	return out
}

func (f Fix) then(after string) Fix {
	f.After = after
	return f
}

// Text is the fix for a reader, line by line: commands are indented below
// what is said in words.
func (f Fix) Text() string {
	var lines []string
	indent := ""
	if f.Note != "" {
		lines, indent = append(lines, f.Note), "  "
	}
	for _, s := range f.Steps {
		lines = append(lines, indent+s.Shell())
	}
	if f.After != "" {
		lines = append(lines, f.After)
	}
	return strings.Join(lines, "\n")
}

const scriptHead = `#!/bin/sh
# Prepares this host for rootless Kubernetes clusters of the user %[1]s.
# Printed by 'rk doctor --fix-script': read it, then run it as root. It changes
# only what was found, and can be run again. rk itself never asks for root.
set -eu
user=%[2]s
uid=%[3]d

if [ "$(id -u)" != 0 ]; then
    echo "run this as root: sudo sh $0" >&2
    exit 1
fi

# write_file FILE writes standard input to a file, unless it has that content.
write_file() {
    new=$(cat)
    if [ -e "$1" ] && [ "$new" = "$(cat "$1")" ]; then
        return
    fi
    mkdir -p "$(dirname "$1")"
    printf '%%s\n' "$new" >"$1"
    echo "wrote $1"
}

# as_user COMMAND runs a command as the user, with the user's session.
as_user() {
    runuser -u "$user" -- env HOME="$(getent passwd "$user" | cut -d: -f6)" XDG_RUNTIME_DIR="/run/user/$uid" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" sh -c "cd; $1"
}
`

// Script is a shell script for root that carries out the fixes of failed
// findings. It is never empty: where there is nothing to do, it says so.
func Script(u User, findings []Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, scriptHead, u.Name, quote(u.Name), u.UID)
	var after []string
	parts := 0
	for _, x := range findings {
		if x.Status != Failed {
			continue
		}
		parts++
		fmt.Fprintf(&b, "\n# %s (%s): %s.\n", x.Code, x.Level, x.Summary)
		comment(&b, "Found: "+x.Found)
		comment(&b, "Why: "+x.Why)
		if x.Fix.Note != "" {
			comment(&b, "By hand: "+x.Fix.Note)
			after = append(after, x.Code+": "+x.Fix.Note)
		}
		for _, s := range x.Fix.Steps {
			switch {
			case s.File != "":
				fmt.Fprintf(&b, "write_file %s <<'EOF'\n%sEOF\n", s.File, s.Content)
			case s.Root:
				fmt.Fprintln(&b, s.Command)
			default:
				fmt.Fprintf(&b, "as_user %s\n", quote(s.Command))
			}
		}
		if x.Fix.After != "" {
			after = append(after, x.Code+": "+x.Fix.After)
		}
	}
	if parts == 0 {
		fmt.Fprint(&b, "\n# Nothing was found that needs a change.\n")
	}
	fmt.Fprintln(&b)
	for _, a := range after {
		fmt.Fprintf(&b, "echo %s\n", quote(a))
	}
	fmt.Fprint(&b, "echo \"Done. Check with 'rk doctor' as $user.\"\n")
	return b.String()
}

// comment writes text as comment lines of at most about 100 characters.
func comment(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+len(word) > 99 {
			fmt.Fprintln(b, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
}
