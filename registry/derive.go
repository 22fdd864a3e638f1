package registry

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hashicorp/go-memdb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// A transaction collects the writes of one revision and what follows from
// them. Only the Services that a write concerns are derived anew, so that its
// cost does not grow with the number of Services.
type transaction struct {
	revision int64
	anew     bool // the revision is of another history than the present state
	local    Local
	txn      *memdb.Txn
	dirty    map[types.NamespacedName]bool // Services to derive anew
	trace    *tracer                       // nil but for Snapshot.Explain
}

// write puts the new state of one object and marks the Services it concerns.
func (tx *transaction) write(w Write) {
	table := w.Key.Kind.Resource
	was, _ := first(tx.txn, table, byID, objectID(w.Key.Namespace, w.Key.Name)).(Object)
	if was != nil {
		tx.mark(was)
		if w.Object == nil {
			must(tx.txn.Delete(table, was))
		}
	}
	if w.Object != nil {
		tx.mark(w.Object)
		must(tx.txn.Insert(table, w.Object))
	}
	if w.Key.Kind == Nodes {
		tx.markNode(was, w.Object)
	}
}

// same reports whether two states of an object are one. Within a history their
// resourceVersions tell; another one may have the same for something else.
func (tx *transaction) same(a, b Object) bool {
	if tx.anew {
		return apiequality.Semantic.DeepEqual(a, b)
	}
	return a.GetResourceVersion() == b.GetResourceVersion()
}

// mark notes the Services whose endpoints or Frontends depend on obj.
func (tx *transaction) mark(obj Object) {
	if tx.dirty == nil {
		tx.dirty = make(map[types.NamespacedName]bool)
	}
	switch obj := obj.(type) {
	case *corev1.Service:
		tx.dirty[ServiceName(obj)] = true
	case *corev1.Endpoints:
		tx.dirty[types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}] = true
	case *discoveryv1.EndpointSlice:
		if svc := obj.Labels[discoveryv1.LabelServiceName]; svc != "" {
			tx.dirty[types.NamespacedName{Namespace: obj.Namespace, Name: svc}] = true
		}
	case *corev1.Pod:
		for _, p := range labelPairs(obj) {
			for svc := range all[*corev1.Service](tx.txn, Services.Resource, bySelector, p) {
				if labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(obj.Labels)) {
					tx.dirty[ServiceName(svc)] = true
				}
			}
		}
	}
}

// derive brings the derived EndpointSlices and the Frontends of every marked
// Service up to date. What did not change is not written.
func (tx *transaction) derive() {
	byName := func(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) }
	for _, name := range slices.SortedFunc(maps.Keys(tx.dirty), byName) {
		svc, _ := first(tx.txn, Services.Resource, byID, objectID(name.Namespace, name.Name)).(*corev1.Service)
		tx.putSlices(name, tx.wantSlices(svc))
		tx.putFrontends(name, tx.wantFrontends(svc))
	}
}

// putSlices replaces the derived EndpointSlices of a Service.
func (tx *transaction) putSlices(service types.NamespacedName, want []*discoveryv1.EndpointSlice) {
	old := make(map[string]*discoveryv1.EndpointSlice)
	for s := range all[*discoveryv1.EndpointSlice](tx.txn, EndpointSlices.Resource, byService, objectID(service.Namespace, service.Name)) {
		if IsDerived(s) {
			old[s.Name] = s
		}
	}
	for _, s := range want {
		was := old[s.Name]
		delete(old, s.Name)
		s.Generation = 1
		if was != nil {
			s.ResourceVersion, s.Generation = was.ResourceVersion, was.Generation
			if apiequality.Semantic.DeepEqual(was, s) {
				continue
			}
			s.Generation++
		}
		s.ResourceVersion = strconv.FormatInt(tx.revision, 10)
		must(tx.txn.Insert(EndpointSlices.Resource, s))
	}
	for _, s := range old {
		must(tx.txn.Delete(EndpointSlices.Resource, s))
	}
}

// putFrontends replaces the Frontends of a Service.
func (tx *transaction) putFrontends(service types.NamespacedName, want []*Frontend) {
	old := make(map[string]*Frontend)
	for f := range all[*Frontend](tx.txn, frontendTable, byService, service.String()) {
		old[f.id()] = f
	}
	for _, f := range want {
		was := old[f.id()]
		delete(old, f.id())
		if was == nil || !was.Equal(f) {
			must(tx.txn.Insert(frontendTable, f))
		}
	}
	for _, f := range old {
		must(tx.txn.Delete(frontendTable, f))
	}
}

// Labels by which a Service opts out of the proxy, as kube-proxy reads them.
const (
	LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless         = "service.kubernetes.io/headless"
)

// unproxied reports whether obj, a Service or an EndpointSlice, is none of the
// proxy's business.
func unproxied(obj Object) bool { return optOut(obj) != "" }

// wantFrontends returns the Frontends of svc: one for each of its addresses
// and TCP or UDP ports.
func (tx *transaction) wantFrontends(svc *corev1.Service) []*Frontend {
	if svc == nil {
		return nil
	}
	var frontends []*Frontend
	for _, port := range svc.Spec.Ports {
		frontends = append(frontends, tx.portFrontends(svc, port)...)
	}
	return frontends
}

// portFrontends returns the Frontends of one port of svc.
func (tx *transaction) portFrontends(svc *corev1.Service, port corev1.ServicePort) []*Frontend {
	if why := notServed(svc, port); why != "" {
		tx.trace.refuse(why)
		return nil
	}
	var frontends []*Frontend
	endpoints := make(map[bool][]endpoint) // by whether IPv4
	for _, p := range tx.places(svc, port) {
		is4 := p.addr.Is4()
		if _, ok := endpoints[is4]; !ok {
			endpoints[is4] = tx.endpoints(svc, port, is4)
		}
		f := &Frontend{
			FrontendKey: FrontendKey{p.addr, p.port, port.Protocol}, Reach: p.reach,
			Service: ServiceName(svc), PortName: port.Name,
		}
		setBalancing(f, svc)
		tx.trace.frontend(f)
		f.Backends, f.Draining = tx.chooseBackends(endpoints[is4], isLocalOnly(svc, p.reach))
		f.setUnused(endpoints[is4])
		frontends = append(frontends, f)
	}
	return frontends
}

func hasLabel(obj Object, label string) bool {
	_, ok := obj.GetLabels()[label]
	return ok
}

// endpoints returns the endpoints of one port of svc in one address family,
// from all of its slices, each address and port once.
func (tx *transaction) endpoints(svc *corev1.Service, port corev1.ServicePort, is4 bool) []endpoint {
	found := make(map[netip.AddrPort]endpoint)
	for slice := range all[*discoveryv1.EndpointSlice](tx.txn, EndpointSlices.Resource, byService, objectID(svc.Namespace, svc.Name)) {
		if (slice.AddressType == discoveryv1.AddressTypeIPv4) != is4 || slice.AddressType == discoveryv1.AddressTypeFQDN {
			tx.trace.otherFamily(slice, svc, is4)
			continue
		}
		if unproxied(slice) && !isHeadless(svc) { // whose slices all have the label
			tx.trace.optedOut(slice, is4)
			continue
		}
		number := slicePort(slice, port)
		if number == 0 {
			tx.trace.noPort(slice, svc, port, is4)
			continue
		}
		for i := range slice.Endpoints {
			e, ok := readEndpoint(&slice.Endpoints[i], number)
			if !ok {
				tx.trace.endpoint(slice, &slice.Endpoints[i], is4, "its address cannot be read")
				continue
			}
			e.Weight = tx.weight(slice, &e)
			e.slice = slice.Name
			was, dup := found[e.Address]
			// Where two slices disagree, the endpoint that is not terminating wins.
			if dup && (!was.terminating || e.terminating) {
				tx.trace.duplicate(e, was)
				continue
			}
			if dup {
				tx.trace.duplicate(was, e)
			}
			found[e.Address] = e
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b endpoint) int { return a.Address.Compare(b.Address) })
}

// slicePort returns the port number under which slice serves a port of its
// Service, or 0: ports are matched by name and protocol.
func slicePort(slice *discoveryv1.EndpointSlice, port corev1.ServicePort) uint16 {
	for _, p := range slice.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		if deref(p.Name, "") == port.Name && deref(p.Protocol, corev1.ProtocolTCP) == port.Protocol {
			return uint16(*p.Port)
		}
	}
	return 0
}

// readEndpoint reads an endpoint of a slice. Only its first address counts.
func readEndpoint(e *discoveryv1.Endpoint, port uint16) (endpoint, bool) {
	if len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	addr, ok := parseAddr(e.Addresses[0])
	if !ok {
		return endpoint{}, false
	}
	out := endpoint{
		Backend:     Backend{Address: netip.AddrPortFrom(addr, port), Node: deref(e.NodeName, "")},
		ready:       deref(e.Conditions.Ready, true),
		serving:     deref(e.Conditions.Serving, true), // as kube-proxy reads it, whatever ready says
		terminating: deref(e.Conditions.Terminating, false),
	}
	out.Pod = podOf(e)
	if e.Hints != nil {
		out.zones, out.nodes = e.Hints.ForZones, e.Hints.ForNodes
	}
	return out, true
}

// podOf returns the name of the Pod behind an endpoint, or "".
func podOf(e *discoveryv1.Endpoint) string {
	if e.TargetRef != nil && e.TargetRef.Kind == Pods.Kind {
		return e.TargetRef.Name
	}
	return ""
}

func deref[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}

// must panics on an error of memdb: its tables and rows are all ours.
func must(err error) {
	if err != nil {
		panic("registry: " + err.Error())
	}
}
