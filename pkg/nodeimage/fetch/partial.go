// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// partial is a file on its way: Path.part with its content so far, and
// Path.state with what that is a part of.
type partial struct {
	of      File
	file    *os.File
	size    int64
	state   state
	resumed bool // some of it came by an earlier request
}

// state is kept beside an unfinished file.
type state struct {
	URL       string `json:"url"`
	Validator string `json:"validator,omitempty"` // strong ETag or date of the last change, for If-Range
	Total     int64  `json:"total,omitempty"`     // bytes; 0 if the server did not say
}

func (p *partial) statePath() string { return p.of.Path + ".state" }

// openPartial takes up an unfinished file. A lock on it keeps other processes
// from the same file; they wait, and find it finished.
func openPartial(ctx context.Context, f File) (*partial, error) {
	for {
		file, err := os.OpenFile(f.Path+".part", os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lock(ctx, file); err != nil {
			_ = file.Close()
			return nil, err
		}
		// The one who had the lock has renamed the file, perhaps.
		mine, err := file.Stat()
		if err != nil {
			_ = file.Close()
			return nil, err
		}
		if there, err := os.Stat(file.Name()); err != nil || !os.SameFile(mine, there) {
			_ = file.Close()
			if _, err := os.Stat(f.Path); err == nil {
				return &partial{of: f, file: file}, nil
			}
			continue
		}
		p := &partial{of: f, file: file, size: mine.Size()}
		data, err := os.ReadFile(p.statePath())
		if err != nil || json.Unmarshal(data, &p.state) != nil || p.state.URL != f.URL || p.state.Total > 0 && p.size > p.state.Total {
			return p, p.restart()
		}
		p.resumed = p.size > 0
		return p, nil
	}
}

// lock waits for the lock of a file.
func lock(ctx context.Context, f *os.File) error {
	locked := make(chan error, 1)
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	go func() {
		var flock error
		err := conn.Control(func(fd uintptr) {
			for flock = syscall.EINTR; errors.Is(flock, syscall.EINTR); {
				flock = syscall.Flock(int(fd), syscall.LOCK_EX)
			}
		})
		locked <- errors.Join(err, flock)
	}()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// restart forgets what there is.
func (p *partial) restart() error {
	p.size, p.state, p.resumed = 0, state{}, false
	return p.local(errors.Join(p.file.Truncate(0), removeIfThere(p.statePath())))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ask sets the headers of a request for what is missing. A server that has
// another file by now is to send it whole (If-Range).
func (p *partial) ask(req *http.Request) {
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "rk")
	if p.size == 0 {
		return
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
	if p.state.Validator != "" {
		req.Header.Set("If-Range", p.state.Validator)
	}
}

var contentRangeRe = regexp.MustCompile(`^bytes (\d+)-\d+/(\d+|\*)$`)

// accept looks at an answer, and notes what is coming.
func (p *partial) accept(resp *http.Response) error {
	total := int64(0)
	switch resp.StatusCode {
	case http.StatusOK:
		if err := p.restart(); err != nil {
			return err
		}
		total = max(resp.ContentLength, 0)
	case http.StatusPartialContent:
		m := contentRangeRe.FindStringSubmatch(resp.Header.Get("Content-Range"))
		if len(m) == 0 || m[1] != strconv.FormatInt(p.size, 10) {
			return errors.Join(fmt.Errorf("the server sent the bytes %q instead of those from %d on", resp.Header.Get("Content-Range"), p.size), p.restart())
		}
		p.resumed = true
		if n, err := strconv.ParseInt(m[2], 10, 64); err == nil {
			total = n
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errors.New("the server has a shorter file"), p.restart())
	default:
		return newStatusError(resp)
	}
	p.state = state{URL: p.of.URL, Validator: validator(resp.Header), Total: total}
	data, err := json.Marshal(p.state)
	if err != nil {
		return err
	}
	return p.local(os.WriteFile(p.statePath(), append(data, '\n'), 0o644))
}

// validator is what If-Range may name: a strong ETag, else the date of the last
// change (RFC 9110, section 13.1.5).
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// receive appends a body; alive is called whenever some of it came.
func (p *partial) receive(body io.Reader, alive func()) error {
	buf := make([]byte, 1<<18)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if _, err := p.file.WriteAt(buf[:n], p.size); err != nil {
				return p.local(err)
			}
			p.size += int64(n)
			if p.of.Progress != nil {
				p.of.Progress(p.size, p.state.Total)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && p.size < p.state.Total:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (p *partial) sum() (string, error) {
	return hashFile(io.NewSectionReader(p.file, 0, p.size))
}

// finish gives the file its name.
func (p *partial) finish() error {
	return errors.Join(os.Rename(p.file.Name(), p.of.Path), removeIfThere(p.statePath()), removeIfThere(p.badPath()))
}

// badPath is where a file with the wrong checksum goes.
func (p *partial) badPath() string { return p.of.Path + ".bad" }

// refuse puts aside what has the wrong checksum: nobody takes it for the file,
// and one may look what it is.
func (p *partial) refuse(sum string) error {
	bad := p.badPath()
	if err := errors.Join(os.Rename(p.file.Name(), bad), removeIfThere(p.statePath())); err != nil {
		return err
	}
	return problem.ChecksumMismatch.
		Withf("The file is not used. See what it is: %s. A login page of a network or an error page of a proxy is fetched anew by the same command; if it is the real file and still differs, do not use it, and report it.", bad).
		Wrapf("%s has the SHA-256 %s, and %s is pinned", p.of.URL, sum, p.of.SHA256)
}

// local marks an error of this machine's files, which no other attempt mends.
func (p *partial) local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}
