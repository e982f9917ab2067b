// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// cmdApp makes an image, in the format of `docker save`.
func cmdApp(ts *testscript.TestScript, _ bool, args []string) {
	file, ref, toFile := strings.Cut(args[0], ".tar:")
	if !toFile {
		ref = args[0]
	}
	data := appArchive(ref, args[1:]...)
	if toFile {
		ts.Check(os.WriteFile(ts.MkAbs(file+".tar"), data, 0o600))
		return
	}
	_, err := in(ts).engine.LoadImage(context.Background(), bytes.NewReader(data))
	ts.Check(err)
}

func appArchive(ref string, contents ...string) []byte {
	files := map[string][]byte{}
	var layers, diffIDs []string
	for _, c := range contents {
		layer := tarOf(map[string][]byte{"file": []byte(c)})
		sum := sha256.Sum256(layer)
		digest := hex.EncodeToString(sum[:])
		files[digest+".tar"] = layer
		layers, diffIDs = append(layers, digest+".tar"), append(diffIDs, "sha256:"+digest)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		panic(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{ref}, "Layers": layers}})
	if err != nil {
		panic(err)
	}
	files["config.json"], files["manifest.json"] = config, manifest
	return tarOf(files)
}

// cmdImages prints the names of a node's images.
func cmdImages(ts *testscript.TestScript, _ bool, args []string) {
	printf(ts, "") // also without a line, it is this command's output that counts
	var lines []string
	for _, names := range in(ts).nodes.Images(args[0]) {
		lines = append(lines, strings.Join(names, " "))
	}
	for _, l := range slices.Sorted(slices.Values(lines)) {
		printf(ts, "%s\n", l)
	}
}

// nodeProgram is what nodes have beside containerd: some programs that tests
// look at, and journalctl.
func nodeProgram(_ context.Context, node string, p engine.Process) (exit int, ok bool) {
	say := func(w io.Writer, text string) {
		_, err := io.WriteString(w, text)
		if err != nil {
			exit = 1
		}
	}
	switch p.Argv[0] {
	case "echo":
		say(p.Stdout, strings.Join(p.Argv[1:], " ")+"\n")
	case "complain":
		say(p.Stderr, strings.Join(p.Argv[1:], " ")+"\n")
	case "exit":
		n, err := strconv.Atoi(p.Argv[1])
		if err != nil {
			return 2, true
		}
		return n, true
	case "cat":
		_, err := io.Copy(p.Stdout, p.Stdin)
		if err != nil {
			return 1, true
		}
	case "about":
		say(p.Stdout, fmt.Sprintf("user %q, folder %q, terminal %t\n", p.User, p.Dir, p.TTY != nil))
	case "journalctl":
		say(p.Stdout, node+" says: "+strings.Join(p.Argv[1:], " ")+"\n")
	case "sh":
		if !strings.HasPrefix(p.Argv[2], "du ") {
			return 0, false
		}
		say(p.Stdout, "2000\n7\n")
	default:
		return 0, false
	}
	return exit, true
}
