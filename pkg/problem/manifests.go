// SPDX-License-Identifier: Apache-2.0

package problem

// What the user has applied at create.
var (
	ManifestUnreadable = &Problem{
		Code: "RK411", Exit: ExitUsage,
		Summary: "a manifest or a file for nodes cannot be read",
		Advice:  "Correct the path or the URL that is named above, in the configuration (manifests, kustomizations, files) or after --manifest and --kustomize. Relative paths begin at the current directory.",
	}
	ManifestInvalid = &Problem{
		Code: "RK412", Exit: ExitUsage,
		Summary: "a manifest is not valid",
		Advice:  "Correct every place that is named above; 'rk create cluster --manifest FILE --dry-run' checks manifests without creating anything.",
	}
	ManifestRejected = &Problem{
		Code: "RK521", Exit: ExitFailure,
		Summary: "the Kubernetes API did not take an object of a manifest",
		Advice:  "The object, its place and the reason are above. To correct it in a running cluster, create with --retain, then 'kubectl apply -f FILE'.",
	}
	ManifestNotAvailable = &Problem{
		Code: "RK522", Exit: ExitFailure,
		Summary: "what manifests run did not become available in time",
		Advice:  "Give it more time with --wait, for example --wait=10m, or do not wait with --wait=0. To look inside, create with --retain, then 'kubectl get pods -A' and 'kubectl describe pod -n NAMESPACE POD'.",
	}
)
