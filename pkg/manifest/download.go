// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// downloadTimeout bounds one download.
const downloadTimeout = time.Minute

// download gets a URL, through the proxies that the environment names
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). A sum that is given must be its SHA-256.
func download(ctx context.Context, address, sum string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, downloadTimeout, fmt.Errorf("it took longer than %s", downloadTimeout))
	defer cancel()
	data, err := get(ctx, address)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("%s: %w", shown(address), err)
	}
	if got := sha256.Sum256(data); sum != "" && !strings.EqualFold(sum, hex.EncodeToString(got[:])) {
		return nil, fmt.Errorf("%s: its SHA-256 is %x, but the configuration says %s", shown(address), got, strings.ToLower(sum))
	}
	return data, nil
}

func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "rk")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // the rest is the URL, with what may be secret in it
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return bounded(resp.Body)
}

// bounded reads everything, up to maxSize.
func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// shown is a URL without what may be secret in it: user, password and query.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the URL"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
