package registry

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Annotations that say how a Service is balanced.
const (
	// AnnotationBalancer, on a Service, names its Policy.
	AnnotationBalancer = "usher.internal/balancer"

	// AnnotationWeight, on a Pod, an EndpointSlice or an Endpoints, is the
	// Weight of its Backends.
	AnnotationWeight = "usher.internal/weight"

	// AnnotationClientAddress, on a Service, says how its Backends learn the
	// client's address: by one of the ClientAddress values.
	AnnotationClientAddress = "usher.internal/client-address"
)

// A Policy is how a Backend is chosen.
type Policy string

// The policies.
const (
	RoundRobin       Policy = "round-robin" // the default
	Random           Policy = "random"
	LeastConnections Policy = "least-connections"
	P2C              Policy = "p2c" // the less loaded of two at random
	Maglev           Policy = "maglev"
)

// policies are in the order in which an error names them.
var policies = []Policy{LeastConnections, Maglev, P2C, Random, RoundRobin}

// A ClientAddress is how Backends learn the address of a client.
type ClientAddress string

// The ways: versions of the PROXY protocol, which puts a header before what the
// client sends. Without any a Backend sees the address of the proxy.
const (
	ProxyV1 ClientAddress = "proxy-v1"
	ProxyV2 ClientAddress = "proxy-v2"
)

// maxWeight keeps the cycle of a weighted round robin short.
const maxWeight = 100

// setBalancing gives a Frontend what its Service says of balancing. What is not
// valid counts for nothing: a hand in etcd may have written it.
func setBalancing(f *Frontend, svc *corev1.Service) {
	f.Policy = Policy(svc.Annotations[AnnotationBalancer])
	if !slices.Contains(policies, f.Policy) {
		f.Policy = RoundRobin
	}
	if a := ClientAddress(svc.Annotations[AnnotationClientAddress]); f.Protocol == corev1.ProtocolTCP && (a == ProxyV1 || a == ProxyV2) {
		f.ClientAddress = a
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
			seconds = deref(c.ClientIP.TimeoutSeconds, seconds)
		}
		f.Affinity = time.Duration(seconds) * time.Second
	}
}

// weight returns the weight of an endpoint of slice: that of its Pod when the
// slice is derived from Pods, or else of the slice, which has that of the
// Endpoints it mirrors.
func (tx *transaction) weight(slice *discoveryv1.EndpointSlice, e *endpoint) uint16 {
	annotations := slice.Annotations
	if slice.Labels[discoveryv1.LabelManagedBy] == managedBySelector {
		pod, _ := first(tx.txn, Pods.Resource, byID, objectID(slice.Namespace, e.Pod)).(*corev1.Pod)
		if pod == nil {
			return 1
		}
		annotations = pod.Annotations
	}
	if n, ok := parseWeight(annotations[AnnotationWeight]); ok {
		return n
	}
	return 1
}

func parseWeight(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n >= 1 && n <= maxWeight
}

// validateBalancing checks the annotations of a Service.
func validateBalancing(svc *corev1.Service) field.ErrorList {
	path := field.NewPath("metadata", "annotations")
	var errs field.ErrorList
	if p, ok := svc.Annotations[AnnotationBalancer]; ok && !slices.Contains(policies, Policy(p)) {
		errs = append(errs, field.NotSupported(path.Key(AnnotationBalancer), Policy(p), policies))
	}
	value, ok := svc.Annotations[AnnotationClientAddress]
	if !ok {
		return errs
	}
	at := path.Key(AnnotationClientAddress)
	switch a := ClientAddress(value); {
	case a == "transparent":
		errs = append(errs, field.Invalid(at, value,
			"is not available: the answers of a backend would not come back this way; use proxy-v1 or proxy-v2"))
	case a != ProxyV1 && a != ProxyV2:
		errs = append(errs, field.NotSupported(at, a, []ClientAddress{ProxyV1, ProxyV2}))
	case slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol != corev1.ProtocolTCP }):
		errs = append(errs, field.Invalid(at, value, "may only be used when every port is TCP"))
	}
	return errs
}

// validateWeight checks the weight of a Pod, an EndpointSlice or an Endpoints.
func validateWeight(obj Object) field.ErrorList {
	text, ok := obj.GetAnnotations()[AnnotationWeight]
	if !ok {
		return nil
	}
	if _, ok := parseWeight(text); ok {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(AnnotationWeight), text,
		fmt.Sprintf("must be between 1 and %d, inclusive", maxWeight))}
}
