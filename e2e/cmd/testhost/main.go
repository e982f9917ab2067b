// SPDX-License-Identifier: Apache-2.0

// Command testhost makes disposable hosts to try rk on, from the command line: see package
// e2e/testhost. A host that it starts lives until "testhost down".
// It is a thin layer of flags over that package, and must not import rk's own packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/rootless-kubernetes/rk/e2e/testhost"
)

const usage = `usage: testhost COMMAND

  up NAME [--vm] [--release bookworm|trixie|sid] [--bind SRC[:DST]]... [--podman-socket] [--home-on-overlay]
     [--docker [--docker-net slirp4netns|pasta] [--docker-port-driver builtin|slirp4netns|implicit]]
                           start a host, which lives until "down"; binds are read-only.
                           With --vm it is a virtual machine: all cgroup controllers are
                           delegated to the user, and it is slow where KVM does not work
  sh NAME [-- SCRIPT...]   a login session as the user "rk": a shell, or a script
  root NAME [-- SCRIPT...] the same as the host's root
  cp [--owner USER] SRC DST
                           copy a file or directory; NAME:PATH is a path in a host
  journal NAME             the host's journal
  list                     the hosts there are
  down NAME... | --all     remove hosts
  prune                    remove what killed owners left
  build [--vm] [--release R]
                           make what hosts boot from, unless it is cached

Hosts and root file systems lie in $RK_TESTHOST_DIR, by default rk/testhost in the user's
cache directory ($XDG_CACHE_HOME, ~/.cache).
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if code := exitCode(0); errors.As(err, &code) {
		os.Exit(int(code)) // the script has said why on stderr
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testhost:", err)
		os.Exit(1)
	}
}

// exitCode is that of the script of "sh" and "root".
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

var commands = map[string]func(ctx context.Context, args []string) error{
	"up": up, "sh": shell(testhost.UserName), "root": shell("root"), "cp": cp, "journal": journal,
	"list": list, "down": down, "prune": prune, "build": build,
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		return flag.ErrHelp
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q: see %q", args[0], "testhost help")
	}
	return command(ctx, args[1:])
}

// parse lets flags stand before and after the operands, of which there must be least to most;
// what follows "--" is left alone. most -1 is no limit.
func parse(flags *flag.FlagSet, args []string, least, most int) (operands, rest []string, err error) {
	flags.SetOutput(io.Discard)
	if i := slices.Index(args, "--"); i >= 0 {
		args, rest = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return nil, nil, err
		}
		if args = flags.Args(); len(args) > 0 {
			operands, args = append(operands, args[0]), args[1:]
		}
	}
	if len(operands) < least || most >= 0 && len(operands) > most {
		return nil, nil, fmt.Errorf("%s: wrong number of operands: see %q", flags.Name(), "testhost help")
	}
	return operands, rest, nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

func releaseFlag(flags *flag.FlagSet) *string {
	return flags.String("release", string(testhost.Trixie), "Debian release")
}

func up(ctx context.Context, args []string) error {
	flags := newFlags("up")
	release := releaseFlag(flags)
	o := testhost.Options{Progress: os.Stderr}
	flags.BoolVar(&o.VM, "vm", false, "make it a virtual machine")
	flags.BoolVar(&o.PodmanSocket, "podman-socket", false, "enable the user unit podman.socket")
	var docker testhost.Docker
	withDocker := flags.Bool("docker", false, "install and start rootless Docker")
	flags.StringVar(&docker.Net, "docker-net", "", "its network driver")
	flags.StringVar(&docker.PortDriver, "docker-port-driver", "", "its port driver")
	flags.BoolVar(&o.HomeOnOverlay, "home-on-overlay", false, "put /home on overlayfs")
	flags.Func("bind", "SRC[:DST], read-only", func(s string) error {
		src, dst, ok := strings.Cut(s, ":")
		if !ok {
			dst = src
		}
		o.Binds = append(o.Binds, testhost.Bind{Src: src, Dst: dst})
		return nil
	})
	operands, _, err := parse(flags, args, 1, 1)
	if err != nil {
		return err
	}
	o.Name, o.Release = operands[0], testhost.Release(*release)
	if *withDocker || docker != (testhost.Docker{}) {
		o.Docker = &docker
	}
	host, err := testhost.Start(ctx, o)
	if err != nil {
		return err
	}
	if err := host.Keep(); err != nil {
		return errors.Join(err, host.Close())
	}
	fmt.Println(host.Addr())
	return nil
}

func shell(user string) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		operands, rest, err := parse(newFlags("sh"), args, 1, 1)
		if err != nil {
			return err
		}
		host, err := testhost.Open(operands[0])
		if err != nil {
			return err
		}
		c := testhost.Command{User: user, Script: strings.Join(rest, " "), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		c.TTY = term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
		if c.Script == "" {
			c.Script = "exec bash -l"
		}
		err = host.Run(ctx, c)
		if exit := (*testhost.ExitError)(nil); errors.As(err, &exit) {
			return exitCode(exit.Code)
		}
		return err
	}
}

func cp(ctx context.Context, args []string) error {
	flags := newFlags("cp")
	owner := flags.String("owner", testhost.UserName, "user in the host who copies in")
	operands, _, err := parse(flags, args, 2, 2)
	if err != nil {
		return err
	}
	src, dst := operands[0], operands[1]
	fromHost, fromPath, from := splitPath(src)
	toHost, toPath, to := splitPath(dst)
	if from == to {
		return errors.New("cp: one of the two paths has to be in a host, as NAME:PATH, and one on this machine")
	}
	host, err := testhost.Open(fromHost + toHost)
	if err != nil {
		return err
	}
	if to {
		return host.CopyIn(ctx, src, toPath, *owner)
	}
	return host.CopyOut(ctx, fromPath, dst)
}

// splitPath tells NAME:PATH from a path of this machine, as scp does.
func splitPath(s string) (host, path string, ok bool) {
	host, path, ok = strings.Cut(s, ":")
	if !ok || strings.Contains(host, "/") {
		return "", s, false
	}
	return host, path, true
}

func journal(ctx context.Context, args []string) error {
	operands, _, err := parse(newFlags("journal"), args, 1, 1)
	if err != nil {
		return err
	}
	host, err := testhost.Open(operands[0])
	if err != nil {
		return err
	}
	return host.Journal(ctx, os.Stdout)
}

func list(_ context.Context, args []string) error {
	if _, _, err := parse(newFlags("list"), args, 0, 0); err != nil {
		return err
	}
	hosts, err := testhost.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	rows := "NAME\tKIND\tRELEASE\tADDRESS\tSTATUS\tOWNER\n"
	for _, h := range hosts {
		owner := "-"
		if h.Owner != 0 {
			owner = fmt.Sprint(h.Owner)
		}
		kind := "container"
		if h.VM {
			kind = "vm"
		}
		rows += fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n", h.Name, kind, h.Release, h.Addr, h.Status, owner)
	}
	if _, err := io.WriteString(w, rows); err != nil {
		return err
	}
	return w.Flush()
}

func down(_ context.Context, args []string) error {
	flags := newFlags("down")
	all := flags.Bool("all", false, "remove all hosts")
	names, _, err := parse(flags, args, 0, -1)
	if err != nil {
		return err
	}
	if *all == (len(names) > 0) {
		return errors.New("down: name the hosts, or give --all")
	}
	if *all {
		hosts, err := testhost.List()
		if err != nil {
			return err
		}
		for _, h := range hosts {
			names = append(names, h.Name)
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, testhost.Remove(name))
	}
	return errors.Join(errs...)
}

func prune(ctx context.Context, args []string) error {
	if _, _, err := parse(newFlags("prune"), args, 0, 0); err != nil {
		return err
	}
	names, err := testhost.Prune(ctx)
	for _, name := range names {
		fmt.Println("removed", name)
	}
	return err
}

func build(ctx context.Context, args []string) error {
	flags := newFlags("build")
	release := releaseFlag(flags)
	vm := flags.Bool("vm", false, "what virtual machines boot from")
	if _, _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	made := testhost.Build
	if *vm {
		made = testhost.BuildVM
	}
	path, err := made(ctx, testhost.Release(*release), os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}
