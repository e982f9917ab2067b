// SPDX-License-Identifier: Apache-2.0

package part

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	nodeimagedata "github.com/rootless-kubernetes/rk/node-image"
	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// Versions is node-image/versions.yaml, the one file that pins every version.
type Versions struct {
	Debian     Debian       `json:"debian"`
	Kubernetes Kubernetes   `json:"kubernetes"`
	Parts      []PinnedPart `json:"parts"`
}

// Debian says what the root file system is made from.
type Debian struct {
	Suite string `json:"suite"` // e.g. "trixie"
}

// Kubernetes lists the releases that node images can be built for.
type Kubernetes struct {
	Default  string    `json:"default"` // one of Releases
	Releases []Release `json:"releases"`
}

// Release is one Kubernetes release.
type Release struct {
	Version  string    `json:"version"`  // e.g. "v1.36.3"
	Released time.Time `json:"released"` // stamped into the programs as their build date
	AsksFor  AsksFor   `json:"asksFor"`
}

// AsksFor holds the image tags that a release's kubeadm uses by itself. They
// differ from the tags in a node image, which are the parts' own versions.
type AsksFor struct {
	Etcd    string `json:"etcd"`
	CoreDNS string `json:"coredns"`
	Pause   string `json:"pause"`
}

// PinnedPart is a part that is the same for every Kubernetes release.
type PinnedPart struct {
	Name    string `json:"name"`
	Module  string `json:"module,omitempty"`
	Version string `json:"version"`
}

// Load returns the versions that this rk was compiled with.
func Load() (*Versions, error) {
	data, err := nodeimagedata.FS.ReadFile("versions.yaml")
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse decodes and checks versions.yaml. Unknown fields are errors.
func Parse(data []byte) (*Versions, error) {
	v := &Versions{}
	if err := yaml.UnmarshalStrict(data, v); err != nil {
		return nil, fmt.Errorf("versions.yaml: %w", err)
	}
	if v.Debian.Suite == "" {
		return nil, errors.New("versions.yaml: debian.suite is missing")
	}
	for _, r := range v.Kubernetes.Releases {
		if !exact.MatchString(r.Version) {
			return nil, fmt.Errorf("versions.yaml: Kubernetes release %q is not of the form v1.2.3", r.Version)
		}
		if r.Released.IsZero() {
			return nil, fmt.Errorf("versions.yaml: Kubernetes release %s has no release time", r.Version)
		}
	}
	if _, err := v.Release(""); err != nil {
		return nil, fmt.Errorf("versions.yaml: %w", err)
	}
	for _, p := range v.Parts {
		if _, ok := recipes[p.Name]; !ok {
			return nil, fmt.Errorf("versions.yaml: there is no recipe for part %q", p.Name)
		}
		if !exact.MatchString(p.Version) {
			return nil, fmt.Errorf("versions.yaml: version %q of part %s is not of the form v1.2.3", p.Version, p.Name)
		}
	}
	return v, nil
}

// Release returns the Kubernetes release of the given version ("v1.36.3";
// the "v" may be left out) or minor version ("1.36"); "" is the default. Its
// error is a problem.KubernetesUnknown.
func (v *Versions) Release(version string) (Release, error) {
	if version == "" {
		version = v.Kubernetes.Default
	}
	want := "v" + strings.TrimPrefix(version, "v")
	known := make([]string, 0, len(v.Kubernetes.Releases))
	for _, r := range v.Kubernetes.Releases {
		if r.Version == want || minorOf(r.Version) == want {
			return r, nil
		}
		known = append(known, r.Version)
	}
	return Release{}, problem.KubernetesUnknown.
		Withf("Use one of %s; without a version it is %s.", strings.Join(known, ", "), v.Kubernetes.Default).
		Wrapf("no node image can be built for Kubernetes %q", version)
}

// For returns the parts of a node image of release r: Kubernetes first, the
// others by name.
func (v *Versions) For(r Release) []Part {
	parts := []Part{kubernetes(r)}
	for _, p := range v.Parts {
		parts = append(parts, recipes[p.Name](p))
	}
	return parts
}

// Version returns the version of the part called name, e.g. "v2.4.2" for
// "containerd", and "" if there is none.
func (v *Versions) Version(name string) string {
	for _, p := range v.Parts {
		if p.Name == name {
			return p.Version
		}
	}
	return ""
}

// exact is the form of every version in versions.yaml.
var exact = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// minorOf returns "v1.36" for "v1.36.3".
func minorOf(version string) string { return version[:strings.LastIndexByte(version, '.')] }
