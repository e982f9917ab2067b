// SPDX-License-Identifier: Apache-2.0

// Command await starts a program once a URL answers 200: `await URL CAFILE
// PROGRAM ARGUMENT...`. kube-controller-manager and kube-scheduler start with
// the API server, at which they knock in vain: the one ends after 10 s, the
// other waits longer after each failure. With await they are in place, and
// begin the moment that the API server's /readyz says ok.
//
// It must never import anything but the standard library: the node image
// compiles it from this one file.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	pause   = 50 * time.Millisecond // between attempts; a refused connection costs nothing
	timeout = 5 * time.Second       // of one attempt
)

// version is set by the linker.
var version = "devel"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		_, _ = fmt.Fprintln(os.Stdout, "await", version)
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "await:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: await URL CAFILE PROGRAM ARGUMENTS")
	}
	url, caFile, argv := args[0], args[1], args[2:]
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s holds no certificate", caFile)
	}
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(pause)
	for !ready(client, request) {
		<-tick.C
	}
	return syscall.Exec(program, argv, os.Environ())
}

func ready(client *http.Client, request *http.Request) bool {
	resp, err := client.Do(request)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
