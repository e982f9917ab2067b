// SPDX-License-Identifier: Apache-2.0

package part

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
)

// command is one run of the go tool.
type command struct {
	args []string // without "go"
	env  []string // what differs from the caller's environment
	outs []string // names of the files that it makes in the output folder
}

// commands returns what builds p from a folder holding its files into the
// folder out: one command for all programs that agree in their build tags, as
// the go tool shares the work of one command best.
func commands(p Part, arch, out string) []command {
	var cmds []command
	for _, group := range byTags(p.Binaries) {
		args := []string{"build", "-v", "-trimpath", "-mod=readonly", "-buildvcs=false"}
		if tags := group[0].Tags; len(tags) > 0 {
			args = append(args, "-tags="+strings.Join(tags, ","))
		}
		args = append(args, "-ldflags="+ldflags(p))
		if len(group) == 1 {
			args = append(args, "-o", filepath.Join(out, group[0].Name))
		} else {
			args = append(args, "-o", out+string(filepath.Separator))
		}
		c := command{env: environment(p, arch)}
		for _, b := range group {
			args = append(args, b.Package)
			c.outs = append(c.outs, b.Name)
		}
		c.args = args
		cmds = append(cmds, c)
	}
	return cmds
}

// byTags groups programs that have the same build tags, in order of first appearance.
func byTags(binaries []Binary) [][]Binary {
	var groups [][]Binary
next:
	for _, b := range binaries {
		for i, g := range groups {
			if slices.Equal(g[0].Tags, b.Tags) {
				groups[i] = append(g, b)
				continue next
			}
		}
		groups = append(groups, []Binary{b})
	}
	return groups
}

// ldflags strips, makes the result independent of paths and, for cgo, static.
func ldflags(p Part) string {
	flags := []string{"-s", "-w", "-buildid="}
	if p.Cgo {
		flags = append(flags, "-linkmode=external", "-extldflags=-static")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Stamps)) {
		flags = append(flags, "-X="+name+"="+p.Stamps[name])
	}
	return strings.Join(flags, " ")
}

// environment pins what the caller's environment could change in the result.
// GOPROXY and the like pass through.
func environment(p Part, arch string) []string {
	cgo := "0"
	if p.Cgo {
		cgo = "1"
	}
	return []string{
		"CGO_ENABLED=" + cgo,
		"GO111MODULE=on",
		"GOAMD64=v1",
		"GOARCH=" + arch,
		"GOARM64=v8.0",
		"GOFLAGS=-mod=readonly", // replaces flags of the caller's own
		"GOOS=linux",
		"GOTOOLCHAIN=local", // no toolchain is downloaded
		"GOWORK=off",
	}
}

// files returns what the go tool needs to see beside its caches: name to content.
func files(p Part) (map[string][]byte, error) {
	mod, err := nodeimagedata.FS.ReadFile("parts/" + p.Name + ".mod")
	if err != nil {
		return nil, fmt.Errorf("part %s has no requirements: %w", p.Name, err)
	}
	sum, err := nodeimagedata.FS.ReadFile("parts/" + p.Name + ".sum")
	if err != nil {
		return nil, fmt.Errorf("part %s has no checksums: %w", p.Name, err)
	}
	out := map[string][]byte{"go.mod": mod, "go.sum": sum}
	if p.Source != nil {
		out["main.go"] = p.Source
	}
	return out, nil
}

// key names everything that decides the bytes of p's programs.
func key(p Part, arch, toolchain string, files map[string][]byte) string {
	h := sha256.New()
	field := func(s string) { h.Write(fmt.Appendf(nil, "%d:%s\n", len(s), s)) }
	field("rk part 1")
	field(p.Name)
	field(toolchain)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		field(name)
		field(string(files[name]))
	}
	for _, c := range commands(p, arch, "out") {
		for _, s := range slices.Concat(c.args, c.env, c.outs) {
			field(s)
		}
	}
	return p.Name + "-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// requiredGo returns the Go version that a go.mod asks for, e.g. "go1.26.6".
func requiredGo(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if v, ok := strings.CutPrefix(line, "go "); ok {
			return "go" + strings.TrimSpace(v)
		}
	}
	return ""
}
