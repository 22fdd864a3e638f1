package dns

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/registry"
)

// services looks up a name below svc.<domain>, given the labels before that:
//
//  1. <namespace>
//  2. <service>.<namespace>
//  3. <endpoint>.<service>.<namespace>, or _<protocol>.<service>.<namespace>
//  4. _<port>._<protocol>.<service>.<namespace>
func (q *query) services(labels []string) result {
	n := len(labels)
	switch n {
	case 0:
		return result{exists: true}
	case 1:
		return result{exists: q.hasNamespace(labels[0]), why: "there is no such namespace"}
	case 2, 3, 4:
	default:
		return result{why: "names of Services have at most four labels before svc"}
	}
	svc := q.snap.Service(labels[n-1], labels[n-2])
	if svc == nil {
		return result{why: "there is no such Service"}
	}
	r := q.below(svc, labels)
	r.svc = svc
	return r
}

// below looks up a name that belongs to a Service.
func (q *query) below(svc *corev1.Service, labels []string) result {
	n := len(labels)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if n > 2 {
			return result{why: "the Service is an ExternalName, which has no names below it"}
		}
		return q.externalName(svc)
	}
	switch n {
	case 2:
		if (q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA) && svc.Spec.ClusterIP != corev1.ClusterIPNone {
			return q.clusterIPs(svc) // nearly all that is ever asked
		}
		return q.service(q.target(svc))
	case 3:
		if protocol, ok := strings.CutPrefix(labels[0], "_"); ok {
			named := func(p port) bool { return p.name != "" && p.protocol == protocol }
			return result{exists: q.target(svc).hasPort(named), why: whyNoPort}
		}
		return q.endpoint(svc, labels[0])
	default:
		return q.namedPort(q.target(svc), labels[0], labels[1])
	}
}

// externalName is a CNAME, whatever type is asked for (RFC 1034 3.6.2), but for
// SRV, of which Kubernetes says there is none. An address is no name.
func (q *query) externalName(svc *corev1.Service) result {
	target := dns.Fqdn(svc.Spec.ExternalName)
	_, notAName := netip.ParseAddr(strings.TrimSuffix(target, "."))
	if _, valid := dns.IsDomainName(target); !valid || notAName == nil || target == "." {
		return result{why: "the externalName is no name"}
	}
	if q.qtype == dns.TypeSRV {
		return result{exists: true}
	}
	return result{
		exists: true, alias: target,
		records: []dns.RR{&dns.CNAME{Hdr: q.header(dns.TypeCNAME), Target: target}},
	}
}

// A target is a Service as its DNS records describe it: its ClusterIPs, or
// when it is headless its ready endpoints, ordered by address.
type target struct {
	domain    string // of the Service
	headless  bool
	addresses []netip.Addr // the ClusterIPs in the View
	ports     []port       // that go with addresses
	endpoints []endpoint
}

// A port is one that SRV records tell of.
type port struct {
	name, protocol string // lower case, as in names
	number         uint16
}

// An endpoint is one ready endpoint of a Service.
type endpoint struct {
	hostname string
	address  netip.Addr
	ports    []port
}

func (q *query) target(svc *corev1.Service) *target {
	t := &target{domain: q.serviceDomain(svc.Namespace, svc.Name)}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		t.headless = true
		t.endpoints = q.readyEndpoints(svc)
		return t
	}
	var clusterIP netip.Addr // the first: the port of a View is asked for it
	for addr := range clusterIPs(svc) {
		if !clusterIP.IsValid() {
			clusterIP = addr
		}
		if a := q.view.address(addr); a.IsValid() {
			t.addresses = append(t.addresses, a)
		}
	}
	for _, p := range svc.Spec.Ports {
		key := registry.FrontendKey{Address: clusterIP, Port: uint16(p.Port), Protocol: p.Protocol}
		t.ports = append(t.ports, port{strings.ToLower(p.Name), strings.ToLower(string(p.Protocol)), q.view.port(key)})
	}
	return t
}

// clusterIPs returns the ClusterIPs of a Service.
func clusterIPs(svc *corev1.Service) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, ip := range registry.ClusterIPs(svc) {
			if addr, err := netip.ParseAddr(ip); err == nil && !yield(addr.Unmap()) {
				return
			}
		}
	}
}

// clusterIPs is what is at the name of a Service with a ClusterIP when an
// address is asked for: what service makes of its target, without the rest.
func (q *query) clusterIPs(svc *corev1.Service) result {
	r := result{exists: true}
	for addr := range clusterIPs(svc) {
		if a := q.view.address(addr); a.IsValid() && addressType(a) == q.qtype {
			r.records = append(r.records, addressRecord(q.name, a))
		}
	}
	return r
}

// hasPort reports whether a Service has a wanted port. Those of a headless one
// are its endpoints', since clients speak to them directly.
func (t *target) hasPort(wanted func(port) bool) bool {
	return slices.ContainsFunc(t.ports, wanted) ||
		slices.ContainsFunc(t.endpoints, func(e endpoint) bool { return slices.ContainsFunc(e.ports, wanted) })
}

// service is what is at the name of the Service itself. A headless one exists
// as long as it has a ready endpoint (specification 2.4.1).
func (q *query) service(t *target) result {
	var r result
	switch {
	case q.qtype == dns.TypeSRV:
		// CoreDNS' extension: without a port in the name, all of them.
		r = q.srv(t, func(port) bool { return true })
	case t.headless:
		r = q.addresses(addressesOf(t.endpoints)...)
	default:
		r = q.addresses(t.addresses...)
	}
	r.exists = !t.headless || len(t.endpoints) > 0
	r.why = "the Service is headless, and none of its endpoints is ready"
	return r
}

// endpoint is what is at the name of one endpoint: several may share it. The
// name exists below a Service with a ClusterIP too.
func (q *query) endpoint(svc *corev1.Service, hostname string) result {
	t := &target{domain: q.serviceDomain(svc.Namespace, svc.Name), headless: true}
	for _, e := range q.readyEndpoints(svc) {
		if e.hostname == hostname {
			t.endpoints = append(t.endpoints, e)
		}
	}
	r := q.service(t)
	r.why = "no ready endpoint of the Service has this hostname"
	return r
}

const whyNoPort = "the Service has no such port with a name"

// namedPort is what is at _<port>._<protocol> of the Service. A port without a
// name has no such name.
func (q *query) namedPort(t *target, portLabel, protocolLabel string) result {
	name, ok1 := strings.CutPrefix(portLabel, "_")
	protocol, ok2 := strings.CutPrefix(protocolLabel, "_")
	if !ok1 || !ok2 || name == "" {
		return result{why: whyNoPort}
	}
	wanted := func(p port) bool { return p.name == name && p.protocol == protocol }
	var r result
	if q.qtype == dns.TypeSRV {
		r = q.srv(t, wanted)
	}
	r.exists, r.why = t.hasPort(wanted), whyNoPort
	return r
}

// srv returns the SRV records of the wanted ports with the addresses of their
// targets, each once. All are as good as each other; the weight is CoreDNS', a
// share of 100 for each pair of port and address.
func (q *query) srv(t *target, wanted func(port) bool) result {
	s := srvSet{header: q.header(dns.TypeSRV), seen: make(map[srvKey]bool)}
	for _, p := range t.ports {
		if wanted(p) {
			s.add(p.number, t.domain, t.addresses...)
		}
	}
	for _, e := range t.endpoints {
		for _, p := range e.ports {
			if wanted(p) {
				s.add(p.number, e.hostname+"."+t.domain, e.address)
			}
		}
	}
	for _, rr := range s.records {
		rr.(*dns.SRV).Weight = uint16(max(1, 100/s.pairs))
	}
	return result{records: s.records, extra: s.extra}
}

// A srvSet collects SRV records and the addresses of their targets.
type srvSet struct {
	header         dns.RR_Header
	records, extra []dns.RR
	pairs          int // of port and address
	seen           map[srvKey]bool
}

// A srvKey is one port of a target, or one address.
type srvKey struct {
	domain  string
	port    uint16
	address netip.Addr
}

func (s *srvSet) add(number uint16, domain string, addrs ...netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	s.pairs += len(addrs)
	if key := (srvKey{domain: domain, port: number}); !s.seen[key] {
		s.seen[key] = true
		s.records = append(s.records, &dns.SRV{Hdr: s.header, Port: number, Target: domain})
	}
	for _, addr := range addrs {
		if key := (srvKey{domain: domain, address: addr}); !s.seen[key] {
			s.seen[key] = true
			s.extra = append(s.extra, addressRecord(domain, addr))
		}
	}
}

// addressesOf returns the addresses of endpoints, each once.
func addressesOf(endpoints []endpoint) []netip.Addr {
	var addrs []netip.Addr
	for _, e := range endpoints {
		addrs = append(addrs, e.address)
	}
	return slices.Compact(addrs) // endpoints are ordered by address
}

// readyEndpoints returns the ready endpoints of svc out of all its slices. An
// address with ports in several slices is there several times.
func (q *query) readyEndpoints(svc *corev1.Service) []endpoint {
	var list []endpoint
	for slice := range q.snap.EndpointSlices(svc.Namespace, svc.Name) {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		ports := slicePorts(slice)
		for i := range slice.Endpoints {
			if e, ok := q.readEndpoint(&slice.Endpoints[i]); ok {
				e.ports = ports
				list = append(list, e)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b endpoint) int { return a.address.Compare(b.address) })
	return list
}

// readEndpoint reads an endpoint of a slice, and returns false when it is not
// ready or unreadable. Only its first address counts.
func (z *zone) readEndpoint(e *discoveryv1.Endpoint) (endpoint, bool) {
	if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || addr.Zone() != "" {
		return endpoint{}, false
	}
	addr = addr.Unmap()
	return endpoint{hostname: z.hostname(e, addr), address: addr}, true
}

// hostname returns the label of an endpoint below its Service: its hostname,
// its Pod's name where that is wanted and fits, or its address.
func (z *zone) hostname(e *discoveryv1.Endpoint, addr netip.Addr) string {
	switch {
	case e.Hostname != nil && *e.Hostname != "":
		return strings.ToLower(*e.Hostname)
	case z.endpointPodNames && e.TargetRef != nil && e.TargetRef.Kind == registry.Pods.Kind && isLabel(e.TargetRef.Name):
		return e.TargetRef.Name
	}
	return dashed(addr)
}

// isLabel reports whether the name of a Pod, which may have dots, is a label.
func isLabel(name string) bool {
	return name != "" && len(name) < 64 && !strings.Contains(name, ".")
}

// dashed returns the name of an endpoint that has none of its own, as CoreDNS
// makes it: its address with dashes. A label cannot end with one.
func dashed(addr netip.Addr) string {
	name := strings.NewReplacer(".", "-", ":", "-").Replace(addr.String())
	if strings.HasSuffix(name, "-") {
		name += "0"
	}
	return name
}

func slicePorts(slice *discoveryv1.EndpointSlice) []port {
	var ports []port
	for _, p := range slice.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		out := port{protocol: "tcp", number: uint16(*p.Port)}
		if p.Name != nil {
			out.name = strings.ToLower(*p.Name)
		}
		if p.Protocol != nil {
			out.protocol = strings.ToLower(string(cmp.Or(*p.Protocol, corev1.ProtocolTCP)))
		}
		ports = append(ports, out)
	}
	return ports
}
