// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/redact"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

// How long one item of an export may take: a node that hangs must not keep the rest.
const (
	commandTimeout = 30 * time.Second
	copyTimeout    = 5 * time.Minute
)

// ExportOptions rule ExportLogs.
type ExportOptions struct {
	Reporter step.Reporter
	// Dir is the folder to write to; it is made if it does not exist.
	Dir string
	// Files are further files, by name: what the caller knows of rk and the host.
	Files map[string][]byte
}

// Exported is what ExportLogs wrote.
type Exported struct {
	Dir     string    `json:"dir"`
	Files   int       `json:"files"`
	Missing []Missing `json:"missing,omitempty"` // ordered by What
}

// Missing is something that could not be had.
type Missing struct {
	What string `json:"what"` // name of the file
	Why  string `json:"why"`
}

// ExportLogs writes all that tells how a cluster is doing into a folder, from
// what runs of it: for each node its journal, the logs of its pods, the
// engine's description, its configuration; and what the API says. Secrets are
// removed (package redact), and files that are keys are left out. What cannot be
// had is noted in the file missing.txt and is no error.
func ExportLogs(ctx context.Context, eng engine.Engine, name string, o ExportOptions) (*Exported, error) {
	c, err := Find(ctx, eng, name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // files are closed one by one
	x := &export{engine: eng, root: root}
	nodes := make([]step.Step, len(c.Nodes))
	for i, n := range c.Nodes {
		nodes[i] = step.Step{ID: "export/" + n.Name, Title: n.Name, Do: func(ctx context.Context) (step.Undo, error) {
			return nil, x.node(ctx, n)
		}}
	}
	steps := []step.Step{
		{ID: "export/cluster", Title: "Describing the cluster", Do: func(ctx context.Context) (step.Undo, error) {
			return nil, x.cluster(ctx, c, o.Files)
		}},
		step.All("export/nodes", "Collecting from the nodes", nodes...),
		{ID: "export/api", Title: "Asking the API", Do: func(ctx context.Context) (step.Undo, error) { return nil, x.api(ctx, c) }},
	}
	err = step.Run(ctx, o.Reporter, steps, step.Options{})
	if err == nil {
		err = x.noteMissing()
	}
	var own *fs.PathError // of the folder
	if errors.As(err, &own) && !full(err) {
		return nil, err
	}
	if err != nil {
		return nil, engineError(err)
	}
	return &Exported{Dir: o.Dir, Files: x.files, Missing: x.missing}, nil
}

// export is one ExportLogs.
type export struct {
	engine engine.Engine
	root   *os.Root

	mu      sync.Mutex
	files   int
	missing []Missing
}

// write writes a file by content, without secrets. Errors of the folder are
// returned; those of content are noted.
func (x *export) write(ctx context.Context, name string, limit time.Duration, content func(context.Context, io.Writer) error) error {
	if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	out := &counting{w: f}
	w := redact.Writer(out)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = content(limited, w)
	if closeErr := errors.Join(w.Close(), f.Close(), out.err); closeErr != nil {
		return closeErr
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		x.lacks(name, err)
	}
	if out.n == 0 {
		return x.root.Remove(name)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files++
	return nil
}

// counting keeps the first error of a file, to tell it from those of what is written there.
type counting struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func (x *export) lacks(what string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.missing = append(x.missing, Missing{what, string(redact.Bytes([]byte(err.Error())))})
}

// json writes a value.
func (x *export) json(ctx context.Context, name string, get func(context.Context) (any, error)) error {
	return x.write(ctx, name, commandTimeout, func(ctx context.Context, w io.Writer) error {
		v, err := get(ctx)
		if err != nil {
			return err
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

func (x *export) cluster(ctx context.Context, c *Cluster, files map[string][]byte) error {
	errs := []error{
		x.json(ctx, "cluster.json", func(context.Context) (any, error) { return c, nil }),
		x.json(ctx, "engine.json", func(ctx context.Context) (any, error) { return x.engine.Info(ctx) }),
		x.json(ctx, "networks.json", func(ctx context.Context) (any, error) { return x.engine.ListNetworks(ctx, nil) }),
	}
	for name, data := range files {
		errs = append(errs, x.write(ctx, name, commandTimeout, func(_ context.Context, w io.Writer) error {
			_, err := w.Write(data)
			return err
		}))
	}
	return errors.Join(errs...)
}

// nodeCommands are what is run in a node, by the file that gets the output.
var nodeCommands = map[string]string{
	"journal.log":     "journalctl --no-pager --quiet",
	"kubelet.log":     "journalctl --no-pager --quiet --output=cat --unit=kubelet",
	"containerd.log":  "journalctl --no-pager --quiet --output=cat --unit=containerd",
	"units.txt":       "systemctl --no-pager --plain --failed; systemctl --no-pager --plain list-units --all",
	"processes.txt":   "ps axfww -o pid,ppid,user,etime,rss,args",
	"containers.txt":  "crictl pods; echo; crictl ps --all",
	"images.txt":      "crictl images",
	"network.txt":     "ip -details address; echo; ip route; ip -6 route; echo; ss -lntup",
	"netfilter.txt":   "nft list ruleset",
	"resources.txt":   "df -h; echo; free -m; echo; cat /proc/loadavg /proc/pressure/* 2>/dev/null; echo; cat /proc/self/mountinfo",
	"versions.txt":    "kubelet --version; containerd --version; runc --version; crun --version; crictl --version; uname -a; cat /etc/os-release",
	"containerd.toml": "containerd config dump",
}

// nodeFiles are copied out of a node, running or not, by the folder that gets
// them: all that rk put there, which is the plan as it was carried out, and the pods' logs.
var nodeFiles = map[string]string{
	"pods":       "/var/log/pods",
	"kubernetes": "/etc/kubernetes",
	"rk":         "/etc/rk",
	"kubelet":    "/var/lib/kubelet/config.yaml",
}

// The same of the load balancer of several control planes, in which haproxy runs and nothing else.
var (
	loadBalancerCommands = map[string]string{
		"processes.txt": nodeCommands["processes.txt"],
		"network.txt":   nodeCommands["network.txt"],
		"versions.txt":  "haproxy -v",
	}
	loadBalancerFiles = map[string]string{"rk": "/etc/rk"}
)

func (x *export) node(ctx context.Context, n Node) error {
	errs := []error{
		x.write(ctx, n.Name+"/inspect.json", commandTimeout, func(ctx context.Context, w io.Writer) error { return x.inspect(ctx, n, w) }),
		x.write(ctx, n.Name+"/console.log", commandTimeout, func(ctx context.Context, w io.Writer) error {
			return x.engine.ContainerLogs(ctx, n.Name, w)
		}),
	}
	files, commands := nodeFiles, nodeCommands
	if n.Role == plan.RoleLoadBalancer {
		files, commands = loadBalancerFiles, loadBalancerCommands
	}
	for dir, from := range files {
		errs = append(errs, x.copy(ctx, n.Name+"/"+dir, n.Name, from))
	}
	if n.State != engine.StateRunning {
		x.lacks(n.Name+"/journal.log and what else only a running node tells", fmt.Errorf("the node is %s", n.State)) //nolint:err113 // for people
		return errors.Join(errs...)
	}
	hangs := false
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		errs = append(errs, x.write(ctx, n.Name+"/"+name, commandTimeout, func(ctx context.Context, w io.Writer) error {
			if hangs {
				return errHangs
			}
			err := node.New(x.engine, n.Name).Stream(ctx, w, "sh", "-c", commands[name])
			hangs = errors.Is(err, context.DeadlineExceeded)
			return err
		}))
	}
	return errors.Join(errs...)
}

func (x *export) inspect(ctx context.Context, n Node, w io.Writer) error {
	text, err := x.engine.InspectContainer(ctx, n.Name)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if json.Indent(&indented, text, "", "  ") == nil {
		text = append(indented.Bytes(), '\n')
	}
	_, err = w.Write(text)
	return err
}

// isKey says whether a file is a key, or is likely to hold nothing but secrets.
func isKey(name string) bool {
	return path.Ext(name) == ".key" || path.Ext(name) == ".pem" || strings.Contains(name, "kubelet-client-") ||
		strings.HasSuffix(name, "/kubelet/config.json") || strings.Contains(name, "kubernetes.io~secret") || strings.HasSuffix(name, "known_tokens.csv")
}

// copy copies the regular files of a node's folder, or one file.
func (x *export) copy(ctx context.Context, dir, nodeName, from string) error {
	limited, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	stream, err := x.engine.CopyOut(limited, nodeName, from)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x.lacks(dir, err)
		return nil
	}
	defer stream.Close()
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			x.lacks(dir, err)
			return nil
		}
		// Names begin with the name of what is copied.
		name := path.Join("/", h.Name)
		if rest, ok := strings.CutPrefix(name, "/"+path.Base(from)+"/"); ok {
			name = "/" + rest
		}
		if h.Typeflag != tar.TypeReg || isKey(name) {
			continue
		}
		err = x.write(ctx, path.Join(dir, name), copyTimeout, func(_ context.Context, w io.Writer) error {
			_, err := io.Copy(w, r)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// apiObjects are what is asked of the API. No Secrets, and no ConfigMaps of users.
var apiObjects = map[string]string{
	"nodes.yaml":     "get nodes --output=yaml",
	"pods.yaml":      "get pods --all-namespaces --output=yaml",
	"workloads.yaml": "get deployments,daemonsets,statefulsets,replicasets,jobs --all-namespaces --output=yaml",
	"network.yaml":   "get services,endpointslices,ingresses,networkpolicies --all-namespaces --output=yaml",
	"storage.yaml":   "get persistentvolumes,persistentvolumeclaims,storageclasses --all-namespaces --output=yaml",
	"kubeadm.yaml":   "get configmaps --namespace=kube-system kubeadm-config kubelet-config kube-proxy coredns --output=yaml",
	"events.txt":     "get events --all-namespaces --sort-by=.lastTimestamp",
	"overview.txt":   "get nodes,pods --all-namespaces --output=wide",
	"readyz.txt":     "get --raw=/readyz?verbose",
}

// api asks the API through the first control plane that runs.
func (x *export) api(ctx context.Context, c *Cluster) error {
	at := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Role == plan.RoleControlPlane && n.State == engine.StateRunning })
	if at < 0 {
		x.lacks("api", errNoControlPlane)
		return nil
	}
	n := node.New(x.engine, c.Nodes[at].Name)
	var errs []error
	for name, command := range apiObjects {
		argv := append([]string{"kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=15s"}, strings.Fields(command)...)
		errs = append(errs, x.write(ctx, "api/"+name, commandTimeout, func(ctx context.Context, w io.Writer) error {
			return n.Stream(ctx, w, argv...)
		}))
	}
	return errors.Join(errs...)
}

var (
	errNoControlPlane = errors.New("no control plane runs")
	errHangs          = errors.New("the node did not answer before")
)

// noteMissing writes missing.txt.
func (x *export) noteMissing() error {
	slices.SortFunc(x.missing, func(a, b Missing) int { return strings.Compare(a.What, b.What) })
	if len(x.missing) == 0 {
		return nil
	}
	var text strings.Builder
	for _, m := range x.missing {
		fmt.Fprintf(&text, "%s: %s\n", m.What, m.Why)
	}
	x.files++
	return x.root.WriteFile("missing.txt", []byte(text.String()), 0o644)
}
