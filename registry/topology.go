package registry

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// An endpoint is a Backend and what its slice says of it.
type endpoint struct {
	Backend
	slice                       string // its name
	ready, serving, terminating bool

	zones []discoveryv1.ForZone // for which it is meant
	nodes []discoveryv1.ForNode
}

// chooseBackends splits endpoints as kube-proxy does. The ready ones are used;
// when there is none, those that terminate and still serve (KEP-1669). With
// localOnly that is asked of the endpoints on this node alone; otherwise hints
// narrow the ready ones down. What serves and is not used drains: neither a
// policy nor a hint ends a flow.
func (tx *transaction) chooseBackends(endpoints []endpoint, localOnly bool) (backends, draining []Backend) {
	near := func(e endpoint) bool { return e.Node != "" && e.Node == tx.local.Node }
	use, fallBack := near, near
	if !localOnly {
		use = nearest(endpoints, tx.local.Node, tx.zoneOf(tx.local.Node))
		fallBack = isAnywhere
	}
	hasReady := slices.ContainsFunc(endpoints, func(e endpoint) bool { return e.ready && use(e) })
	for _, e := range endpoints {
		j := e.judge(use, fallBack, hasReady, localOnly)
		tx.trace.judged(e, j)
		switch j {
		case isUsed, isLast:
			backends = append(backends, e.Backend)
		case isDraining, elsewhere, hintedAway:
			draining = append(draining, e.Backend)
		}
	}
	return backends, draining
}

// nearest returns which ready endpoints the hints leave for a node in a zone:
// those for the node, else those for the zone, else all. A kind of hint counts
// when every ready endpoint has one, and one of them is for here.
func nearest(endpoints []endpoint, node, zone string) func(endpoint) bool {
	forNode := func(e endpoint) bool {
		return slices.ContainsFunc(e.nodes, func(n discoveryv1.ForNode) bool { return n.Name == node })
	}
	forZone := func(e endpoint) bool {
		return slices.ContainsFunc(e.zones, func(z discoveryv1.ForZone) bool { return z.Name == zone })
	}
	hasNodes, hasZones := true, true
	for _, e := range endpoints {
		if e.ready {
			hasNodes = hasNodes && len(e.nodes) > 0
			hasZones = hasZones && len(e.zones) > 0
		}
	}
	readyAnd := func(is func(endpoint) bool) func(endpoint) bool {
		return func(e endpoint) bool { return e.ready && is(e) }
	}
	switch {
	case hasNodes && slices.ContainsFunc(endpoints, readyAnd(forNode)):
		return forNode
	case hasZones && slices.ContainsFunc(endpoints, readyAnd(forZone)):
		return forZone
	}
	return isAnywhere
}

func isAnywhere(endpoint) bool { return true }

// addHints writes into the endpoints of svc for whom they are meant, where its
// trafficDistribution asks for that. The annotation topology-mode is about
// shares of CPUs, which are not known here; it comes first, as in Kubernetes,
// and so there are none.
func addHints(svc *corev1.Service, endpoints []discoveryv1.Endpoint) {
	sameNode := false
	switch deref(svc.Spec.TrafficDistribution, "") {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		sameNode = true
	case corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferClose:
	default:
		return
	}
	if wantsTopology(svc) {
		return
	}
	for i := range endpoints {
		e := &endpoints[i]
		if !deref(e.Conditions.Ready, false) {
			continue
		}
		var hints discoveryv1.EndpointHints
		if e.Zone != nil {
			hints.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
		}
		if e.NodeName != nil && sameNode {
			hints.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
		if hints.ForZones != nil || hints.ForNodes != nil {
			e.Hints = &hints
		}
	}
}

// wantsTopology reports whether svc asks for shares by zone.
func wantsTopology(svc *corev1.Service) bool {
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// LocalEndpoints returns how many ready endpoints a Service has on a node, each
// address once.
func (s *Snapshot) LocalEndpoints(namespace, service, node string) int {
	found := make(map[string]bool)
	for slice := range s.EndpointSlices(namespace, service) {
		if unproxied(slice) || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if deref(e.Conditions.Ready, true) && deref(e.NodeName, "") == node && len(e.Addresses) > 0 {
				found[e.Addresses[0]] = true
			}
		}
	}
	return len(found)
}
