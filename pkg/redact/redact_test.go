// SPDX-License-Identifier: Apache-2.0

package redact_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/redact"
)

// What is a secret in these texts has "hush" in it, or is made of "S"; nothing else does.
func TestSecrets(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN EC PRIVATE KEY-----\nhushhushhush\nSSSS\n-----END EC PRIVATE KEY-----\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	for text, want := range map[string]string{
		"before\n" + key + "after\n": "before\nREDACTED\nafter\n",
		`{"key":"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n"}`:                                                `{"key":"REDACTED\n"}`,
		"Nov 25 node x: -----BEGIN RSA PRIVATE KEY-----\nNov 25 node x: hush\nNov 25 node x: -----END RSA PRIVATE KEY-----\nok\n": "Nov 25 node x: REDACTED\nok\n",
		"    client-key-data: " + encoded + "\n":                                                                                  "    client-key-data: REDACTED\n",
		`"tls.key": "` + encoded + `"`:                                                                                            `"tls.key": "REDACTED"`,
		"token: hush\n":                                                                                                           "token: REDACTED\n",
		`"token":"hush"}`:                                                                                                         `"token":"REDACTED"}`,
		"kubeadm join --token hush --discovery":                                                                                   "kubeadm join --token REDACTED --discovery",
		"--bootstrap-token=hush x":                                                                                                "--bootstrap-token=REDACTED x",
		"abcdef.0123456789abcdef":                                                                                                 "REDACTED",
		"Authorization: Bearer hushhush.x":                                                                                        "Authorization: Bearer REDACTED",
		"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJodXNoIn0.hush_hush-":                                                                     "REDACTED",
		"HTTPS_PROXY=http://ann:hush@proxy.test:3128":                                                                             "HTTPS_PROXY=http://REDACTED@proxy.test:3128",
		`"https_proxy=http://ann:hush%40@proxy.test"`:                                                                             `"https_proxy=http://REDACTED@proxy.test"`,
		`"Env": ["DB_PASSWORD=hush", "PATH=/bin"]`:                                                                                `"Env": ["DB_PASSWORD=REDACTED", "PATH=/bin"]`,
		"AWS_SECRET_ACCESS_KEY=hush":                                                                                              "AWS_SECRET_ACCESS_KEY=REDACTED",
		`.dockerconfigjson: hush`:                                                                                                 `.dockerconfigjson: REDACTED`,
		`{"auths":{"r.test":{"auth":"hush"}}}`:                                                                                    `{"auths":{"r.test":{"auth":"REDACTED"}}}`,
		`last-applied: {\"password\":\"hush\",\"a\":\"b\"}`:                                                                       `last-applied: {\"password\":\"REDACTED\",\"a\":\"b\"}`,
		"certificate-key: hush":                                                                                                   "certificate-key: REDACTED",
		`password: "hu\"sh hush"`:                                                                                                 `password: "REDACTED"`,
		`password: 'hush hush'`:                                                                                                   `password: 'REDACTED'`,
		"- name: DB_PASSWORD\n  value: hush hush\n- name: A\n  value: b\n":                                                        "- name: DB_PASSWORD\n  value: REDACTED\n- name: A\n  value: b\n",
		`{"name":"DB_PASSWORD","value":"hush"}`:                                                                                   `{"name":"DB_PASSWORD","value":"REDACTED"}`,
		`"{\"name\":\"X_TOKEN\",\"value\":\"hush\"}"`:                                                                             `"{\"name\":\"X_TOKEN\",\"value\":"REDACTED"}"`,
		"EnvVar{Name:DB_PASSWORD,Value:hush hush,ValueFrom:nil,}":                                                                 "EnvVar{Name:DB_PASSWORD,Value:REDACTED,ValueFrom:nil,}",
		"  password: |-\n    hush\n\n    hush\n  user: ann\n":                                                                     "  password: REDACTED\n  user: ann\n",
		"-----BEGIN PRIVATE KEY-----\nhush\nhush":                                                                                 "REDACTED\n",
	} {
		got := string(redact.Bytes([]byte(text)))
		if got != want || strings.Contains(got, "hush") || strings.Contains(got, "SSS") {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
	}
}

// What is no secret stays as it is.
func TestHarmless(t *testing.T) {
	t.Parallel()
	certificate := base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	for _, text := range []string{
		"certificate-authority-data: " + certificate, "automountServiceAccountToken: true", "secretName: registry-ca", "secret:\n  secretName: x\n",
		`I1125 10:00:00.000000 1 token_cleaner.go:1] "Starting token cleaner"`, "the token has expired", "serviceAccountToken: {}",
		"image: registry.test:5000/web@sha256:0123", "https://127.0.0.1:6443/healthz", "NO_PROXY=127.0.0.1,.svc", `"a":"b"` + "\r\n", "",
		"PasswordAuthentication", "kubectl get secret -n kube-system",
	} {
		if got := string(redact.Bytes([]byte(text))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// A secret may come in pieces, and a line may be very long.
func TestWriter(t *testing.T) {
	t.Parallel()
	text := "a\ntoken: hush\n-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\nb"
	var out bytes.Buffer
	w := redact.Writer(&out)
	for _, b := range []byte(text) {
		if _, err := w.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "a\ntoken: REDACTED\nREDACTED\nb" {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("x", 1<<20-10) + " token: hush\nnext\n"
	got := string(redact.Bytes([]byte(long)))
	if strings.Contains(got, "hush") || !strings.HasSuffix(got, "left out)\nnext\n") {
		t.Errorf("got %q", got[1<<20-20:])
	}
}
