// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// MergeKubeconfig adds the clusters, users and contexts of a kubeconfig to
// the file at path, replacing those of the same name, and makes its current
// context the current one. The context that was current before is noted in
// an extension, for RemoveKubeconfig.
//
// Everything else in the file stays as it is, with order, comments and fields
// that rk does not know; only YAML aliases and merge keys are written out.
// The file is replaced as a whole, under kubectl's lock; a new one gets mode
// 0600, an existing one keeps its mode, and one that its owner may not write
// is not written. Errors hold a Problem: RK601, RK602 or RK603.
func MergeKubeconfig(ctx context.Context, path string, kubeconfig []byte) error {
	entry, err := parseKubeconfig(kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig to merge: %w", err)
	}
	// 0700, as the folder is made for a file with a private key.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return problem.KubeconfigUnwritable.Wrap(err)
	}
	return withLock(ctx, path, func(target string) error {
		f, err := readKubeconfigFile(target)
		if err != nil {
			return err
		}
		f.merge(entry)
		return f.write()
	})
}

// RemoveKubeconfig removes a context from the file at path, with its cluster
// and user if no other context uses them. If it was the current context, the
// one that was current before the merge is current again, if it is still
// there, else none. A file that then holds nothing is removed. It reports
// whether there was such a context; a file that does not exist has none.
func RemoveKubeconfig(ctx context.Context, path, contextName string) (removed bool, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	err = withLock(ctx, path, func(target string) error {
		f, err := readKubeconfigFile(target)
		if err != nil {
			return err
		}
		if removed = f.remove(contextName); !removed {
			return nil
		}
		if target == path && f.empty() && f.mode.Perm()&0o200 != 0 {
			if err := os.Remove(target); err != nil {
				return problem.KubeconfigUnwritable.Wrap(err)
			}
			return nil
		}
		return f.write()
	})
	return removed, err
}

// RewriteKubeconfig returns a kubeconfig with only the current context of the
// given one, under a new name for cluster, user and context, with another
// server URL. It turns a node's admin.conf into one for the host.
func RewriteKubeconfig(kubeconfig []byte, name, server string) ([]byte, error) {
	in, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	current, ok := in.Contexts[in.CurrentContext]
	if !ok {
		return nil, fmt.Errorf("kubeconfig has no context %q", in.CurrentContext)
	}
	cluster, user := in.Clusters[current.Cluster], in.AuthInfos[current.AuthInfo]
	if cluster == nil || user == nil {
		return nil, fmt.Errorf("context %q names a cluster or a user that is missing", in.CurrentContext)
	}
	cluster.Server = server
	out := clientcmdapi.NewConfig()
	out.Clusters[name], out.AuthInfos[name] = cluster, user
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	out.CurrentContext = name
	return clientcmd.Write(*out)
}

// kubeconfigFile is a kubeconfig as a YAML tree, so that what is not touched stays as it is.
type kubeconfigFile struct {
	path string
	mode fs.FileMode
	old  []byte
	doc  *yaml.Node // the document
	root *yaml.Node // its mapping
}

func readKubeconfigFile(path string) (*kubeconfigFile, error) {
	mode := fs.FileMode(0o600)
	var data []byte
	info, err := os.Stat(path)
	if err == nil {
		mode = info.Mode().Perm()
		data, err = os.ReadFile(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, problem.KubeconfigUnreadable.Wrap(err)
	}
	f, err := newKubeconfigFile(path, mode, data)
	if err != nil {
		return nil, problem.KubeconfigUnreadable.Wrapf("%s: %w", path, err)
	}
	return f, nil
}

func newKubeconfigFile(path string, mode fs.FileMode, data []byte) (*kubeconfigFile, error) {
	doc, err := parseKubeconfig(data)
	if err != nil {
		return nil, err
	}
	return &kubeconfigFile{path: path, mode: mode, old: data, doc: doc, root: doc.Content[0]}, nil
}

// parseKubeconfig reads one document that kubectl can read too; none at all
// is an empty kubeconfig.
func parseKubeconfig(data []byte) (*yaml.Node, error) {
	if _, err := clientcmd.Load(data); err != nil {
		return nil, err
	}
	doc := &yaml.Node{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		doc.Kind = yaml.DocumentNode
		doc.Content = []*yaml.Node{{Kind: yaml.MappingNode, Content: []*yaml.Node{
			scalar("apiVersion"), scalar("v1"), scalar("kind"), scalar("Config"),
		}}}
	}
	doc = plain(doc)
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping")
	}
	for _, section := range sections {
		if s := field(root, section); s != nil && s.Tag != "!!null" && s.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("%s is not a list", section)
		}
	}
	return doc, nil
}

var sections = []string{"clusters", "contexts", "users"}

// extensionName marks what rk keeps in a context; other programs carry extensions along.
const extensionName = "rk.io"

func (f *kubeconfigFile) merge(entry *yaml.Node) {
	from := entry.Content[0]
	previous, current := f.currentContext(), text(field(from, "current-context"))
	for _, section := range sections {
		list := f.section(section)
		for _, item := range items(field(from, section)) {
			name := text(field(item, "name"))
			if section == "contexts" && name == current {
				if previous == name { // merged again: what was noted then still holds
					previous = notedContext(named(list, name))
				}
				noteContext(item, previous)
			}
			setNamed(list, name, item)
		}
	}
	if current != "" {
		setField(f.root, "current-context", scalar(current))
	}
}

func (f *kubeconfigFile) remove(contextName string) bool {
	contexts := f.section("contexts")
	gone := named(contexts, contextName)
	if gone == nil {
		return false
	}
	removeNamed(contexts, contextName)
	uses := func(item *yaml.Node, key string) string { return text(field(field(item, "context"), key)) }
	for key, section := range map[string]string{"cluster": "clusters", "user": "users"} {
		used := false
		for _, c := range items(contexts) {
			used = used || uses(c, key) == uses(gone, key)
		}
		if !used {
			removeNamed(f.section(section), uses(gone, key))
		}
	}
	previous := notedContext(gone)
	for _, c := range items(contexts) { // what came after it follows on what was before it
		if notedContext(c) != contextName {
			continue
		}
		if previous == text(field(c, "name")) {
			noteContext(c, "")
		} else {
			noteContext(c, previous)
		}
	}
	if f.currentContext() == contextName {
		if named(contexts, previous) == nil {
			previous = ""
		}
		setField(f.root, "current-context", scalar(previous))
	}
	return true
}

func (f *kubeconfigFile) currentContext() string { return text(field(f.root, "current-context")) }

// section returns one of the lists, made if it is missing.
func (f *kubeconfigFile) section(name string) *yaml.Node {
	s := field(f.root, name)
	if s == nil || s.Kind != yaml.SequenceNode {
		s = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		setField(f.root, name, s)
	}
	if len(s.Content) == 0 {
		s.Style = 0 // not "[]", which would put its items on one line
	}
	return s
}

// empty reports whether the file says nothing but that it is a kubeconfig.
func (f *kubeconfigFile) empty() bool {
	if f.doc.HeadComment+f.doc.FootComment != "" {
		return false
	}
	for i := 0; i+1 < len(f.root.Content); i += 2 {
		key, value := f.root.Content[i], f.root.Content[i+1]
		if key.HeadComment+key.LineComment+key.FootComment+value.LineComment != "" {
			return false
		}
		if key.Value != "apiVersion" && key.Value != "kind" && (len(value.Content) > 0 || text(value) != "") {
			return false
		}
	}
	return true
}

// encode is the file as it is now.
func (f *kubeconfigFile) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	enc.CompactSeqIndent() // as kubectl writes it
	if err := errors.Join(enc.Encode(f.doc), enc.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// write replaces the file by way of a temporary one in the same folder.
func (f *kubeconfigFile) write() (err error) {
	data, err := f.encode()
	if err != nil {
		return err
	}
	if bytes.Equal(data, f.old) {
		return nil
	}
	if f.mode.Perm()&0o200 == 0 {
		// Replacing the file would get around what its owner wants.
		return problem.KubeconfigUnwritable.Wrapf("%s is read-only (mode %04o)", f.path, f.mode.Perm())
	}
	if _, err := clientcmd.Load(data); err != nil {
		return problem.Internal.Wrapf("the merged kubeconfig %s would not be readable: %w", f.path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*.tmp") // mode 0600
	if err != nil {
		return problem.KubeconfigUnwritable.Wrap(err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(f.mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return problem.KubeconfigUnwritable.Wrap(errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
