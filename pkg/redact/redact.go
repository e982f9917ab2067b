// SPDX-License-Identifier: Apache-2.0

// Package redact removes secrets from text that is shown to others: logs,
// descriptions of containers, configuration. It rather takes too much than
// too little.
//
// It must never import any package of this module.
package redact

import (
	"bytes"
	"encoding/base64"
	"io"
	"regexp"
	"slices"
)

// Mark stands where a secret was.
const Mark = "REDACTED"

// maxLine is how much of a line is kept, in bytes: the rest is dropped, as
// a secret that lies across two pieces would not be seen.
const maxLine = 1 << 20

// maxKeyLines is after how many lines a private key without an end is over. One
// of 16384 bits has 200.
const maxKeyLines = 400

// secretName is a name that ends in a word for a secret.
const secretName = `[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_.]?key|access[-_.]?key(?:[-_.]?id)?|private[-_.]?key|secret[-_.]?key|` +
	`credentials?|client-key-data|certificate-key|\bauth|dockerconfigjson|dockercfg)`

var (
	keyRe      = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:[^-]|-[^-])*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----)`)
	keyBeginRe = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*`)
	keyEndRe   = regexp.MustCompile(`^.*-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	// base64 of "-----BEGIN".
	encodedRe = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/_-]*={0,2}`)
	// Three parts of base64, the first of them JSON.
	jwtRe = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+`)
	// kubeadm's bootstrap tokens (cluster-bootstrap/token/api: BootstrapTokenPattern).
	bootstrapRe = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	schemeRe    = regexp.MustCompile(`(?i)\b(bearer|basic)([ \t]+)[A-Za-z0-9+/=._~-]{6,}`)
	userInfoRe  = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"'\\]+@`)
	// A name that ends in a word for a secret, what separates it from its value,
	// and the value: of YAML, JSON (also within a string), the environment, and flags.
	pairRe = regexp.MustCompile(`(?i)(` + secretName + `\\*["']?[ \t]*[:=][ \t]*|-` + secretName + `[ \t]+(?:--[ \t]+)?)` +
		`("(?:[^"\\]|\\.)*"|\\+"[^"]*"|'[^']*'|[^\s"',;}\]\\]+)`)
	// A value that is a further name.
	nestedRe = regexp.MustCompile(`(?i)` + secretName + `\\*["']?[:=]`)
	// The environment of a container in Kubernetes: name and value are two
	// fields, in YAML on two lines.
	envNameRe  = regexp.MustCompile(`(?i)^[ \t-]*["']?name["']?:[ \t]*["']?` + secretName + `["']?,?[ \t\r]*$`)
	envValueRe = regexp.MustCompile(`(?i)^([ \t]*["']?value["']?:[ \t]*).*$`)
	envPairRe  = regexp.MustCompile(`(?i)(\\*"name\\*"[ \t]*:[ \t]*\\*"` + secretName + `\\*"[ \t]*,[ \t]*\\*"value\\*"[ \t]*:[ \t]*)("(?:[^"\\]|\\.)*"|\\+"[^"]*")`)
	// The same as the kubelet logs it, when a container does not start.
	goEnvRe = regexp.MustCompile(`(?i)(Name:` + secretName + `,\s*Value:)[^,}]*`)
	// A secret whose value is a block scalar of YAML: the lines below that are indented.
	blockRe = regexp.MustCompile(`(?i)^([ \t-]*)["']?(?:` + secretName + `)["']?:[ \t]*[|>][0-9+-]*[ \t\r]*$`)
)

// hints are in every name that pairRe finds: to look for them is much faster.
var hints = []string{"pass", "secret", "token", "key", "credential", "auth", "docker"}

// Bytes returns text without its secrets.
func Bytes(text []byte) []byte {
	var out bytes.Buffer
	w := Writer(&out)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// Writer passes text on without its secrets, line by line. Close passes on
// the last line; it does not close w. Of a line, at most 1 MiB is passed on.
func Writer(w io.Writer) io.WriteCloser { return &writer{w: w, block: -1} }

type writer struct {
	w       io.Writer
	line    []byte // not complete yet
	cut     bool   // the rest of the line is dropped
	keyLeft int    // lines that a private key may still have
	env     bool   // the line before named a variable that is a secret
	block   int    // indentation of the name of a secret in lines below it; -1: none
}

func (r *writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, rest, complete := bytes.Cut(p, []byte("\n"))
		if room := maxLine - len(r.line); len(piece) > room {
			piece, r.cut = piece[:max(room, 0)], true
		}
		r.line = append(r.line, piece...)
		if !complete {
			break
		}
		if err := r.flush("\n"); err != nil {
			return 0, err
		}
		p = rest
	}
	return n, nil
}

// Close passes on what is left.
func (r *writer) Close() error {
	if len(r.line) == 0 {
		return nil
	}
	return r.flush("")
}

func (r *writer) flush(end string) error {
	line := r.line
	if r.cut {
		line = append(line, " (the rest of this line is left out)"...)
	}
	out := r.redacted(line)
	r.line, r.cut = r.line[:0], false
	if out == nil {
		return nil
	}
	_, err := r.w.Write(append(out, end...))
	return err
}

// redacted returns a line without secrets, nil for one that is within a key.
func (r *writer) redacted(line []byte) []byte {
	if r.keyLeft > 0 {
		if !keyEndRe.Match(line) {
			r.keyLeft--
			return nil
		}
		r.keyLeft = 0
		line = keyEndRe.ReplaceAll(line, nil)
	}
	if r.block >= 0 {
		if text := bytes.TrimSpace(line); len(text) == 0 || indent(line) > r.block {
			return nil
		}
		r.block = -1
	}
	if m := blockRe.FindSubmatchIndex(line); m != nil {
		r.block = m[3]
		return append(bytes.TrimRight(line, "|>0123456789+- \t\r"), " "+Mark...)
	}
	if r.env {
		line = envValueRe.ReplaceAll(line, []byte("${1}"+Mark))
	}
	r.env = envNameRe.Match(line)
	line = keyRe.ReplaceAll(line, []byte(Mark))
	if keyBeginRe.Match(line) {
		line = keyBeginRe.ReplaceAll(line, []byte(Mark))
		r.keyLeft = maxKeyLines
	}
	line = encodedRe.ReplaceAllFunc(line, encodedKey)
	line = jwtRe.ReplaceAll(line, []byte(Mark))
	line = bootstrapRe.ReplaceAll(line, []byte(Mark))
	line = schemeRe.ReplaceAll(line, []byte("${1}${2}"+Mark))
	line = userInfoRe.ReplaceAll(line, []byte("${1}"+Mark+"@"))
	line = goEnvRe.ReplaceAll(line, []byte("${1}"+Mark))
	return pairs(envPairRe.ReplaceAll(line, []byte(`${1}"`+Mark+`"`)))
}

func indent(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " \t")) }

// encodedKey leaves certificates as they are: they are public.
func encodedKey(encoded []byte) []byte {
	data, err := base64.RawStdEncoding.DecodeString(string(bytes.TrimRight(encoded, "=")))
	if err == nil && !bytes.Contains(data, []byte("PRIVATE KEY")) {
		return encoded
	}
	return []byte(Mark)
}

// pairs removes the values of names that speak of secrets.
func pairs(line []byte) []byte {
	lower := bytes.ToLower(line)
	if !slices.ContainsFunc(hints, func(h string) bool { return bytes.Contains(lower, []byte(h)) }) {
		return line
	}
	var out []byte
	for {
		m := pairRe.FindSubmatchIndex(line)
		if m == nil {
			return append(out, line...)
		}
		value := line[m[4]:m[5]]
		out = append(out, line[:m[4]]...)
		switch string(bytes.Trim(value, `\"'`)) {
		case "", "true", "false", "null", "{", "[", "|", "{}", "[]", Mark:
			out, line = append(out, value...), line[m[5]:]
			continue
		}
		if value[0] != '"' && value[0] != '\'' && nestedRe.Match(value) {
			line = line[m[4]:]
			continue
		}
		quote := ""
		if i := bytes.IndexAny(value, `"'`); i == 0 || i > 0 && len(bytes.Trim(value[:i], `\`)) == 0 {
			quote = string(value[:i+1])
		}
		out = append(append(append(out, quote...), Mark...), quote...)
		line = line[m[5]:]
	}
}
