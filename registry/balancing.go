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

	// AnnotationPath, on a Service, says which way programs under usher exec
	// reach it: by one of the Path values.
	AnnotationPath = "usher.internal/path"

	// AnnotationRemovedBackend, on a Service, says what becomes of TCP connections
	// to a Backend that is removed: one of the Removed values.
	AnnotationRemovedBackend = "usher.internal/removed-backend"
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

// ByLoad reports whether p asks how many connections Backends have.
func (p Policy) ByLoad() bool { return p == LeastConnections || p == P2C }

// policies are in the order in which an error names them.
var policies = []Policy{LeastConnections, Maglev, P2C, Random, RoundRobin}

// A ClientAddress is how Backends learn the address of a client.
type ClientAddress string

// The ways: versions of the PROXY protocol, which puts a header before what the
// client sends, and connections from the client's own address (IP_TRANSPARENT).
// Without any a Backend sees the address of the proxy.
const (
	ProxyV1     ClientAddress = "proxy-v1"
	ProxyV2     ClientAddress = "proxy-v2"
	Transparent ClientAddress = "transparent"
)

// HasHeader reports whether a Backend expects a PROXY header before what the
// client sends.
func (a ClientAddress) HasHeader() bool { return a == ProxyV1 || a == ProxyV2 }

// clientAddresses are in the order in which an error names them.
var clientAddresses = []ClientAddress{ProxyV1, ProxyV2, Transparent}

// A Path is the way of a connection that could do without the proxy.
type Path string

// The paths.
const (
	PathDirect Path = "direct" // from the program to the Backend; the default
	PathProxy  Path = "proxy"  // through the proxy, which sees every byte
)

// Removed is what becomes of connections to a Backend whose endpoint is no more.
// One that is not ready or terminates is there yet.
type Removed string

// The ways.
const (
	RemovedKeep  Removed = "keep"  // they last until somebody ends them, as in Kubernetes; the default
	RemovedClose Removed = "close" // both ends read what was sent, and that the other one has ended
	RemovedReset Removed = "reset"
)

// removedWays are in the order in which an error names them.
var removedWays = []Removed{RemovedClose, RemovedKeep, RemovedReset}

// maxWeight keeps the cycle of a weighted round robin short.
const maxWeight = 100

// setBalancing gives a Frontend what its Service says of balancing. What is not
// valid counts for nothing: a hand in etcd may have written it.
func setBalancing(f *Frontend, svc *corev1.Service) {
	f.Policy = Policy(svc.Annotations[AnnotationBalancer])
	if !slices.Contains(policies, f.Policy) {
		f.Policy = RoundRobin
	}
	if a := ClientAddress(svc.Annotations[AnnotationClientAddress]); f.Protocol == corev1.ProtocolTCP && slices.Contains(clientAddresses, a) {
		f.ClientAddress = a
	}
	f.Proxied = f.ClientAddress.HasHeader() || Path(svc.Annotations[AnnotationPath]) == PathProxy
	if r := Removed(svc.Annotations[AnnotationRemovedBackend]); f.Protocol == corev1.ProtocolTCP && slices.Contains(removedWays, r) && r != RemovedKeep {
		f.Removed = r
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
			seconds = deref(c.ClientIP.TimeoutSeconds, seconds)
		}
		f.Affinity = time.Duration(seconds) * time.Second
	}
}

// setUnused notes those of a Service's endpoints that are neither Backends nor
// Draining, where it matters whether they are there.
func (f *Frontend) setUnused(endpoints []endpoint) {
	if f.Removed == "" {
		return
	}
	for _, e := range endpoints {
		if !f.Keeps(e.Address) {
			f.Unused = append(f.Unused, e.Address)
		}
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
	if p, ok := svc.Annotations[AnnotationPath]; ok && Path(p) != PathDirect && Path(p) != PathProxy {
		errs = append(errs, field.NotSupported(path.Key(AnnotationPath), Path(p), []Path{PathDirect, PathProxy}))
	}
	if r, ok := svc.Annotations[AnnotationRemovedBackend]; ok && !slices.Contains(removedWays, Removed(r)) {
		errs = append(errs, field.NotSupported(path.Key(AnnotationRemovedBackend), Removed(r), removedWays))
	}
	value, ok := svc.Annotations[AnnotationClientAddress]
	if !ok {
		return errs
	}
	at := path.Key(AnnotationClientAddress)
	switch a := ClientAddress(value); {
	case !slices.Contains(clientAddresses, a):
		errs = append(errs, field.NotSupported(at, a, clientAddresses))
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
