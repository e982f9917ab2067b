// SPDX-License-Identifier: Apache-2.0

package redact_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/rootless-kubernetes/rk/pkg/redact"
)

// Whatever comes before a secret, in lines of its own or at the beginning of the
// same line, and however it is cut into pieces, the secret does not come through.
func FuzzWriter(f *testing.F) {
	for _, seed := range []string{
		"", "a\n", "{\"a\":\"b\"", "-----BEGIN PRIVATE KEY-----\n", "password: |\n  x\n", "- name: X_TOKEN\n", "I1125 10:00:00 kubelet.go:1] \"x\" err=\"",
		"https://ann:", "\\\"", "'", "Bearer ", "LS0tLS1CRUdJTi", "-----END PRIVATE KEY-----", "token:", "eyJ", "\x00\xff\n", strings.Repeat("x ", 100),
	} {
		f.Add(seed, uint8(7))
	}
	const secret = "Hush0Hush1Hush2Hush3"
	key := "-----BEGIN EC PRIVATE KEY-----\n" + secret + "\n-----END EC PRIVATE KEY-----"
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	f.Fuzz(func(t *testing.T, before string, piece uint8) {
		for _, planted := range []string{
			"\n" + key + "\n", "\ntoken: " + secret + "\n", " password=" + secret + "\n", "\n\"client-key-data\": \"" + encoded + "\"\n",
			"\nHTTPS_PROXY=http://ann:" + secret + "@proxy.test\n", "\n- name: DB_PASSWORD\n  value: " + secret + "\n",
		} {
			var out bytes.Buffer
			w := redact.Writer(&out)
			for text := []byte(before + planted + "after\n"); len(text) > 0; {
				n := min(len(text), int(piece)+1)
				if _, err := w.Write(text[:n]); err != nil {
					t.Fatal(err)
				}
				text = text[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(before, secret) || strings.Contains(before, encoded) {
				continue
			}
			if strings.Contains(out.String(), secret) || strings.Contains(out.String(), encoded) {
				t.Errorf("%q + %q: %q", before, planted, out.String())
			}
		}
	})
}
