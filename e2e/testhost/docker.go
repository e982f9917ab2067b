// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
)

// Docker is how a host's rootless Docker is set up.
type Docker struct {
	// Net is RootlessKit's network driver, one of DockerNets. Default: what
	// dockerd-rootless.sh takes by itself, slirp4netns.
	Net string
	// PortDriver is RootlessKit's port driver, one of DockerPortDrivers. Net "pasta" goes
	// with "implicit" alone, which is its default; the others with slirp4netns, whose
	// default is "builtin".
	PortDriver string
	// Path is a folder of the host that goes first in the daemon's PATH. With a
	// docker-rootlesskit in it, that is used instead of Debian's RootlessKit, 2.0, which
	// does not tell pasta to forward to ports that listen on the loopback address alone.
	Path string
}

// What RootlessKit has of the drivers that Debian's packages can run.
var (
	DockerNets        = []string{"slirp4netns", "pasta"}
	DockerPortDrivers = []string{"builtin", "slirp4netns", "implicit"}
)

func (d *Docker) check(r Release) error {
	switch {
	case d == nil:
		return nil
	case d.Net != "" && !slices.Contains(DockerNets, d.Net):
		return fmt.Errorf("unknown network driver %q: use one of %v", d.Net, DockerNets)
	case d.PortDriver != "" && !slices.Contains(DockerPortDrivers, d.PortDriver):
		return fmt.Errorf("unknown port driver %q: use one of %v", d.PortDriver, DockerPortDrivers)
	case d.Net == "pasta" && r == Bookworm:
		return fmt.Errorf("RootlessKit of %s has no network driver pasta", r)
	}
	switch {
	case d.Net == "pasta" && d.PortDriver == "":
		d.PortDriver = "implicit"
	case (d.Net == "pasta") != (d.PortDriver == "implicit"):
		return fmt.Errorf("the network driver %q does not go with the port driver %q", d.Net, d.PortDriver)
	}
	return nil
}

// dockerScript sets up rootless Docker; $1 and $2 are the drivers, $3 the folder.
//
//go:embed docker.sh
var dockerScript string

func (h *Host) setUpDocker(ctx context.Context, d *Docker) error {
	if d == nil {
		return nil
	}
	_, err := h.User(ctx, fmt.Sprintf("set -- '%s' '%s' '%s'\n%s", d.Net, d.PortDriver, d.Path, dockerScript))
	return err
}
