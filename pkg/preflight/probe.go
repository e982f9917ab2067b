// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe is what was tried in a new user, network and mount namespace, the
// way a rootless engine makes them. Texts are empty if it works, else they say
// why not.
type Probe struct {
	Sysctls         map[string]string `json:"sysctls"` // of the new network namespace
	VXLAN           string            `json:"vxlan"`
	Bridge          string            `json:"bridge"`
	Veth            string            `json:"veth"`
	NFTables        string            `json:"nftables"`
	IPTables        string            `json:"iptables"` // the older ip_tables
	BridgeNetfilter bool              `json:"bridgeNetfilter"`
	Overlay         string            `json:"overlay"` // only if a folder for it was given
}

// ProbeCommand is the first argument with which rk calls itself for [RunProbe].
const ProbeCommand = "__probe"

// errProbe says that the probe itself is at fault, not the host.
var errProbe = errors.New("the probe did not answer")

// probeChild runs RunProbe in a child process of this program.
func probeChild(ctx context.Context, overlay string) (Probe, error) {
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return Probe{}, fmt.Errorf("%w: %w", errProbe, err)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ProbeCommand, here, overlay)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return Probe{}, err
	}
	if err := cmd.Wait(); err != nil {
		return Probe{}, fmt.Errorf("%w: %w: %s", errProbe, err, strings.TrimSpace(stderr.String()))
	}
	var p Probe
	if err := json.Unmarshal(stdout.Bytes(), &p); err != nil {
		return Probe{}, fmt.Errorf("%w: %w", errProbe, err)
	}
	return p, nil
}

// RunProbe is the child process: it tries what a [Probe] says and writes that
// as JSON. args are the caller's network namespace, in which nothing must be
// tried, and a folder for overlayfs or an empty string.
func RunProbe(w io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: it was called with %d arguments", errProbe, len(args))
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil || here == args[0] || !strings.HasPrefix(args[0], "net:[") {
		return fmt.Errorf("%w: it is not in namespaces of its own", errProbe)
	}
	p := Probe{Sysctls: map[string]string{}}
	for _, name := range netnsSysctls {
		if v := (Machine{Root: "/"}).text(sysctlPath(name)); v.Known {
			p.Sysctls[name] = v.Value
		}
	}
	p.VXLAN = text(newLink("vxlan", attribute(unix.IFLA_INFO_DATA, attribute(unix.IFLA_VXLAN_ID, native(1)))))
	p.Bridge = text(newLink("bridge", nil))
	p.Veth = text(newLink("veth", nil))
	p.NFTables = text(nftables())
	if _, err := os.Stat("/proc/self/net/ip_tables_names"); err != nil {
		p.IPTables = "the module ip_tables is not loaded"
	}
	_, err = os.Stat("/proc/sys/net/bridge")
	p.BridgeNetfilter = err == nil
	if args[1] != "" {
		p.Overlay = text(tryOverlay(args[1]))
	}
	return json.NewEncoder(w).Encode(p)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return reason(err)
}

// newLink makes a network device of a kind (rtnetlink(7)). The kernel loads
// the module for it by itself, if there is one.
func newLink(kind string, data []byte) error {
	info := append(attribute(unix.IFLA_INFO_KIND, []byte(kind)), data...)
	body := append(make([]byte, unix.SizeofIfInfomsg), attribute(unix.IFLA_IFNAME, append([]byte("rk-"+kind), 0))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, info)...)
	return netlink(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body)
}

// nftables asks for the generation of the rules, which needs nf_tables.
func nftables() error {
	generation := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0} // struct nfgenmsg
	return netlink(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, generation)
}

// netlink sends a request and returns what the kernel says to it.
func netlink(protocol int, kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is left to be said
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(message[0:], uint32(unix.SizeofNlMsghdr+len(body))) //nolint:gosec // small
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], flags|unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n >= unix.SizeofNlMsghdr+4 && binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		if errno := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 { //nolint:gosec // a negative errno
			return syscall.Errno(-errno) //nolint:gosec // as above
		}
	}
	return nil
}

// attribute is a netlink attribute, padded to four bytes.
func attribute(kind uint16, value []byte) []byte {
	out := make([]byte, unix.SizeofNlAttr, unix.SizeofNlAttr+len(value)+3)
	binary.NativeEndian.PutUint16(out[0:], uint16(unix.SizeofNlAttr+len(value))) //nolint:gosec // small
	binary.NativeEndian.PutUint16(out[2:], kind)
	out = append(out, value...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// tryOverlay mounts overlayfs in dir, which is empty, as containerd does in a
// user namespace, and writes to it.
func tryOverlay(dir string) error {
	if err := os.Chdir(dir); err != nil { // relative names need no escaping in the options
		return err
	}
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("lower/file", []byte("x"), 0o600); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr,index=off"); err != nil {
		return err
	}
	err := os.WriteFile("merged/file", []byte("xx"), 0o600)
	if err == nil {
		err = os.Remove("merged/file")
	}
	return errors.Join(err, unix.Unmount("merged", 0))
}
