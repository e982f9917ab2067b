// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha1" //nolint:gosec // a key identifier (RFC 5280 section 4.2.1.2), not a signature
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"path"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Validity of what is made, as kubeadm has it.
const (
	CAValidity   = 10 * 365 * 24 * time.Hour
	LeafValidity = 365 * 24 * time.Hour
	// backdate allows for nodes whose clock is behind.
	backdate = time.Hour
)

// File is one made file. Keys and kubeconfigs have mode 0600, the rest 0644.
type File struct {
	Path string
	Mode uint32
	Data []byte
}

// Authorities holds a cluster's private keys. It never prints them.
type Authorities struct {
	rand io.Reader
	now  time.Time
	cas  map[string]*authority
}

type authority struct {
	spec    CA
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate // nil for a bare key pair
	certPEM []byte
}

// New makes the authorities. now is the time of issue; random is a source of
// secure randomness (crypto/rand.Reader).
func New(specs []CA, now time.Time, random io.Reader) (*Authorities, error) {
	a := &Authorities{rand: random, now: now.UTC().Truncate(time.Second), cas: map[string]*authority{}}
	for _, s := range specs {
		if _, dup := a.cas[s.Name]; dup {
			return nil, fmt.Errorf("certificate authority %q is described twice", s.Name)
		}
		ca, err := a.newAuthority(s)
		if err != nil {
			return nil, fmt.Errorf("certificate authority %q: %w", s.Name, err)
		}
		a.cas[s.Name] = ca
	}
	return a, nil
}

func (a *Authorities) newAuthority(s CA) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), a.rand)
	if err != nil {
		return nil, err
	}
	ca := &authority{spec: s, key: key}
	if s.CommonName == "" {
		return ca, nil
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: s.CommonName},
		DNSNames:              []string{s.CommonName},
		NotBefore:             a.now.Add(-backdate),
		NotAfter:              a.now.Add(CAValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca.cert, ca.certPEM, err = a.sign(tmpl, tmpl, key, key)
	return ca, err
}

func (a *Authorities) sign(tmpl, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, []byte, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(a.rand, serial); err != nil {
		return nil, nil, err
	}
	serial[0] &= 0x7f // positive, at most 20 octets (RFC 5280 section 4.1.2.2)
	tmpl.SerialNumber = new(big.Int).SetBytes(serial)
	if tmpl.IsCA {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		id := sha1.Sum(point) //nolint:gosec // see the import
		tmpl.SubjectKeyId = id[:]
	}
	der, err := x509.CreateCertificate(a.rand, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (a *Authorities) signer(name string) (*authority, error) {
	ca := a.cas[name]
	if ca == nil || ca.cert == nil {
		return nil, fmt.Errorf("no certificate authority %q", name)
	}
	return ca, nil
}

// Certificate returns an authority's certificate, PEM encoded.
func (a *Authorities) Certificate(name string) ([]byte, error) {
	ca, err := a.signer(name)
	if err != nil {
		return nil, err
	}
	return ca.certPEM, nil
}

// Files returns the authorities' own files, certificates and keys, for
// control-plane nodes.
func (a *Authorities) Files() ([]File, error) {
	var out []File
	for _, ca := range a.cas {
		keyPEM, err := encodeKey(ca.key)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: ca.spec.Path + ".key", Mode: 0o600, Data: keyPEM})
		if ca.cert != nil {
			out = append(out, File{Path: ca.spec.Path + ".crt", Mode: 0o644, Data: ca.certPEM})
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(&ca.key.PublicKey)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: ca.spec.Path + ".pub", Mode: 0o600, Data: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})})
	}
	return out, nil
}

// Issue makes a key and a certificate, and returns PATH.crt and PATH.key.
func (a *Authorities) Issue(c Certificate) ([]File, error) {
	certPEM, keyPEM, err := a.issue(c)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path.Base(c.Path), err)
	}
	return []File{
		{Path: c.Path + ".crt", Mode: 0o644, Data: certPEM},
		{Path: c.Path + ".key", Mode: 0o600, Data: keyPEM},
	}, nil
}

func (a *Authorities) issue(c Certificate) (certPEM, keyPEM []byte, err error) {
	ca, err := a.signer(c.CA)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), a.rand)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		Subject:   pkix.Name{CommonName: c.CommonName, Organization: c.Organizations},
		DNSNames:  c.DNSNames,
		NotBefore: ca.cert.NotBefore,
		NotAfter:  a.now.Add(LeafValidity),
		KeyUsage:  x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	for _, ip := range c.IPs {
		addr := net.ParseIP(ip)
		if addr == nil {
			return nil, nil, fmt.Errorf("%q is not an IP address", ip)
		}
		tmpl.IPAddresses = append(tmpl.IPAddresses, addr)
	}
	for _, u := range c.Usages {
		switch u {
		case ServerAuth:
			tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case ClientAuth:
			tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		default:
			return nil, nil, fmt.Errorf("unknown usage %q", u)
		}
	}
	_, certPEM, err = a.sign(tmpl, ca.cert, key, ca.key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return certPEM, keyPEM, err
}

// encodeKey uses SEC 1, as kubeadm does for ECDSA keys.
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// Kubeconfig makes a kubeconfig with a client certificate of the cluster CA.
func (a *Authorities) Kubeconfig(k Kubeconfig) ([]byte, error) {
	caPEM, err := a.Certificate(ClusterCA)
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := a.issue(Certificate{
		CA: ClusterCA, CommonName: k.CommonName, Organizations: k.Organizations, Usages: []Usage{ClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", k.CommonName, err)
	}
	doc := map[string]any{
		"apiVersion": "v1", "kind": "Config", "preferences": map[string]any{}, "current-context": k.Context,
		"clusters": []any{map[string]any{"name": k.Cluster, "cluster": map[string]any{
			"server": k.Server, "certificate-authority-data": caPEM,
		}}},
		"contexts": []any{map[string]any{"name": k.Context, "context": map[string]any{"cluster": k.Cluster, "user": k.User}}},
		"users": []any{map[string]any{"name": k.User, "user": map[string]any{
			"client-certificate-data": certPEM, "client-key-data": keyPEM,
		}}},
	}
	return yaml.Marshal(doc)
}

// ClusterInfo makes the manifest of the ConfigMap kube-public/cluster-info, by
// which kubeadm join finds and verifies a cluster; the controller manager
// signs it for each bootstrap token.
func (a *Authorities) ClusterInfo(server string) (manifest string, err error) {
	caPEM, err := a.Certificate(ClusterCA)
	if err != nil {
		return "", err
	}
	kubeconfig, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "preferences": map[string]any{}, "contexts": nil, "current-context": "", "users": nil,
		"clusters": []any{map[string]any{"name": "", "cluster": map[string]any{"server": server, "certificate-authority-data": caPEM}}},
	})
	if err != nil {
		return "", err
	}
	out, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "cluster-info", "namespace": "kube-public"},
		"data":     map[string]any{"kubeconfig": string(kubeconfig)},
	})
	return string(out), err
}

// ClusterCA is the name of the authority that signs API server and client certificates.
const ClusterCA = "ca"

// String hides the keys from any formatting verb.
func (a *Authorities) String() string {
	var names []string
	for n := range a.cas {
		names = append(names, n)
	}
	return "authorities(" + strings.Join(names, ",") + ")"
}

// GoString hides the keys from %#v.
func (a *Authorities) GoString() string { return a.String() }
