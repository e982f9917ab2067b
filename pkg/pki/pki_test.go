// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var testCAs = []CA{
	{Name: "ca", CommonName: "kubernetes", Path: "/pki/ca"},
	{Name: "etcd-ca", CommonName: "etcd-ca", Path: "/pki/etcd/ca"},
	{Name: "sa", Path: "/pki/sa"},
}

func newTest(t *testing.T) *Authorities {
	t.Helper()
	a, err := New(testCAs, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFilesOfAuthorities(t *testing.T) {
	t.Parallel()
	files, err := newTest(t).Files()
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]uint32{}
	for _, f := range files {
		modes[f.Path] = f.Mode
	}
	want := map[string]uint32{
		"/pki/ca.crt": 0o644, "/pki/ca.key": 0o600, "/pki/etcd/ca.crt": 0o644, "/pki/etcd/ca.key": 0o600,
		"/pki/sa.key": 0o600, "/pki/sa.pub": 0o600,
	}
	if fmt.Sprint(modes) != fmt.Sprint(want) {
		t.Errorf("files: got %v, want %v", modes, want)
	}
}

func TestIssuedCertificateVerifies(t *testing.T) {
	t.Parallel()
	a := newTest(t)
	files, err := a.Issue(Certificate{
		CA: "ca", CommonName: "kube-apiserver", Path: "/pki/apiserver", Usages: []Usage{ServerAuth},
		DNSNames: []string{"kubernetes.default.svc"}, IPs: []string{"10.96.0.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(files[0].Data, files[1].Data); err != nil {
		t.Fatalf("certificate and key do not fit: %v", err)
	}
	block, _ := pem.Decode(files[0].Data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	now := a.now.Add(time.Minute)
	verify := func(ca, name string, usage x509.ExtKeyUsage) error {
		pool := x509.NewCertPool()
		caPEM, err := a.Certificate(ca)
		if err != nil {
			return err
		}
		pool.AppendCertsFromPEM(caPEM)
		_, err = cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	for _, name := range []string{"kubernetes.default.svc", "10.96.0.1"} {
		if err := verify("ca", name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify("etcd-ca", "10.96.0.1", x509.ExtKeyUsageServerAuth) == nil {
		t.Error("verified by another authority")
	}
	if verify("ca", "10.96.0.1", x509.ExtKeyUsageClientAuth) == nil {
		t.Error("a server certificate serves as client certificate")
	}
	if !cert.NotAfter.Equal(a.now.Add(LeafValidity)) {
		t.Errorf("valid until %s", cert.NotAfter)
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	data, err := newTest(t).Kubeconfig(Kubeconfig{
		Cluster: "rk-demo", Server: "https://127.0.0.1:6443", User: "rk-demo", Context: "rk-demo",
		CommonName: "kubernetes-admin", Organizations: []string{"kubeadm:cluster-admins"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		CurrentContext string `json:"current-context"`
		Users          []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(doc.Users[0].User.Cert, doc.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "kubernetes-admin" || cert.Subject.Organization[0] != "kubeadm:cluster-admins" || doc.CurrentContext != "rk-demo" {
		t.Errorf("subject %s, context %s", cert.Subject, doc.CurrentContext)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	a := newTest(t)
	for name, c := range map[string]Certificate{
		"unknown authority": {CA: "nope"},
		"key pair only":     {CA: "sa"},
		"bad address":       {CA: "ca", IPs: []string{"10.96.0"}},
		"bad usage":         {CA: "ca", Usages: []Usage{"both"}},
	} {
		if _, err := a.Issue(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New([]CA{testCAs[0], testCAs[0]}, time.Now(), rand.Reader); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("duplicate authority: %v", err)
	}
	for _, s := range []string{fmt.Sprintf("%v", a), fmt.Sprintf("%+v", a), fmt.Sprintf("%#v", a)} {
		if !strings.HasPrefix(s, "authorities(") {
			t.Errorf("formatting shows more than names: %.60s", s)
		}
	}
}
