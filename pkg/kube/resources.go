// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resource says where objects of a kind live in the API.
type resource struct {
	name       string // plural, as in the path
	namespaced bool
}

// builtin holds the kinds of kube-apiserver itself, by group. It saves the
// discovery requests that a client needs otherwise, which are answered late
// in the server's start.
var builtin = map[string]map[string]resource{
	"": {
		"ConfigMap":             {"configmaps", true},
		"Endpoints":             {"endpoints", true},
		"Event":                 {"events", true},
		"LimitRange":            {"limitranges", true},
		"Namespace":             {"namespaces", false},
		"Node":                  {"nodes", false},
		"PersistentVolume":      {"persistentvolumes", false},
		"PersistentVolumeClaim": {"persistentvolumeclaims", true},
		"Pod":                   {"pods", true},
		"PodTemplate":           {"podtemplates", true},
		"ReplicationController": {"replicationcontrollers", true},
		"ResourceQuota":         {"resourcequotas", true},
		"Secret":                {"secrets", true},
		"Service":               {"services", true},
		"ServiceAccount":        {"serviceaccounts", true},
	},
	"admissionregistration.k8s.io": {
		"MutatingWebhookConfiguration":     {"mutatingwebhookconfigurations", false},
		"ValidatingAdmissionPolicy":        {"validatingadmissionpolicies", false},
		"ValidatingAdmissionPolicyBinding": {"validatingadmissionpolicybindings", false},
		"ValidatingWebhookConfiguration":   {"validatingwebhookconfigurations", false},
	},
	"apiextensions.k8s.io":   {"CustomResourceDefinition": {"customresourcedefinitions", false}},
	"apiregistration.k8s.io": {"APIService": {"apiservices", false}},
	"apps": {
		"ControllerRevision": {"controllerrevisions", true},
		"DaemonSet":          {"daemonsets", true},
		"Deployment":         {"deployments", true},
		"ReplicaSet":         {"replicasets", true},
		"StatefulSet":        {"statefulsets", true},
	},
	"autoscaling":         {"HorizontalPodAutoscaler": {"horizontalpodautoscalers", true}},
	"batch":               {"CronJob": {"cronjobs", true}, "Job": {"jobs", true}},
	"certificates.k8s.io": {"CertificateSigningRequest": {"certificatesigningrequests", false}},
	"coordination.k8s.io": {"Lease": {"leases", true}},
	"discovery.k8s.io":    {"EndpointSlice": {"endpointslices", true}},
	"events.k8s.io":       {"Event": {"events", true}},
	"flowcontrol.apiserver.k8s.io": {
		"FlowSchema":                 {"flowschemas", false},
		"PriorityLevelConfiguration": {"prioritylevelconfigurations", false},
	},
	"networking.k8s.io": {
		"IPAddress":     {"ipaddresses", false},
		"Ingress":       {"ingresses", true},
		"IngressClass":  {"ingressclasses", false},
		"NetworkPolicy": {"networkpolicies", true},
		"ServiceCIDR":   {"servicecidrs", false},
	},
	"node.k8s.io": {"RuntimeClass": {"runtimeclasses", false}},
	"policy":      {"PodDisruptionBudget": {"poddisruptionbudgets", true}},
	"rbac.authorization.k8s.io": {
		"ClusterRole":        {"clusterroles", false},
		"ClusterRoleBinding": {"clusterrolebindings", false},
		"Role":               {"roles", true},
		"RoleBinding":        {"rolebindings", true},
	},
	"scheduling.k8s.io": {"PriorityClass": {"priorityclasses", false}},
	"storage.k8s.io": {
		"CSIDriver":          {"csidrivers", false},
		"CSINode":            {"csinodes", false},
		"CSIStorageCapacity": {"csistoragecapacities", true},
		"StorageClass":       {"storageclasses", false},
		"VolumeAttachment":   {"volumeattachments", false},
	},
}

// unknownKindError says that the API server has no such kind. It is not transient.
type unknownKindError struct{ gvk schema.GroupVersionKind }

func (e *unknownKindError) Error() string {
	return fmt.Sprintf("the API server knows no kind %s in %s", e.gvk.Kind, e.gvk.GroupVersion())
}

// resourceOf finds the resource of a kind: from the table of built-in kinds,
// else by asking the API server for that one group version.
func (c *Client) resourceOf(ctx context.Context, gvk schema.GroupVersionKind) (resource, error) {
	if r, ok := builtin[gvk.Group][gvk.Kind]; ok {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var list metav1.APIResourceList
	err := c.request(http.MethodGet, groupVersionPath(gvk.GroupVersion())).Do(ctx).Into(&list)
	if apierrors.IsNotFound(err) {
		return resource{}, &unknownKindError{gvk}
	}
	if err != nil {
		return resource{}, err
	}
	for _, r := range list.APIResources {
		if r.Kind == gvk.Kind && !strings.Contains(r.Name, "/") {
			return resource{name: r.Name, namespaced: r.Namespaced}, nil
		}
	}
	return resource{}, &unknownKindError{gvk}
}

func groupVersionPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// path is where the object lives in the API.
func (r resource) path(o *unstructured.Unstructured) string {
	p := groupVersionPath(o.GroupVersionKind().GroupVersion())
	if r.namespaced {
		p += "/namespaces/" + namespaceOf(o)
	}
	return p + "/" + r.name + "/" + o.GetName()
}

func namespaceOf(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return ns
	}
	return metav1.NamespaceDefault
}
