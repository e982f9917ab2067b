// SPDX-License-Identifier: Apache-2.0

package part

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
)

// Releases is node-image/releases.yaml: the official artifacts of parts.
type Releases struct {
	Parts []ReleasedPart    `json:"parts"`
	Pins  map[string]string `json:"pins"` // address -> SHA-256, hexadecimal
}

// ReleasedPart says where a part's artifacts are. In its fields {version},
// {number} (the version without "v"), {arch} and {program} are replaced.
type ReleasedPart struct {
	Name     string   `json:"name"`               // a part; "kubernetes" for that of every release
	Version  string   `json:"version,omitempty"`  // "" for the part's own
	URL      string   `json:"url"`                // of a program, or an archive (.tar.gz, .tgz)
	Member   string   `json:"member,omitempty"`   // path of a program in the archive
	Checksum string   `json:"checksum,omitempty"` // where the project publishes it; {url} is replaced, too
	Dynamic  []string `json:"dynamic,omitempty"`  // programs that are linked with the C library
}

// Artifact is one file of a project's release.
type Artifact struct {
	URL      string
	SHA256   string            // "" if it is not pinned
	Checksum string            // address of what the project publishes; "" for nothing
	Members  map[string]string // program -> path in the archive; "" if the artifact is the program
}

// LoadReleases returns the artifacts that this rk was compiled with.
func LoadReleases() (*Releases, error) {
	data, err := nodeimagedata.FS.ReadFile("releases.yaml")
	if err != nil {
		return nil, err
	}
	return parseReleases(data)
}

func parseReleases(data []byte) (*Releases, error) {
	r := &Releases{}
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		return nil, fmt.Errorf("releases.yaml: %w", err)
	}
	for _, p := range r.Parts {
		if _, ok := recipes[p.Name]; !ok && p.Name != "kubernetes" {
			return nil, fmt.Errorf("releases.yaml: there is no part %q", p.Name)
		}
		if p.Version != "" && !exact.MatchString(p.Version) {
			return nil, fmt.Errorf("releases.yaml: version %q of part %s is not of the form v1.2.3", p.Version, p.Name)
		}
		if isTarball(p.URL) != (p.Member != "") {
			return nil, fmt.Errorf("releases.yaml: part %s: member is for archives, and only for them", p.Name)
		}
	}
	if err := checkPins(r.Pins); err != nil {
		return nil, fmt.Errorf("releases.yaml: %w", err)
	}
	return r, nil
}

var sha256Re = regexp.MustCompile(`^[0-9a-f]{64}$`)

func checkPins(pins map[string]string) error {
	for _, address := range slices.Sorted(maps.Keys(pins)) {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("pins: %q is not an address that begins with https://", address)
		}
		if !sha256Re.MatchString(pins[address]) {
			return fmt.Errorf("pins: %s: %q is not a SHA-256 sum in 64 hexadecimal digits", address, pins[address])
		}
	}
	return nil
}

// AddPins adds the pins of a file that FormatPins made. One that says otherwise
// than rk's own is an error.
func (r *Releases) AddPins(data []byte) error {
	var file struct {
		Pins map[string]string `json:"pins"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return err
	}
	if len(file.Pins) == 0 {
		return errors.New("it has no pins")
	}
	if err := checkPins(file.Pins); err != nil {
		return err
	}
	for _, address := range slices.Sorted(maps.Keys(file.Pins)) {
		if own, ok := r.Pins[address]; ok && own != file.Pins[address] {
			return fmt.Errorf("pins: %s: %s is not the pin of this rk, %s", address, file.Pins[address], own)
		}
		r.Pins[address] = file.Pins[address]
	}
	return nil
}

// FormatPins returns pins as a file for AddPins.
func FormatPins(pins map[string]string) ([]byte, error) {
	return yaml.Marshal(map[string]map[string]string{"pins": pins})
}

func isTarball(address string) bool {
	return strings.HasSuffix(address, ".tar.gz") || strings.HasSuffix(address, ".tgz")
}

// find returns what is known of a part's artifacts.
func (r *Releases) find(p Part) (ReleasedPart, bool) {
	name := p.Name
	if strings.HasPrefix(name, kubernetesPrefix) {
		name = "kubernetes"
	}
	i := slices.IndexFunc(r.Parts, func(known ReleasedPart) bool { return known.Name == name })
	if i < 0 {
		return ReleasedPart{}, false
	}
	return r.Parts[i], true
}

// Artifacts returns the artifacts that hold the programs of a part for an
// architecture, none if its project publishes none, and the part at their version.
func (r *Releases) Artifacts(p Part, arch string) (Part, []Artifact) {
	known, ok := r.find(p)
	if !ok {
		return p, nil
	}
	p.Version = cmp.Or(known.Version, p.Version)
	var out []Artifact
	for _, b := range p.Binaries {
		fill := strings.NewReplacer("{version}", p.Version, "{number}", strings.TrimPrefix(p.Version, "v"), "{arch}", arch, "{program}", b.Name)
		a := Artifact{URL: fill.Replace(known.URL), Members: map[string]string{}}
		i := slices.IndexFunc(out, func(other Artifact) bool { return other.URL == a.URL })
		if i < 0 {
			a.SHA256 = r.Pins[a.URL]
			a.Checksum = strings.ReplaceAll(fill.Replace(known.Checksum), "{url}", a.URL)
			out = append(out, a)
			i = len(out) - 1
		}
		out[i].Members[b.Name] = fill.Replace(known.Member)
	}
	return p, out
}

// Unpinned returns the addresses of artifacts that have no checksum.
func Unpinned(artifacts []Artifact) []string {
	var out []string
	for _, a := range artifacts {
		if a.SHA256 == "" {
			out = append(out, a.URL)
		}
	}
	return out
}

// Mirrored returns where a mirror has what an official address names: below
// the host's name, as "wget -x" and "wget -m" lay files out. "" is no mirror.
func Mirrored(address, mirror string) (string, error) {
	if mirror == "" {
		return address, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(mirror, "/") + "/" + u.Host + u.EscapedPath(), nil
}
