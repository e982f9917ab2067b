// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootless-kubernetes/rk/pkg/cluster"
	"github.com/rootless-kubernetes/rk/pkg/kube"
	"github.com/rootless-kubernetes/rk/pkg/plan"
	"github.com/rootless-kubernetes/rk/pkg/preflight"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

func (a *app) export() *cobra.Command {
	return group("export", "Export the logs or the kubeconfig of a cluster", a.exportLogs(), a.exportKubeconfig())
}

func (a *app) exportKubeconfig() *cobra.Command {
	var givenName, kubeconfig string
	var internal bool
	cmd := &cobra.Command{
		Use: "kubeconfig [NAME]", Short: "Put a cluster into the kubeconfig again, as the current context",
		Example: "  rk export kubeconfig demo --kubeconfig ./demo.kubeconfig",
		Args:    usage(oneName),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := a.oneCluster(cmd, args, givenName)
			if err != nil {
				return err
			}
			data, err := a.kubeconfig(cmd.Context(), name, internal)
			if err != nil {
				return err
			}
			path := kube.ResolvePath(kubeconfig, a.Env("KUBECONFIG"), a.Env("HOME"))
			if err := kube.MergeKubeconfig(cmd.Context(), path, data); err != nil {
				return err
			}
			a.note("The current context in %s is %s.", path, plan.ContextName(name))
			return nil
		},
		ValidArgsFunction: a.completeNames,
	}
	nameFlag(cmd, &givenName, "name of the cluster")
	completeFlag(cmd, "name", a.completeNames)
	kubeconfigFlag(cmd, &kubeconfig)
	internalFlag(cmd, &internal)
	return cmd
}

// exportFlags are the flags of "rk export logs".
type exportFlags struct{ name, archive string }

func (a *app) exportLogs() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: "logs [CLUSTER] [DIR]", Short: "Collect everything that tells how a cluster is doing, without secrets",
		Long: `Collect logs and state of a cluster in a folder: for each node its journal, the
logs of its pods, its configuration and the engine's description of it; what the
API says; versions, and what 'rk doctor' finds. Private keys, tokens, passwords and
the like are removed. It also works if half of the cluster is gone: what could not be
had is listed in missing.txt.

A single argument with a '/' in it, or one beside --name, is the folder. Without a
folder, a new one is made in the current one. Its path is printed.`,
		Example: `  rk export logs
  rk export logs demo ./demo-logs
  rk export logs demo --archive demo-logs.tar.gz`,
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return fmt.Errorf("a cluster and a folder are expected, but there are %d arguments", len(args))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runExportLogs(cmd, args, f) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 || strings.Contains(toComplete, "/") {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return a.completeNames(cmd, args, toComplete)
		},
	}
	nameFlag(cmd, &f.name, "name of the cluster")
	completeFlag(cmd, "name", a.completeNames)
	cmd.Flags().StringVar(&f.archive, "archive", "", "write this file, a .tar.gz, instead of a folder")
	return cmd
}

// exportArgs tells the cluster from the folder.
func exportArgs(cmd *cobra.Command, args []string) (cluster []string, dir string) {
	switch {
	case len(args) == 2:
		return args[:1], args[1]
	case len(args) == 1 && (cmd.Flags().Changed("name") || args[0] == "." || args[0] == ".." || strings.Contains(args[0], "/")):
		return nil, args[0]
	}
	return args, ""
}

func (a *app) runExportLogs(cmd *cobra.Command, args []string, f exportFlags) (err error) {
	args, dir := exportArgs(cmd, args)
	name, err := a.oneCluster(cmd, args, f.name)
	if err != nil {
		return err
	}
	now := a.Now()
	base := "rk-logs-" + name + "-" + now.Format("20060102-150405")
	result := dir
	switch {
	case dir != "" && f.archive != "":
		return usageErrorf(cmd, "either a folder or --archive can be given")
	case f.archive != "":
		if dir, err = os.MkdirTemp("", base+"-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		result = f.archive
	case dir == "":
		dir, result = base, base
	}
	exported, err := withEngines(cmd.Context(), a, func(ctx context.Context, e engines) (*cluster.Exported, error) {
		eng, _, err := e.holding(ctx, name)
		if err != nil {
			return nil, err
		}
		files := a.ownFiles(ctx) // before there is progress: it may say something
		rep, done := a.reporter()
		defer done()
		return cluster.ExportLogs(ctx, eng, name, cluster.ExportOptions{Reporter: rep, Dir: dir, Files: files})
	})
	if p, ok := problem.Of(err); ok && errors.Is(err, problem.ClusterNotFound) && len(args) == 1 && dir == base {
		return p.Withf("'rk get clusters' lists the clusters. If a folder is meant, write ./%[1]s, or name the cluster: --name CLUSTER %[1]s.", args[0])
	}
	if err != nil {
		return err
	}
	if f.archive != "" {
		if err := pack(f.archive, dir, base, now); err != nil {
			return err
		}
	}
	for _, m := range exported.Missing {
		if a.verbose {
			a.note("Missing: %s: %s", m.What, m.Why)
		}
	}
	if n := len(exported.Missing); n > 0 {
		a.note("%d things could not be had; missing.txt says why.", n)
	}
	a.note("%d files. Secrets are removed as far as they can be recognised; look through them before you pass them on.", exported.Files)
	_, err = fmt.Fprintln(a.Out, result)
	return err
}

// ownFiles are what rk knows of itself and of the host.
func (a *app) ownFiles(ctx context.Context) map[string][]byte {
	files := map[string][]byte{}
	add := func(name string, v any, err error) {
		data, jsonErr := json.MarshalIndent(v, "", "  ")
		if err = errors.Join(err, jsonErr); err != nil {
			name, data = name+".error", []byte(err.Error())
		}
		files[name] = append(data, '\n')
	}
	add("rk.json", thisVersion(), nil)
	facts, err := a.facts(ctx, preflight.Wanted{})
	add("doctor.json", diagnose(facts, nil), err)
	return files
}

// pack writes a folder into a .tar.gz, below base, whole or not at all.
func pack(file, dir, base string, now time.Time) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	err = errors.Join(addDir(w, dir, base, now), w.Close(), z.Close(), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func addDir(w *tar.Writer, dir, base string, now time.Time) error {
	return filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(filepath.Join(base, rel)), Mode: 0o644, Size: int64(len(data)), ModTime: now}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}
