// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/rootless-kubernetes/rk/pkg/cli"
	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/config"
	"github.com/rootless-kubernetes/rk/pkg/engine"
	"github.com/rootless-kubernetes/rk/pkg/engine/connect"
	"github.com/rootless-kubernetes/rk/pkg/engine/enginetest"
	"github.com/rootless-kubernetes/rk/pkg/kindcompat"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/node"
	"github.com/rootless-kubernetes/rk/pkg/node/nodetest"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage"
	"github.com/rootless-kubernetes/rk/pkg/nodeimage/part"
	"github.com/rootless-kubernetes/rk/pkg/pki"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
	"github.com/rootless-kubernetes/rk/pkg/step"
)

var update = flag.Bool("update", false, "rewrite the goldens in the scripts")

// TestScripts runs the scripts of testdata/script. All commands of a script
// run in this process, against one Fake engine. Beside testscript's own
// commands there are:
//
//	rk ARGS…            runs rk; "! rk" expects that it does not succeed
//	exit N              the exit code of the last rk was N
//	input FILE          standard input of the next rk
//	app REF LAYER…      puts an image with these layers into the engine, or writes
//	                    an archive of it, if REF begins with FILE.tar:
//	kind-cluster NAME   makes a cluster of kind's with one node; "fails" makes kind fail
//	images NODE         prints the images that were loaded into a node
//	archive FILE REF VERSION [ARCH]   writes an archive of a node image
//	image REF [VERSION] puts a node image into the engine, a plain one without a version
//	remote REF VERSION  puts a node image into the registry that the engine can pull from
//	engine-fails OP     makes an operation of the engine fail from now on; Dial
//	                    fails with a CODE, RK201 without one
//	create-fails WORD   what the next creation does: fail, panic, interrupt (as
//	                    by Ctrl-C), or interrupt-badly (and cannot undo)
//	calls OP…           prints how often each operation of the engine was called
//	leftovers           prints what is in the engine
//	json-lines          prints step, state and text of each line of the last rk's
//	                    standard error, all of which must be JSON
//	outline FILE        prints a plan in YAML without the contents of its files
//
// The host that rk sees is the tree in $WORK/host, which has no problems: a
// script breaks it with commands for files. It is the one that package
// preflight tests itself with.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("KUBECONFIG", filepath.Join(home, "kubeconfig"))
			w := newWorld()
			w.machine = testHost(env.WorkDir, env.Defer)
			env.Values[worldKey{}] = w
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rk": cmdRK, "exit": cmdExit, "input": cmdInput, "archive": cmdArchive, "image": cmdImage, "remote": cmdRemote,
			"engine-fails": cmdEngineFails, "create-fails": cmdCreateFails, "calls": cmdCalls, "leftovers": cmdLeftovers, "outline": cmdOutline,
			"json-lines": cmdJSONLines, "app": cmdApp, "images": cmdImages, "kind-cluster": cmdKindCluster,
		},
	})
}

type worldKey struct{}

// world is what the commands of one script share.
type world struct {
	engine *enginetest.Fake
	nodes  *nodetest.Nodes
	dial   error
	input  string
	exit   int
	create string // what the next creation does
	kind   []kindcompat.Cluster
	broken bool // kind fails
	now    time.Time

	machine cli.Machine
}

func newWorld() *world {
	w := &world{engine: enginetest.NewFake(), nodes: &nodetest.Nodes{}, now: time.Date(2026, 1, 1, 0, 10, 0, 0, time.UTC)}
	w.engine.ExecFunc = w.nodes.Exec
	w.nodes.Run = nodeProgram
	w.engine.InitFunc = func(ctx context.Context, s engine.ContainerSpec, out io.Writer) int {
		if s.Labels[plan.LabelRegistry] != "" {
			_, _ = fmt.Fprintln(out, "listening on [::]:5000")
		}
		<-ctx.Done()
		return 0
	}
	return w
}

func in(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// kept is an engine that other commands of the script use after it is closed.
type kept struct{ engine.Engine }

func (kept) Close() error { return nil }

func (w *world) deps(ctx context.Context, cancel func(), ts *testscript.TestScript) cli.Deps {
	return cli.Deps{
		In: strings.NewReader(w.input), Out: ts.Stdout(), Err: ts.Stderr(), Env: ts.Getenv,
		Dial: func(context.Context) (engine.Engine, error) { return kept{w.engine}, w.dial },
		DialAll: func(context.Context) ([]*connect.Connection, []*connect.Unusable, error) {
			return []*connect.Connection{{Engine: kept{w.engine}, Name: connect.Podman}}, nil, w.dial
		},
		Now: func() time.Time { return w.now },
		KindClusters: func(context.Context, string) ([]kindcompat.Cluster, error) {
			if w.broken {
				return nil, errors.New("kind is unwell")
			}
			return w.kind, nil
		},
		Machine: w.machine,
		Gather: func(ctx context.Context, eng preflight.Engine, c config.Cluster, image plan.ImageFacts) (plan.Facts, error) {
			facts, err := preflight.Gather(ctx, eng, c, image)
			// What depends on the machine is the same on all of them.
			facts.MTU, facts.APIPort = 0, 41000
			facts.Host.IP, facts.Host.Address = netip.MustParseAddr("169.254.1.2"), netip.MustParseAddr("192.0.2.9")
			facts.Host.CPUs, facts.Host.Memory, facts.Host.ProxyPorts = 4, 8<<30, nil
			if c.Networking.NodeSubnet == "" {
				facts.Subnet = netip.MustParsePrefix("10.89.7.0/24")
			}
			return facts, err
		},
		Create: func(_ context.Context, eng engine.Engine, p *plan.Plan, o cluster.CreateOptions) (*cluster.Created, error) {
			return w.created(ctx, cancel, eng, p, o)
		},
		Build: func(_ context.Context, o cli.BuildOptions) (*nodeimage.Result, error) { return w.built(ts, o) },
	}
}

// testHost unpacks a host of package preflight's tests and gives it a session bus.
func testHost(workDir string, atEnd func(func())) cli.Machine {
	root := filepath.Join(workDir, "host")
	tree, err := txtar.ParseFile("../preflight/testdata/hosts/trixie.txtar")
	if err != nil {
		panic(err)
	}
	if err := txtar.Write(tree, root); err != nil {
		panic(err)
	}
	modes, err := os.ReadFile(filepath.Join(root, "modes"))
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(modes)) {
		mode, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err == nil {
			err = syscall.Chmod(filepath.Join(root, path), uint32(bits))
		}
		if err != nil {
			panic(err)
		}
	}
	bus, err := net.Listen("unix", filepath.Join(root, "run/user/1000/bus"))
	if err != nil {
		panic(err)
	}
	atEnd(func() { _ = bus.Close() })
	vars := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "PATH": "/usr/bin", "HOME": "/home/rk"}
	return preflight.Machine{
		Root: root, Env: func(k string) string { return vars[k] },
		User: preflight.User{Name: "ann", UID: os.Getuid(), GID: 1000}, RootUID: os.Getuid(),
		Probe: func(context.Context, string) (preflight.Probe, error) {
			return preflight.Probe{BridgeNetfilter: true, Sysctls: map[string]string{
				"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
			}}, nil
		},
	}
}

func cmdRK(ts *testscript.TestScript, neg bool, args []string) {
	w := in(ts)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.exit = cli.Run(ctx, w.deps(ctx, cancel, ts), args)
	w.input = ""
	if neg == (w.exit == 0) {
		ts.Fatalf("exit code is %d", w.exit)
	}
}

// created stands for cluster.Create, which needs an API server: it makes what
// a plan says in the engine, with an admin.conf to read, and waits for nothing.
func (w *world) created(ctx context.Context, cancel func(), eng engine.Engine, p *plan.Plan, o cluster.CreateOptions) (*cluster.Created, error) {
	behaviour := w.create
	w.create = ""
	switch behaviour {
	case "panic":
		panic("a bug")
	case "interrupt":
		cancel()
		return nil, fmt.Errorf("network: %w", ctx.Err())
	case "interrupt-badly":
		cancel()
		return nil, errors.Join(fmt.Errorf("network: %w", ctx.Err()), errors.New("undo network: the network is in use"))
	case "fail":
		return nil, problem.APINotServing.Wrap(problem.WithLogs(errors.New("connection refused"),
			problem.Excerpt{Source: p.Nodes[0].Name, Lines: []string{"kubelet: out of luck"}}))
	}
	keys, err := pki.New(p.CAs, w.now, rand.Reader)
	if err != nil {
		return nil, err
	}
	admin, err := keys.Kubeconfig(p.Admin)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(p.Nodes[0].Kubeconfigs, func(k pki.Kubeconfig) bool { return path.Base(k.Path) == "admin.conf" })
	inNode, err := keys.Kubeconfig(p.Nodes[0].Kubeconfigs[at])
	if err != nil {
		return nil, err
	}
	steps := []step.Step{{ID: "network", Title: "Creating the network", Do: func(ctx context.Context) (step.Undo, error) {
		return nil, eng.CreateNetwork(ctx, p.Network)
	}}}
	for _, n := range p.Nodes {
		steps = append(steps, step.Step{ID: "node/" + n.Name, Title: n.Name, Do: func(ctx context.Context) (step.Undo, error) {
			id, err := eng.CreateContainer(ctx, n.Container)
			if err != nil {
				return nil, err
			}
			file := node.File{Path: "/etc/kubernetes/admin.conf", Mode: 0o600, Data: inNode}
			if err := node.New(eng, id).WriteFiles(ctx, []node.File{file}, w.now); err != nil {
				return nil, err
			}
			return nil, eng.StartContainer(ctx, id)
		}})
	}
	if err := step.Run(ctx, o.Reporter, steps, step.Options{}); err != nil {
		return nil, err
	}
	file := cmp.Or(o.Kubeconfig, o.Env("KUBECONFIG"))
	return &cluster.Created{Kubeconfig: file, Context: p.Admin.Context}, kube.MergeKubeconfig(ctx, file, admin)
}

// built stands for nodeimage.Build: it writes a small archive with the labels
// that a real one has.
func (w *world) built(ts *testscript.TestScript, o cli.BuildOptions) (*nodeimage.Result, error) {
	if o.Programs.Dir != "" {
		if _, err := os.Stat(o.Programs.Dir); err != nil {
			return nil, problem.SourceUnreachable.Wrap(err)
		}
	}
	path := o.Output
	if path == "" {
		path = ts.MkAbs("built.tar")
	}
	ref := nodeimage.Ref(o.KubernetesVersion)
	var added []string
	for _, img := range o.Add {
		added = append(added, img.Image.Names...)
	}
	if len(added) > 0 || o.Tag != "" {
		var err error
		if ref, err = nodeimage.CustomRef(o.Tag, o.KubernetesVersion); err != nil {
			return nil, err
		}
	}
	parts := []nodeimage.Part{{Name: "runc", Version: "v1.5.1", From: o.Programs.Kind}, {Name: "pause", Version: "v1.0.0", From: part.FromModule}}
	o.Reporter.Report(step.Event{Step: "image/debian", Title: "Debian base", State: step.Started})
	o.Reporter.Report(step.Event{Step: "image/debian", Title: "Debian base", State: step.Done})
	data := archive(ref, o.KubernetesVersion, cmp.Or(o.Programs.Arch, runtime.GOARCH))
	return &nodeimage.Result{
		Path: path, Ref: ref, Digest: "sha256:5eed", Size: 1_500_000_000, KubernetesVersion: o.KubernetesVersion, Parts: parts, Added: added,
	}, os.WriteFile(path, data, 0o600)
}

func printf(ts *testscript.TestScript, format string, args ...any) {
	_, err := fmt.Fprintf(ts.Stdout(), format, args...)
	ts.Check(err)
}

func cmdExit(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := in(ts).exit; got != want {
		ts.Fatalf("exit code is %d, want %d", got, want)
	}
}

func cmdInput(ts *testscript.TestScript, _ bool, args []string) { in(ts).input = ts.ReadFile(args[0]) }

func cmdArchive(ts *testscript.TestScript, _ bool, args []string) {
	arch := runtime.GOARCH
	if len(args) > 3 {
		arch = args[3]
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), archive(args[1], args[2], arch), 0o600))
}

func cmdImage(ts *testscript.TestScript, _ bool, args []string) {
	img := engine.Image{Arch: runtime.GOARCH}
	if len(args) > 1 {
		img.Labels = imageLabels(args[1])
	}
	in(ts).engine.AddImage(args[0], img)
}

func cmdRemote(ts *testscript.TestScript, _ bool, args []string) {
	in(ts).engine.AddRemoteImage(args[0], engine.Image{Arch: runtime.GOARCH, Labels: imageLabels(args[1])})
}

func cmdEngineFails(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] == "Dial" {
		in(ts).dial = problem.NoEngine.Wrap(errors.New("nothing listens"))
		if len(args) > 1 {
			p, ok := problem.Lookup(args[1])
			if !ok {
				ts.Fatalf("%s is no code", args[1])
			}
			in(ts).dial = p.Wrap(errors.New("nothing listens"))
		}
		return
	}
	in(ts).engine.Fail(args[0], "", errors.New("the engine is unwell"))
}

func cmdCreateFails(ts *testscript.TestScript, _ bool, args []string) { in(ts).create = args[0] }

func cmdCalls(ts *testscript.TestScript, _ bool, args []string) {
	printf(ts, "") // also without a line, it is this command's output that counts
	for _, op := range args {
		n := 0
		for _, c := range in(ts).engine.Calls() {
			if c.Op == op {
				n++
			}
		}
		printf(ts, "%s %d\n", op, n)
	}
}

func cmdLeftovers(ts *testscript.TestScript, _ bool, _ []string) {
	printf(ts, "") // also without a line, it is this command's output that counts
	for _, l := range in(ts).engine.Leftovers() {
		printf(ts, "%s\n", l)
	}
}

func cmdJSONLines(ts *testscript.TestScript, _ bool, _ []string) {
	text := ts.ReadFile("stderr")
	printf(ts, "") // also without a line, it is this command's output that counts
	for line := range strings.Lines(text) {
		var e struct{ Step, State, Detail, Error string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			ts.Fatalf("%q is not JSON: %v", line, err)
		}
		printf(ts, "%s %s %s%s\n", e.Step, e.State, e.Detail, e.Error)
	}
}

// cmdOutline prints a plan without what goldens of package plan pin: contents of files and manifests.
func cmdOutline(ts *testscript.TestScript, _ bool, args []string) {
	var p map[string]any
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(args[0])), &p))
	strip(p, "certificateAuthorities", "admin", "certificates", "kubeconfigs", "files", "manifest", "devices", "volumes", "tmpfs")
	out, err := yaml.Marshal(p)
	ts.Check(err)
	_, err = ts.Stdout().Write(out)
	ts.Check(err)
}

func strip(v any, names ...string) {
	switch v := v.(type) {
	case map[string]any:
		for _, n := range names {
			delete(v, n)
		}
		for _, item := range v {
			strip(item, names...)
		}
	case []any:
		for _, item := range v {
			strip(item, names...)
		}
	}
}

// imageLabels are the labels of a node image.
func imageLabels(version string) map[string]string {
	images := map[string]string{}
	for _, name := range []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
		"flannel", "coredns", "pause", "local-path-provisioner", "busybox",
	} {
		images[name] = "localhost/rk/" + name + ":v0"
	}
	data, err := json.Marshal(images)
	if err != nil {
		panic(err)
	}
	return map[string]string{
		nodeimage.LabelFormat: nodeimage.Format, nodeimage.LabelKubernetes: version, nodeimage.LabelImages: string(data),
	}
}

// archive is a node image without layers, in the format of `docker save`.
func archive(ref, version, arch string) []byte {
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "config": map[string]any{"Labels": imageLabels(version)},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{}},
	})
	if err != nil {
		panic(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "c0ffee.json", "RepoTags": []string{ref}, "Layers": []string{}}})
	if err != nil {
		panic(err)
	}
	return tarOf(map[string][]byte{"manifest.json": manifest, "c0ffee.json": config})
}

func tarOf(files map[string][]byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func cmdKindCluster(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	if args[0] == "fails" {
		w.broken = true
		return
	}
	node := args[0] + "-control-plane"
	w.kind = append(w.kind, kindcompat.Cluster{Name: args[0], Provider: "podman", Nodes: []string{node}})
	w.engine.AddImage("kindest/node", engine.Image{})
	_, err := w.engine.CreateContainer(context.Background(), engine.ContainerSpec{
		Name: node, Image: "kindest/node", Labels: map[string]string{"io.x-k8s.kind.cluster": args[0]},
	})
	ts.Check(err)
}
