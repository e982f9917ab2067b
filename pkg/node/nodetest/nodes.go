// SPDX-License-Identifier: Apache-2.0

// Package nodetest answers what rk runs in nodes, for tests over the Fake
// engine: it has containerd's images and layers, and takes archives as ctr does.
//
// It must never be imported outside tests.
package nodetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/imagearchive"
)

// Nodes are the programs in all nodes of a Fake, whose ExecFunc is Exec. All
// nodes are amd64. The fields are set before the first call.
type Nodes struct {
	// Forget names nodes that lose their layers once they were asked for them.
	Forget map[string]bool
	// Refuse has messages with which nodes refuse archives.
	Refuse map[string]string
	// Run answers other commands; ok is false for one that does not exist.
	Run func(ctx context.Context, node string, p engine.Process) (exit int, ok bool)

	mu     sync.Mutex
	images map[string]map[string][]string // node -> ID -> names
	layers map[string]map[string]bool     // node -> chain IDs
}

// Images returns a node's images: names by ID.
func (n *Nodes) Images(node string) map[string][]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	images := map[string][]string{}
	for id, names := range n.images[node] {
		images[id] = slices.Sorted(slices.Values(names))
	}
	return images
}

// RemoveImages removes the images of a node; its layers stay.
func (n *Nodes) RemoveImages(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.images[node])
}

// Exec is the ExecFunc of a Fake.
func (n *Nodes) Exec(ctx context.Context, c engine.Container, p engine.Process) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.images == nil {
		n.images, n.layers = map[string]map[string][]string{}, map[string]map[string]bool{}
	}
	if n.images[c.Name] == nil {
		n.images[c.Name], n.layers[c.Name] = map[string][]string{}, map[string]bool{}
	}
	fail := func(exit int, text string) (int, error) {
		_, err := fmt.Fprintln(p.Stderr, text)
		return exit, err
	}
	isScript := func(name string) bool { return len(p.Argv) > 4 && p.Argv[0] == "sh" && p.Argv[3] == name }
	switch {
	case len(p.Argv) == 3 && strings.Contains(p.Argv[2], "rk-snapshotter"):
		return 0, n.list(c.Name, p.Stdout)
	case strings.Join(p.Argv, " ") == "crictl images -o json":
		return 0, n.crictl(c.Name, p.Stdout)
	case isScript("rk-tag"):
		id, names := p.Argv[4], p.Argv[5:]
		if _, ok := n.images[c.Name][id]; !ok {
			return fail(1, "image "+id+": not found")
		}
		n.images[c.Name][id] = append(n.images[c.Name][id], names...)
		return 0, nil
	case isScript("rk-import"):
		if text := n.Refuse[c.Name]; text != "" {
			return fail(1, text) // without reading
		}
		if err := n.take(ctx, c.Name, p.Stdin, p.Argv[5:]); err != nil {
			return fail(1, "ctr: "+err.Error())
		}
		return 0, nil
	}
	if n.Run != nil {
		if exit, ok := n.Run(ctx, c.Name, p); ok {
			return exit, nil
		}
	}
	return fail(127, p.Argv[0]+": not found")
}

// list answers the script that asks for everything.
func (n *Nodes) list(node string, w io.Writer) error {
	text := "x86_64\noverlayfs\n---\nKEY PARENT KIND\n"
	for _, chain := range slices.Sorted(maps.Keys(n.layers[node])) {
		text += chain + "  Committed \n"
	}
	if n.Forget[node] {
		clear(n.layers[node])
	}
	if _, err := io.WriteString(w, text+"---\n"); err != nil {
		return err
	}
	return n.crictl(node, w)
}

func (n *Nodes) crictl(node string, w io.Writer) error {
	type img struct {
		ID       string   `json:"id"`
		RepoTags []string `json:"repoTags"`
		Size     string   `json:"size"`
	}
	list := []img{}
	for _, id := range slices.Sorted(maps.Keys(n.images[node])) {
		list = append(list, img{id, n.images[node][id], "1000000"})
	}
	return json.NewEncoder(w).Encode(map[string]any{"images": list})
}

var errNames = errors.New("the archive has other names than was said")

// take imports an archive; layers that are not in it must be there.
func (n *Nodes) take(ctx context.Context, node string, r io.Reader, names []string) error {
	a, err := imagearchive.Read("stdin", r)
	if err != nil {
		return err
	}
	defer a.Close() //nolint:errcheck // only read
	images, err := a.Images("amd64")
	if err != nil {
		return err
	}
	var got []string
	for _, img := range images {
		for _, l := range img.Layers {
			if err := a.Check(ctx, []imagearchive.Layer{l}); err != nil && !n.layers[node][l.ChainID] {
				return fmt.Errorf("apply layer error: %w", err)
			}
			n.layers[node][l.ChainID] = true
		}
		n.images[node][img.ID] = append(n.images[node][img.ID], img.Names...)
		got = append(got, img.Names...)
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		return fmt.Errorf("%w: %v, not %v", errNames, got, want)
	}
	return nil
}
