// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/config"
)

// kubeletFields are the fields of kubelet.config.k8s.io/v1beta1 in Kubernetes v1.34 to v1.36
// (k8s.io/kubelet/config/v1beta1/types.go).
const kubeletFields = `
	address allowedUnsafeSysctls apiVersion authentication authorization cgroupDriver cgroupRoot cgroupsPerQOS clusterDNS clusterDomain
	configMapAndSecretChangeDetectionStrategy containerLogMaxFiles containerLogMaxSize containerLogMaxWorkers containerLogMonitorInterval
	containerRuntimeEndpoint contentType cpuCFSQuota cpuCFSQuotaPeriod cpuManagerPolicy cpuManagerPolicyOptions cpuManagerReconcilePeriod
	crashLoopBackOff enableContentionProfiling enableControllerAttachDetach enableDebugFlagsHandler enableDebuggingHandlers enableProfilingHandler
	enableServer enableSystemLogHandler enableSystemLogQuery enforceNodeAllocatable eventBurst eventRecordQPS evictionHard evictionMaxPodGracePeriod
	evictionMinimumReclaim evictionPressureTransitionPeriod evictionSoft evictionSoftGracePeriod failCgroupV1 failSwapOn featureGates fileCheckFrequency
	hairpinMode healthzBindAddress healthzPort httpCheckFrequency imageGCHighThresholdPercent imageGCLowThresholdPercent imageMaximumGCAge
	imageMinimumGCAge imagePullCredentialsVerificationPolicy imageServiceEndpoint iptablesDropBit iptablesMasqueradeBit kernelMemcgNotification kind
	kubeAPIBurst kubeAPIQPS kubeReserved kubeReservedCgroup kubeletCgroups localStorageCapacityIsolation logging makeIPTablesUtilChains maxOpenFiles
	maxParallelImagePulls maxPods memoryManagerPolicy memoryReservationPolicy memorySwap memoryThrottlingFactor mergeDefaultEvictionSettings
	nodeLeaseDurationSeconds nodeStatusMaxImages nodeStatusReportFrequency nodeStatusUpdateFrequency oomScoreAdj podCIDR podLogsDir podPidsLimit
	podsPerCore port preloadedImagesVerificationAllowlist protectKernelDefaults providerID qosReserved readOnlyPort registerNode registerWithTaints
	registryBurst registryPullQPS reservedMemory reservedSystemCPUs resolvConf rotateCertificates runOnce runtimeRequestTimeout seccompDefault
	serializeImagePulls serverTLSBootstrap showHiddenMetricsForVersion shutdownGracePeriod shutdownGracePeriodByPodPriority
	shutdownGracePeriodCriticalPods singleProcessOOMKill staticPodPath staticPodURL staticPodURLHeader streamingConnectionIdleTimeout syncFrequency
	systemCgroups systemReserved systemReservedCgroup tlsCertFile tlsCipherSuites tlsCurvePreferences tlsMinVersion tlsPrivateKeyFile
	topologyManagerPolicy topologyManagerPolicyOptions topologyManagerScope tracing userNamespaces volumePluginDir volumeStatsAggPeriod
`

// kubeProxyFields are those of kubeproxy.config.k8s.io/v1alpha1
// (k8s.io/kube-proxy/config/v1alpha1/types.go).
const kubeProxyFields = `
	apiVersion bindAddress bindAddressHardFail clientConnection clusterCIDR configSyncPeriod conntrack detectLocal detectLocalMode enableProfiling
	featureGates healthzBindAddress hostnameOverride iptables ipvs kind logging metricsBindAddress mode nftables nodePortAddresses oomScoreAdj portRange
	showHiddenMetricsForVersion windowsRunAsService winkernel
`

// unfamiliar says that a document of kubelet or kube-proxy gets a field that
// none of these versions has: the program reads the file all the same, and
// leaves out what it does not know.
func unfamiliar(kind, field string) string {
	known, program := kubeletFields, "the kubelet"
	if kind == config.KubeProxyConfiguration {
		known, program = kubeProxyFields, "kube-proxy"
	}
	fields := strings.Fields(known)
	if slices.Contains(fields, field) {
		return ""
	}
	why := "is no field of Kubernetes v1.34 to v1.36, and " + program + " leaves out what it does not know"
	if i := slices.IndexFunc(fields, func(f string) bool { return strings.EqualFold(f, field) }); i >= 0 {
		return why + "; did you mean " + fields[i] + "?"
	}
	if best := config.Closest(field, fields); best != "" {
		why += "; did you mean " + best + "?"
	}
	return why
}
