// SPDX-License-Identifier: Apache-2.0

// Package prog is what testprog does, apart from being a process: so the Fake
// can answer the conformance suite's commands in the same way as a container.
//
// It must never import os.
package prog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Process is what a process sees.
type Process struct {
	Args           []string // without the program's name
	Env            []string
	UID            int
	Getwd          func() (string, error)
	Hostname       func() (string, error)
	Open           func(name string) (File, error)
	Winsize        func() (rows, columns uint16, err error) // of the terminal that is stdin
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// File is an open file.
type File interface {
	io.ReadCloser
	Stat() (fs.FileInfo, error)
}

var errUsage = errors.New("usage: testprog wait|exit N|echo WORD...|complain WORD...|cat [FILE...]|stat FILE...|flood N|env|whoami|listen PORT|answer PORT|dial HOST:PORT|tty")

// Main runs one command and returns its exit code. ctx ends on SIGTERM.
//
//	wait             says "waiting" and waits for SIGTERM
//	exit N           exits with N
//	echo, complain   print their arguments to stdout, stderr
//	cat [FILE...]    copies files, or stdin, to stdout
//	stat FILE...     prints "MODE UID:GID" of each
//	flood N          writes N bytes to stdout and to stderr, in turns
//	env              prints the environment, sorted
//	whoami           prints "UID@HOSTNAME:DIR"
//	listen PORT      serves "hello from HOSTNAME" to each TCP connection
//	answer PORT      sends "hello from HOSTNAME" back for each UDP packet
//	dial HOST:PORT   prints what it is sent there
//	tty              prints "size ROWSxCOLUMNS" of its terminal for each line of
//	                 stdin, until one says "end"
func Main(ctx context.Context, p Process) int {
	if len(p.Args) == 0 {
		p.Args = []string{""}
	}
	command, args := p.Args[0], p.Args[1:]
	if command == "exit" && len(args) == 1 {
		if n, err := strconv.Atoi(args[0]); err == nil {
			return n
		}
	}
	if err := p.run(ctx, command, args); err != nil {
		_, _ = fmt.Fprintln(p.Stderr, err)
		return 1
	}
	return 0
}

func (p Process) run(ctx context.Context, command string, args []string) error {
	switch {
	case command == "wait":
		_, _ = fmt.Fprintln(p.Stdout, "waiting")
		<-ctx.Done()
		return nil
	case command == "echo":
		_, err := fmt.Fprintln(p.Stdout, strings.Join(args, " "))
		return err
	case command == "complain":
		_, err := fmt.Fprintln(p.Stderr, strings.Join(args, " "))
		return err
	case command == "cat" && len(args) == 0:
		_, err := io.Copy(p.Stdout, p.Stdin)
		return err
	case command == "cat":
		return p.cat(args)
	case command == "stat":
		return p.stat(args)
	case command == "flood" && len(args) == 1:
		return p.flood(args[0])
	case command == "env":
		_, err := fmt.Fprintln(p.Stdout, strings.Join(slices.Sorted(slices.Values(p.Env)), "\n"))
		return err
	case command == "whoami":
		return p.whoami()
	case command == "listen" && len(args) == 1:
		return p.listen(ctx, args[0])
	case command == "answer" && len(args) == 1:
		return p.answer(ctx, args[0])
	case command == "dial" && len(args) == 1:
		return p.dial(ctx, args[0])
	case command == "tty" && len(args) == 0:
		return p.tty()
	default:
		return errUsage
	}
}

func (p Process) tty() error {
	lines := bufio.NewScanner(p.Stdin)
	for lines.Scan() && lines.Text() != "end" {
		rows, columns, err := p.Winsize()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.Stdout, "size %dx%d\n", rows, columns); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (p Process) cat(names []string) error {
	for _, name := range names {
		file, err := p.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(p.Stdout, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (p Process) stat(names []string) error {
	for _, name := range names {
		file, err := p.Open(name)
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		owner := "?"
		switch s := info.Sys().(type) {
		case *syscall.Stat_t:
			owner = fmt.Sprintf("%d:%d", s.Uid, s.Gid)
		case fmt.Stringer:
			owner = s.String()
		}
		_, _ = fmt.Fprintln(p.Stdout, info.Mode(), owner)
	}
	return nil
}

func (p Process) flood(size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	for n > 0 {
		block := min(n, 10_000)
		if _, err := p.Stdout.Write(bytes.Repeat([]byte("o"), block)); err != nil {
			return err
		}
		if _, err := p.Stderr.Write(bytes.Repeat([]byte("e"), block)); err != nil {
			return err
		}
		n -= block
	}
	return nil
}

func (p Process) whoami() error {
	dir, err := p.Getwd()
	if err != nil {
		return err
	}
	host, err := p.Hostname()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%d@%s:%s\n", p.UID, host, dir)
	return err
}

func (p Process) answer(ctx context.Context, port string) error {
	host, err := p.Hostname()
	if err != nil {
		return err
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", ":"+port)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, _ = fmt.Fprintln(p.Stdout, "answering on", port)
	for {
		_, from, err := conn.ReadFrom(make([]byte, 1))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(packetWriter{conn, from}, "hello from %s\n", host); err != nil {
			_, _ = fmt.Fprintln(p.Stderr, err)
		}
	}
}

// packetWriter sends each write as one packet.
type packetWriter struct {
	net.PacketConn
	to net.Addr
}

func (w packetWriter) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

func (p Process) listen(ctx context.Context, port string) error {
	host, err := p.Hostname()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	_, _ = fmt.Fprintln(p.Stdout, "listening on", port)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(conn, "hello from %s\n", host)
		if err := errors.Join(err, conn.Close()); err != nil {
			_, _ = fmt.Fprintln(p.Stderr, err)
		}
	}
}

func (p Process) dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // all was read or has failed
	_, err = io.Copy(p.Stdout, conn)
	return err
}
