// SPDX-License-Identifier: Apache-2.0

// Package pki describes and makes the keys, certificates and kubeconfigs of a
// cluster, laid out as kubeadm lays them out: ECDSA P-256, crypto from the
// standard library only. The descriptions are plain values without secrets,
// so that a plan can hold and print them; Make turns them into files.
//
// It must never import os, net/http or any package of this module.
package pki

// CA describes a certificate authority. An empty CommonName makes a bare key
// pair instead (kubeadm's sa.key and sa.pub).
type CA struct {
	Name       string `json:"name"`                 // "ca", "front-proxy-ca", "etcd-ca" or "sa"
	CommonName string `json:"commonName,omitempty"` // e.g. "kubernetes"
	// Path of the files in a control-plane node without extension, e.g. "/etc/kubernetes/pki/ca".
	Path string `json:"path"`
}

// Certificate describes a leaf certificate.
type Certificate struct {
	CA            string   `json:"ca"`
	CommonName    string   `json:"commonName"`
	Organizations []string `json:"organizations,omitempty"`
	Path          string   `json:"path"` // without extension
	Usages        []Usage  `json:"usages"`
	DNSNames      []string `json:"dnsNames,omitempty"`
	IPs           []string `json:"ips,omitempty"`
}

// Usage is an extended key usage.
type Usage string

// The usages that Kubernetes needs.
const (
	ServerAuth Usage = "server"
	ClientAuth Usage = "client"
)

// Kubeconfig describes a kubeconfig with an embedded client certificate.
type Kubeconfig struct {
	Path          string   `json:"path"` // empty: not a file of a node
	Cluster       string   `json:"cluster"`
	Server        string   `json:"server"` // https URL
	User          string   `json:"user"`   // name of the user entry
	Context       string   `json:"context"`
	CommonName    string   `json:"commonName"`
	Organizations []string `json:"organizations,omitempty"`
}
