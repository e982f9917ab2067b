// SPDX-License-Identifier: Apache-2.0

package multiplex_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rootless-kubernetes/rk/pkg/engine/multiplex"
)

func frame(stream byte, text string) string {
	header := binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text)))
	return string(header) + text
}

func TestSplit(t *testing.T) {
	t.Parallel()
	var service *multiplex.ServiceError
	for name, c := range map[string]struct {
		stream, stdout, stderr string
		want                   func(error) bool
	}{
		"nothing": {want: func(err error) bool { return err == nil }},
		"both":    {frame(1, "a") + frame(2, "x") + frame(0, "b") + frame(2, "") + frame(2, "y"), "ab", "xy", func(err error) bool { return err == nil }},
		"service": {frame(1, "a") + frame(3, "no ") + frame(3, "more\n"), "a", "", func(err error) bool {
			return errors.As(err, &service) && err.Error() == "no more"
		}},
		"unknown stream":    {frame(1, "a") + frame(4, "b"), "a", "", func(err error) bool { return errors.Is(err, multiplex.ErrStream) }},
		"cut in a header":   {frame(1, "a") + "\x01\x00", "a", "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"cut after a frame": {frame(1, "a"), "a", "", func(err error) bool { return err == nil }},
		"cut in a frame":    {frame(1, "a") + frame(1, "bcd")[:9], "a", "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"no frame":          {"\x01\x00\x00\x00\xff\xff\xff\xff", "", "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
	} {
		for reader, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader, "error with data": iotest.DataErrReader,
		} {
			var stdout, stderr bytes.Buffer
			err := multiplex.Split(wrap(strings.NewReader(c.stream)), &stdout, &stderr)
			if !c.want(err) || stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("%s, %s: %q, %q, %v", name, reader, stdout.String(), stderr.String(), err)
			}
		}
	}
}

func TestSplitWriters(t *testing.T) {
	t.Parallel()
	if err := multiplex.Split(strings.NewReader(frame(1, "a")+frame(2, "b")), nil, nil); err != nil {
		t.Errorf("without writers: %v", err)
	}
	broken := errors.New("broken")
	if err := multiplex.Split(strings.NewReader(frame(1, "a")), writer(func([]byte) (int, error) { return 0, broken }), nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// FuzzSplit: whatever arrives, what is written is what the frames hold, and
// put together again it is the stream.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"", frame(1, "out"), frame(2, "err") + frame(1, "out"), frame(0, "in"), frame(3, `{"message":"no"}`), frame(4, "x"),
		frame(1, "cut")[:9], frame(1, "a") + "\x02\x00", "\x01\x00\x00\x00\xff\xff\xff\xffshort", frame(1, "") + frame(2, ""),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var got []byte // the stream put together again
		messages := func() {
			for at := len(got); at+8 <= len(stream) && stream[at] == multiplex.Service; at = len(got) {
				end := at + 8 + int(binary.BigEndian.Uint32(stream[at+4:]))
				if end > len(stream) {
					return
				}
				got = append(got, stream[at:end]...) // not written, but told by the error
			}
		}
		collect := func(numbers string) writer {
			return func(p []byte) (int, error) {
				messages()
				// Standard input counts as output, and the three zeros are not looked at: what is read tells which it was.
				at := len(got)
				if !strings.Contains(numbers, string(stream[at:at+1])) {
					t.Errorf("a frame of stream %d went to the writer of %q", stream[at], numbers)
				}
				got = append(got, stream[at:at+4]...)
				got = binary.BigEndian.AppendUint32(got, uint32(len(p)))
				got = append(got, p...)
				return len(p), nil
			}
		}
		err := multiplex.Split(bytes.NewReader(stream), collect("\x00\x01"), collect("\x02"))
		messages()
		if !bytes.HasPrefix(stream, got) {
			t.Errorf("written: %q", got)
		}
		if whole := err == nil || errors.As(err, new(*multiplex.ServiceError)); whole != (len(got) == len(stream)) {
			t.Errorf("%v, and %d of %d bytes", err, len(got), len(stream))
		}
	})
}
