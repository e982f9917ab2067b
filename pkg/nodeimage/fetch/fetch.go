// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// File is a file to download.
type File struct {
	URL    string // http or https
	SHA256 string // hexadecimal; "" takes what comes
	Path   string // where it goes; unfinished it is called Path.part
	// Progress is told how many bytes there are; total is 0 while it is not
	// known. It may be nil.
	Progress func(done, total int64)
}

// Limits of downloads.
const (
	parallel = 4                // files at the same time
	attempts = 5                // in a row that bring nothing
	maxWait  = 30 * time.Second // between two attempts
	stalled  = time.Minute      // without a byte, a connection is given up
	toAnswer = 30 * time.Second // until a server answers
)

// Client downloads files, a few at a time. The zero value is ready; it takes
// proxies from HTTPS_PROXY, HTTP_PROXY and NO_PROXY. It is safe for concurrent use.
type Client struct {
	// Proxy chooses the proxy of a request; nil is http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)

	backoff func(failed int) time.Duration // nil: 1 s, twice as long each time
	stall   time.Duration                  // 0: stalled

	once  sync.Once
	http  *http.Client
	slots chan struct{}
}

func (c *Client) init() {
	c.once.Do(func() {
		if c.Proxy == nil {
			c.Proxy = http.ProxyFromEnvironment
		}
		if c.backoff == nil {
			c.backoff = func(failed int) time.Duration { return min(time.Second<<(failed-1), maxWait) }
		}
		if c.stall == 0 {
			c.stall = stalled
		}
		c.slots = make(chan struct{}, parallel)
		c.http = &http.Client{Transport: &http.Transport{
			Proxy: c.Proxy, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSHandshakeTimeout: toAnswer, ResponseHeaderTimeout: toAnswer, IdleConnTimeout: toAnswer,
		}}
	})
}

// Download fetches a file, or what is missing of it; one that is there already
// is taken as it is. The file is there, whole and with its checksum, or not at all. Errors are problem.SourceUnreachable,
// problem.ChecksumMismatch (what came is then called Path.bad),
// problem.DiskFull, or ctx's.
func (c *Client) Download(ctx context.Context, f File) error {
	c.init()
	if _, err := os.Stat(f.Path); err == nil {
		return nil
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	p, err := openPartial(ctx, f)
	if err != nil {
		return err
	}
	defer func() { _ = p.file.Close() }() // its content was read again
	if _, err := os.Stat(f.Path); err == nil {
		return nil // another process was faster
	}
	for {
		if err := c.complete(ctx, p); err != nil {
			return c.explain(ctx, f, err)
		}
		sum, err := p.sum()
		if err != nil {
			return err
		}
		if f.SHA256 == "" || sum == f.SHA256 {
			return p.finish()
		}
		if !p.resumed {
			return p.refuse(sum)
		}
		// A part of it may be of another file that had the same address.
		if err := p.restart(); err != nil {
			return err
		}
	}
}

// complete fetches until the file is whole. It gives up after some attempts
// that brought nothing.
func (c *Client) complete(ctx context.Context, p *partial) error {
	for failed := 0; ; {
		before := p.size
		err := c.attempt(ctx, p)
		if err == nil || ctx.Err() != nil || !temporary(err) {
			return err
		}
		if p.size > before {
			failed = 0
		}
		if failed++; failed == attempts {
			return err
		}
		wait := c.backoff(failed)
		var status *statusError
		if errors.As(err, &status) && status.after > 0 {
			wait = min(status.after, maxWait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// attempt makes one request, for what is missing.
func (c *Client) attempt(ctx context.Context, p *partial) error {
	if p.state.Total > 0 && p.size == p.state.Total {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.of.URL, nil)
	if err != nil {
		return &permanentError{err}
	}
	p.ask(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return unwrapURL(err)
	}
	defer resp.Body.Close()
	if err := p.accept(resp); err != nil {
		return err
	}
	watchdog := time.AfterFunc(c.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	err = p.receive(resp.Body, func() { watchdog.Reset(c.stall) })
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// Text returns a small file, such as one of checksums: at most 1 MiB.
// Its errors are those of Download.
func (c *Client) Text(ctx context.Context, address string) (string, error) {
	dir, err := os.MkdirTemp("", "rk-fetch-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "text")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const most = 1 << 20
	tooLarge := fmt.Errorf("%s is larger than %d bytes: no list of checksums", address, most)
	err = c.Download(ctx, File{URL: address, Path: path, Progress: func(done, total int64) {
		if max(done, total) > most {
			cancel(tooLarge)
		}
	}})
	if errors.Is(context.Cause(ctx), tooLarge) {
		return "", problem.SourceUnreachable.With("Check what --release-mirror names.").Wrap(tooLarge)
	}
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	return string(data), err
}

// explain adds to an error what it is about and what can be done.
func (c *Client) explain(ctx context.Context, f File, err error) error {
	var local *localError
	var status *statusError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return problem.DiskFull.Withf("Downloads are kept in %s. Free space there, or put the cache on another disk with XDG_CACHE_HOME; the same command then goes on where it stopped.", filepath.Dir(f.Path)).Wrap(err)
	case errors.As(err, &local):
		return err
	case errors.As(err, &status) && !status.temporary():
		return problem.SourceUnreachable.
			Withf("The server answers, and does not give out this file: check the mirror, if one is named with --release-mirror, or take the programs from elsewhere with '--source module' or '--source dir'.").
			Wrapf("%s: %w", f.URL, err)
	}
	return problem.SourceUnreachable.
		Withf("Check the network and the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or name a server that has the same files with --release-mirror. What has come is kept: the same command goes on from there.").
		Wrapf("%s, %s: %w", f.URL, c.via(f.URL), err)
}

// via says how an address is reached, without a proxy's password.
func (c *Client) via(address string) string {
	req, err := http.NewRequest(http.MethodGet, address, nil) //nolint:noctx // it is not sent
	if err != nil {
		return "which is no address"
	}
	proxy, err := c.Proxy(req)
	switch {
	case err != nil:
		return "whose proxy is not valid"
	case proxy == nil:
		return "without a proxy"
	}
	return "through the proxy " + proxy.Redacted()
}

// hashFile returns the SHA-256 of what r holds, in hexadecimal.
func hashFile(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}
