// SPDX-License-Identifier: Apache-2.0

package problem

import "slices"

// RK1xx: the host.
var (
	NoUserSession = &Problem{
		Code: "RK101", Exit: ExitSetup,
		Summary: "there is no user session with a runtime directory",
		Advice: `Log in as this user directly (a console, ssh, or 'machinectl shell USER@'), not through su or sudo.
For a user who does not log in: 'sudo loginctl enable-linger USER', then set XDG_RUNTIME_DIR=/run/user/UID.`,
	}
	NoSubIDs = &Problem{
		Code: "RK102", Exit: ExitSetup,
		Summary: "the user has no range of subordinate user and group ids",
		Advice: `Give the user a range, then have the engine take note of it:
  sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER
  podman system migrate`,
	}
	NotDelegated = &Problem{
		Code: "RK103", Exit: ExitSetup,
		Summary: "--cgroups=delegated needs cgroup controllers that are not delegated to the user",
		Advice: `Delegate them, then log out and in again:
  sudo mkdir -p /etc/systemd/system/user@.service.d
  printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf
  sudo systemctl daemon-reload
Or do without resource limits: --cgroups=none.`,
	}
	DiskFull = &Problem{
		Code: "RK104", Exit: ExitSetup,
		Summary: "no space is left on the disk",
		Advice: `Free space where the engine keeps its images and containers, for example:
  podman system df
  podman image prune
A node image needs about 2 GB, once, however many nodes use it.`,
	}
	PortTaken = &Problem{
		Code: "RK106", Exit: ExitFailure,
		Summary: "a port of this host is already in use",
		Advice:  "Find its owner with 'ss -ltnp', or choose another port in the config (networking.apiServerPort, nodes[].ports; 0 or no value picks a free one).",
	}
	HostLimit = &Problem{
		Code: "RK107", Exit: ExitSetup,
		Summary: "a limit of the kernel is too low for this many nodes",
		Advice: `Raise the number of inotify instances, which the systemd, kubelet and containerd of each node need:
  printf 'fs.inotify.max_user_instances = 1024\nfs.inotify.max_user_watches = 524288\n' | sudo tee /etc/sysctl.d/99-rk.conf
  sudo sysctl --system`,
	}
)

// RK2xx: the engine.
var (
	NoEngine = &Problem{
		Code: "RK201", Exit: ExitSetup,
		Summary: "no rootless container engine was found",
		Advice: `Install Podman ('sudo apt install podman uidmap passt' on Debian and Ubuntu, 'sudo dnf install podman' on Fedora),
or start a rootless Docker ('dockerd-rootless-setuptool.sh install', then 'systemctl --user enable --now docker').
An engine at an unusual place is named by CONTAINER_HOST (Podman) or DOCKER_HOST, for example CONTAINER_HOST=unix:///run/user/1000/podman/podman.sock.`,
	}
	EngineUnreachable = &Problem{
		Code: "RK202", Exit: ExitSetup,
		Summary: "the container engine does not answer",
		Advice:  "Start it with 'systemctl --user enable --now podman.socket' (or docker.service), check with 'podman info' (or 'docker info'), and unset CONTAINER_HOST, DOCKER_HOST or DOCKER_CONTEXT if it points to a socket that is gone.",
	}
	EngineRootful = &Problem{
		Code: "RK203", Exit: ExitSetup,
		Summary: "the container engine runs as root, and rk uses rootless engines only",
		Advice:  "Run rk as an ordinary user, without sudo, with that user's own engine; unset CONTAINER_HOST and DOCKER_HOST if they point to a socket of root.",
	}
	EngineTooOld = &Problem{
		Code: "RK204", Exit: ExitSetup,
		Summary: "the container engine is older than rk supports",
		Advice:  "Use Podman 4.3 or later, or Docker 20.10 or later ('podman version' and 'docker version' tell which one is there).",
	}
	EngineFailed = &Problem{
		Code: "RK205", Exit: ExitFailure,
		Summary: "the container engine refused an operation",
		Advice:  "The engine's own message is above. 'podman info' or 'docker info', and 'journalctl --user -u podman -u docker', often tell more.",
	}
	SubnetClash = &Problem{
		Code: "RK206", Exit: ExitFailure,
		Summary: "no subnet is free for the cluster's network",
		Advice:  "List what is in use with 'podman network ls' or 'docker network ls', and 'ip route', delete clusters that are no longer needed with 'rk delete cluster', or leave the VPN whose routes cover the subnet.",
	}
	EngineServiceFailed = &Problem{
		Code: "RK207", Exit: ExitSetup,
		Summary: "the engine's API service could not be started",
		Advice:  "See what it says by itself: 'podman system service --time=0 unix:///tmp/podman-test.sock'. 'podman system migrate' repairs a user namespace that no longer fits.",
	}
	StorageLeft = &Problem{
		Code: "RK208", Exit: ExitFailure,
		Summary: "the engine removed a container, but not its storage, which keeps the name taken",
		Advice: `'podman ps --all --external' shows it as 'Storage'. Remove it as what it is to Podman now:
  podman rm --force NAME
If that says 'replacing mount point "DIR": directory not empty', empty DIR first: podman unshare find DIR -mindepth 1 -delete`,
	}
)

// RK3xx: the node image.
var (
	ImageNotPresent = &Problem{
		Code: "RK301", Exit: ExitSetup,
		Summary: "the node image is not in the engine's store, and --build=never forbids building it",
		Advice:  "Build it with 'rk build node-image', or load an archive with 'rk create cluster --image FILE.tar'.",
	}
	NotNodeImage = &Problem{
		Code: "RK302", Exit: ExitUsage,
		Summary: "the image is not a node image of rk",
		Advice:  "Make one with 'rk build node-image'. Images of kind (kindest/node) do not work with rk.",
	}
	BuildToolMissing = &Problem{
		Code: "RK303", Exit: ExitSetup,
		Summary: "a tool that builds the node image is not installed",
		Advice:  "Install it, or use an image that was built elsewhere: 'rk create cluster --image FILE.tar'.",
	}
	SourceUnreachable = &Problem{
		Code: "RK304", Exit: ExitSetup,
		Summary: "a source of the node image's parts cannot be reached",
		Advice:  "Check the network and the proxy variables (HTTPS_PROXY, GOPROXY), or build from a folder of artifacts: 'rk build node-image --source dir --source-dir DIR'.",
	}
	ArchiveUnreadable = &Problem{
		Code: "RK305", Exit: ExitUsage,
		Summary: "the image archive cannot be read",
		Advice:  "Give an uncompressed OCI or docker archive, as 'rk build node-image --output FILE.tar' writes it; unpack a compressed one first, for example with 'zstd -d' or 'gunzip'.",
	}
	KubernetesUnknown = &Problem{
		Code: "RK306", Exit: ExitUsage,
		Summary: "this Kubernetes version is not known to this rk",
		Advice:  "'rk build node-image --help' lists the known versions; leave the version out to use the default.",
	}
	BuildFailed = &Problem{
		Code: "RK307", Exit: ExitFailure,
		Summary: "building the node image did not succeed",
		Advice:  "The failing part and its output are above. What was already built is cached: run the same command again once the cause is gone.",
	}
	ChecksumMismatch = &Problem{
		Code: "RK308", Exit: ExitFailure,
		Summary: "a part of the node image is not what was pinned",
		Advice:  "Delete the file that is named and fetch it again. If it still differs, do not use it: either the download is tampered with or the pin is wrong.",
	}
	ImageArch = &Problem{
		Code: "RK309", Exit: ExitUsage,
		Summary: "the node image is made for another processor architecture",
		Advice:  "Build one on this machine with 'rk build node-image'.",
	}
	PullFailed = &Problem{
		Code: "RK310", Exit: ExitFailure,
		Summary: "the image could not be pulled",
		Advice:  "Check the reference and the network, log in with 'podman login' if the registry asks for it, or build the image here with 'rk build node-image'.",
	}
	ImageNotFound = &Problem{
		Code: "RK311", Exit: ExitFailure,
		Summary: "the image is not in the engine's store",
		Advice:  "'podman images' or 'docker images' lists what is there. Build or pull the image first, or load a file with --archive.",
	}
	ImagePlatform = &Problem{
		Code: "RK312", Exit: ExitFailure,
		Summary: "the image is not made for the platform of the nodes",
		Advice:  "Build or pull it for this platform, for example with 'podman pull --platform linux/amd64 IMAGE', or save an archive that has it.",
	}
	NotPinned = &Problem{
		Code: "RK313", Exit: ExitSetup,
		Summary: "an official artifact has no pinned checksum, and its part cannot be compiled here either",
		Advice:  "Record the checksums that the projects publish with 'rk build pins --output pins.yaml' (with the same --kubernetes-version and --arch), and build with '--source release --release-pins pins.yaml'; or install what compiling needs.",
	}
)

// RK4xx: usage and configuration.
var (
	InvalidUsage = &Problem{
		Code: "RK401", Exit: ExitUsage,
		Summary: "the command line is not valid",
		Advice:  "Run the command with --help to see its arguments and flags.",
	}
	InvalidConfig = &Problem{
		Code: "RK402", Exit: ExitUsage,
		Summary: "the configuration is not valid",
		Advice:  "Correct every field that is named above; 'rk create cluster --config FILE --dry-run' checks it without creating anything.",
	}
	InvalidName = &Problem{
		Code: "RK403", Exit: ExitUsage,
		Summary: "the cluster name is not valid",
		Advice:  "Use lower-case letters, digits and '-', starting and ending with a letter or digit, at most 40 characters.",
	}
	ClusterExists = &Problem{
		Code: "RK404", Exit: ExitFailure,
		Summary: "a cluster of this name already exists",
		Advice:  "Delete it first with 'rk delete cluster NAME', or choose another name with --name.",
	}
	ClusterNotFound = &Problem{
		Code: "RK405", Exit: ExitFailure,
		Summary: "there is no cluster of this name",
		Advice:  "'rk get clusters' lists the clusters of this user and engine.",
	}
	ConfigUnreadable = &Problem{
		Code: "RK406", Exit: ExitUsage,
		Summary: "the configuration file cannot be read",
		Advice:  "Check the path that was given with --config and its permissions; '-' reads standard input.",
	}
)

// RK5xx: bringing a cluster up, and what runs in it.
var (
	NodeExited = &Problem{
		Code: "RK501", Exit: ExitFailure,
		Summary: "a node container stopped while it was starting",
		Advice:  "The node's last log lines are above. Create again with --retain to keep the container, then 'podman logs NODE'.",
	}
	APINotServing = &Problem{
		Code: "RK502", Exit: ExitFailure,
		Summary: "the Kubernetes API did not serve in time",
		Advice:  "Give a slow machine more time with --wait, for example --wait=10m. To look inside, create with --retain, then 'podman exec NODE crictl ps -a' and 'podman exec NODE journalctl -u kubelet'.",
	}
	NodesNotReady = &Problem{
		Code: "RK503", Exit: ExitFailure,
		Summary: "not all nodes became Ready in time",
		Advice:  "Give a slow machine more time with --wait, for example --wait=10m. To look inside, create with --retain, then 'kubectl describe node NODE' and 'podman exec NODE journalctl -u kubelet'.",
	}
	AddonNotAvailable = &Problem{
		Code: "RK504", Exit: ExitFailure,
		Summary: "an add-on did not become available in time",
		Advice:  "Give a slow machine more time with --wait, for example --wait=10m. To look inside, create with --retain, then 'kubectl get pods -A' and 'kubectl describe pod -n NAMESPACE POD'.",
	}
	AddonRejected = &Problem{
		Code: "RK505", Exit: ExitFailure,
		Summary: "the Kubernetes API refused an object of an add-on",
		Advice:  "The object and the reason are above. The manifests of add-ons come with the node image: use one that was built by this version of rk.",
	}
	LeftOver = &Problem{
		Code: "RK507", Exit: ExitFailure,
		Summary: "not everything of the cluster could be removed",
		Advice:  "Run 'rk delete cluster NAME' again: it removes whatever is left and can be repeated. What remains is listed by 'podman ps -a' and 'podman network ls'.",
	}
	Interrupted = &Problem{
		Code: "RK508", Exit: ExitInterrupted,
		Summary: "interrupted",
		Advice:  "What was made so far has been removed again. If a second Ctrl-C cut that short, 'rk delete cluster NAME' removes the rest.",
	}
)

// RK5xx: what is done with the nodes of a running cluster.
var (
	NodeNotFound = &Problem{
		Code: "RK511", Exit: ExitFailure,
		Summary: "there is no node of this name",
		Advice:  "'rk get nodes' lists the nodes of all clusters.",
	}
	NodeNotRunning = &Problem{
		Code: "RK512", Exit: ExitFailure,
		Summary: "the node does not run",
		Advice:  "'rk get nodes' shows the state of each. 'rk logs NODE' shows what it printed before it stopped.",
	}
	ImportFailed = &Problem{
		Code: "RK513", Exit: ExitFailure,
		Summary: "containerd in a node did not take the image",
		Advice:  "Its own message is above. 'rk exec NODE -- journalctl -u containerd' tells more.",
	}
	ClusterUnhealthy = &Problem{
		Code: "RK514", Exit: ExitFailure,
		Summary: "the cluster is not healthy",
		Advice:  "What is wrong is listed above. 'rk logs CLUSTER' shows the journals of the nodes, 'rk export logs CLUSTER' collects everything.",
	}
)

// RK5xx: registries beside the clusters.
var (
	RegistryNotFound = &Problem{
		Code: "RK531", Exit: ExitFailure,
		Summary: "there is no registry of this name",
		Advice:  "'rk get registries' lists the registries of this user.",
	}
	RegistryInUse = &Problem{
		Code: "RK532", Exit: ExitFailure,
		Summary: "clusters use the registry",
		Advice:  "Delete the clusters that are named above first, or delete the registry all the same with --force: they then pull from it no more.",
	}
	RegistryDiffers = &Problem{
		Code: "RK533", Exit: ExitFailure,
		Summary: "a registry of this name is there already, and it is another one",
		Advice:  "Use it as it is ('rk get registries' shows it), or delete it with everything in it: 'rk delete registry NAME'.",
	}
	RegistryNotServing = &Problem{
		Code: "RK534", Exit: ExitFailure,
		Summary: "the registry did not start to serve in time",
		Advice:  "Its last log lines are above. 'podman logs NAME' or 'docker logs NAME' shows more; 'rk delete registry NAME' removes it.",
	}
)

// RK6xx: the kubeconfig.
var (
	KubeconfigUnreadable = &Problem{
		Code: "RK601", Exit: ExitFailure,
		Summary: "the kubeconfig file cannot be read",
		Advice:  "Check it with 'kubectl config view', or use another file: --kubeconfig FILE. rk does not change a file that it cannot read.",
	}
	KubeconfigLocked = &Problem{
		Code: "RK602", Exit: ExitFailure,
		Summary: "the kubeconfig file is locked by another program",
		Advice:  "Wait for the other program (kubectl, kind, an IDE) to finish. If none runs, its lock was left behind: delete the .lock file that is named above.",
	}
	KubeconfigUnwritable = &Problem{
		Code: "RK603", Exit: ExitFailure,
		Summary: "the kubeconfig file cannot be written",
		Advice:  "Check owner, permissions and free space of the file and its folder, or use another file: --kubeconfig FILE.",
	}
)

// RK9xx: rk itself.
var (
	Internal = &Problem{
		Code: "RK901", Exit: ExitFailure,
		Summary: "rk has a bug",
		Advice:  "Please report it with the output of 'rk version' and of the same command with -v.",
	}
)

// catalogue is ordered by code; a test sees that no value is missing.
var catalogue = slices.Concat([]*Problem{
	NoUserSession, NoSubIDs, NotDelegated, DiskFull, PortTaken, HostLimit,
	NoEngine, EngineUnreachable, EngineRootful, EngineTooOld, EngineFailed, SubnetClash, EngineServiceFailed, StorageLeft,
	ImageNotPresent, NotNodeImage, BuildToolMissing, SourceUnreachable, ArchiveUnreadable, KubernetesUnknown,
	BuildFailed, ChecksumMismatch, ImageArch, PullFailed, ImageNotFound, ImagePlatform, NotPinned,
	InvalidUsage, InvalidConfig, InvalidName, ClusterExists, ClusterNotFound, ConfigUnreadable, ManifestUnreadable, ManifestInvalid,
	NodeExited, APINotServing, NodesNotReady, AddonNotAvailable, AddonRejected, LeftOver, Interrupted,
	NodeNotFound, NodeNotRunning, ImportFailed, ClusterUnhealthy,
	ManifestRejected, ManifestNotAvailable,
	RegistryNotFound, RegistryInUse, RegistryDiffers, RegistryNotServing,
	KubeconfigUnreadable, KubeconfigLocked, KubeconfigUnwritable,
}, checks, []*Problem{Internal})
