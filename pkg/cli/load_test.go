// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
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
