// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Manifest is where Kubernetes objects come from: exactly one of Path, URL and Inline.
type Manifest struct {
	// Path is a file of YAML or JSON documents, or a folder: all files in it
	// that end in .yaml, .yml or .json, by name, those of folders below it not.
	// A relative one is relative to the current directory of rk.
	Path string `json:"path,omitempty"`
	// URL (http or https) is downloaded before anything is made.
	URL string `json:"url,omitempty"`
	// SHA256 is the checksum that what is downloaded must have, in hexadecimal
	// digits; default: none is asked for.
	SHA256 string `json:"sha256,omitempty"`
	// Inline is the documents themselves.
	Inline string `json:"inline,omitempty"`
}

// File is a file that is put into nodes before they start.
type File struct {
	// Path in the node, absolute.
	Path string `json:"path"`
	// Content of the file; not together with Source. Without either it is empty.
	Content string `json:"content,omitempty"`
	// Source is a file of the host; a relative one is relative to the current
	// directory of rk.
	Source string `json:"source,omitempty"`
	// Mode is the permission bits, in octal digits; default "0644".
	Mode string `json:"mode,omitempty"`
	// Owner in the node, as the numbers "UID" or "UID:GID"; default: root.
	Owner string `json:"owner,omitempty"`
	// Roles of the nodes that get the file; default: all.
	Roles []string `json:"roles,omitempty"`
	// Nodes that get the file, by name; default: all of the roles.
	Nodes []string `json:"nodes,omitempty"`
}

// DefaultFileMode is that of files[].mode.
const DefaultFileMode = "0644"

func (e *Errors) manifests(c Cluster) {
	for i, m := range c.Manifests {
		p := fmt.Sprintf("manifests[%d]", i)
		given := 0
		for _, v := range []string{m.Path, m.URL, m.Inline} {
			if v != "" {
				given++
			}
		}
		if given != 1 {
			e.add(p, "must have one of path, url and inline")
		}
		if m.URL != "" {
			u, err := url.Parse(m.URL)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				e.add(p+".url", "is not an http or https URL; a file of this host is given as path")
			}
		}
		if strings.HasPrefix(m.Path, "http://") || strings.HasPrefix(m.Path, "https://") {
			e.add(p+".path", "is a URL; write it as url")
		} else if strings.ContainsRune(m.Path, 0) {
			e.add(p+".path", "%q is not a path", m.Path)
		}
		if m.SHA256 == "" {
			continue
		}
		if sum, err := hex.DecodeString(m.SHA256); err != nil || len(sum) != 32 {
			e.add(p+".sha256", "%q is not a SHA-256 checksum; write its 64 hexadecimal digits", m.SHA256)
		}
		if m.URL == "" {
			e.add(p+".sha256", "is only for a url; leave it out")
		}
	}
	for i, k := range c.Kustomizations {
		p := fmt.Sprintf("kustomizations[%d]", i)
		switch {
		case k == "" || strings.ContainsRune(k, 0):
			e.add(p, "%q is not a path; write a folder of this host that has a kustomization.yaml", k)
		case strings.Contains(k, "://"):
			e.add(p, "is a URL; rk builds kustomizations of local folders alone: fetch it first")
		}
	}
}

// systemLinks are symbolic links in a node: a folder in their place would break it.
var systemLinks = map[string]string{"/bin": "/usr/bin", "/sbin": "/usr/sbin", "/lib": "/usr/lib", "/lib64": "/usr/lib64"}

// volatile are where a node has nothing of its own before it starts.
var volatile = []string{"/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp", "/var/run", "/var/lock"}

func (e *Errors) files(files []File) {
	seen := map[string]int{}
	for i, f := range files {
		p := fmt.Sprintf("files[%d]", i)
		e.filePath(p+".path", f.Path)
		key := path.Clean(f.Path) + "\x00" + strings.Join(f.Roles, ",") + "\x00" + strings.Join(f.Nodes, ",")
		if first, dup := seen[key]; dup && f.Path != "" {
			e.add(p+".path", "%q is there twice, first in %s; keep one", f.Path, text(fmt.Sprintf("files[%d]", first)))
		}
		seen[key] = i
		if f.Content != "" && f.Source != "" {
			e.add(p, "content and source cannot be given together; leave one of the two out")
		}
		if strings.ContainsRune(f.Source, 0) {
			e.add(p+".source", "%q is not a path", f.Source)
		}
		if _, err := f.Permissions(); err != nil {
			e.add(p+".mode", "%q is not a mode; write it in octal digits and quotes, like \"0644\"", f.Mode)
		}
		if _, _, err := f.IDs(); err != nil {
			e.add(p+".owner", "%q is not an owner; write numbers, \"UID\" or \"UID:GID\", from 0 to %d", f.Owner, maxID)
		}
		for j, r := range f.Roles {
			e.oneOf(fmt.Sprintf("%s.roles[%d]", p, j), r, RoleControlPlane, RoleWorker)
		}
	}
}

func (e *Errors) filePath(at, name string) {
	clean := path.Clean(name)
	switch {
	case name == "":
		e.add(at, "is required; write an absolute path in the node")
		return
	case !path.IsAbs(name) || strings.ContainsRune(name, 0) || strings.HasSuffix(name, "/"):
		e.add(at, "%q must be the absolute path of a file in the node, like /etc/app/config.yaml", name)
		return
	case contains(ownPaths, clean):
		e.add(at, "%q is a folder of the node; write the path of a file in it", name)
		return
	case strings.HasPrefix(clean, "/etc/rk/"):
		e.add(at, "%q is needed by the node itself; /etc/rk is rk's own", name)
		return
	}
	for _, dir := range volatile {
		if strings.HasPrefix(clean, dir+"/") {
			e.add(at, "%q is on a file system that begins empty when the node starts; take another folder than %s", name, text(dir))
		}
	}
	for link, target := range systemLinks {
		if strings.HasPrefix(clean, link+"/") {
			e.add(at, "%s is a link in the node; write %s", text(link), target+strings.TrimPrefix(clean, link))
		}
	}
}

// maxID is the highest user and group id in a node, as far as the usual range
// of subordinate ids goes: 65536 of them (useradd(8), SUB_UID_COUNT).
const maxID = 65535

// Permissions are the permission bits of Mode, by default 0644.
func (f File) Permissions() (uint32, error) {
	mode := f.Mode
	if mode == "" {
		mode = DefaultFileMode
	}
	bits, err := strconv.ParseUint(mode, 8, 9)
	return uint32(bits), err
}

// IDs are the user and the group of Owner, by default root. Without a group,
// it is the number of the user.
func (f File) IDs() (uid, gid int, err error) {
	if f.Owner == "" {
		return 0, 0, nil
	}
	user, group, both := strings.Cut(f.Owner, ":")
	if !both {
		group = user
	}
	u, uerr := strconv.ParseUint(user, 10, 16)
	g, gerr := strconv.ParseUint(group, 10, 16)
	if uerr != nil {
		return 0, 0, uerr
	}
	return int(u), int(g), gerr
}
