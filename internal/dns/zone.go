package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// ttl of every record, in seconds: the default of CoreDNS. Short, because the
// answer is made anew from memory each time; not 0, because that makes some
// resolvers ask twice.
const ttl = 5

// versionTTL is that of the schema's version, as in the specification: it does
// not change while we run.
const versionTTL = 28800

// schemaVersion of the Kubernetes DNS specification, told at dns-version.<domain>.
const schemaVersion = "1.1.0"

// maxChain bounds how many ExternalNames that point at each other are followed.
const maxChain = 8

// An Answer is what a query for a name of ours gets.
type Answer struct {
	Rcode             int
	Answer, Ns, Extra []dns.RR

	// Next is not "" when Answer ends with a CNAME to a name that is not ours:
	// an upstream has the rest.
	Next string

	// Service is the last that a name of the chain belongs to, or nil, and Why
	// says why there are no records where there are none.
	Service *corev1.Service
	Why     string
}

// A zone has the names that are ours: those below the cluster domain, the
// reverse names of our addresses, and localhost.
type zone struct {
	domain string   // lower case, with the final dot
	labels []string // of domain
	ranges []netip.Prefix
	pods   PodNames

	endpointPodNames bool
}

func newZone(o Options) *zone {
	domain := dns.CanonicalName(cmp.Or(o.Domain, "cluster.local"))
	z := &zone{domain: domain, labels: dns.SplitDomainName(domain), pods: o.Pods, endpointPodNames: o.EndpointPodNames}
	for _, r := range o.ServiceCIDR {
		z.ranges = append(z.ranges, r.Masked())
	}
	// RFC 6303 4.2 and 4.3: the reverse names of loopback stay on the machine.
	z.ranges = append(z.ranges, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	return z
}

// A query is one name and type put to one Snapshot, as seen from one View.
type query struct {
	*zone
	snap  *registry.Snapshot
	view  *View
	name  string // in the spelling of the question (0x20); owner of the records
	qtype uint16
}

// A result is what a zone has at one name.
type result struct {
	apex    string   // of the zone the name is in: owner of the SOA
	exists  bool     // false: NXDOMAIN
	records []dns.RR // of the type asked for; none: NODATA
	extra   []dns.RR
	alias   string // the target when the only record is a CNAME

	svc *corev1.Service // that the name belongs to, or nil
	why string          // there is nothing, if there is something to say
}

// resolve answers a question. It returns false for a name that is not ours.
func (z *zone) resolve(snap *registry.Snapshot, view *View, question dns.Question) (Answer, bool) {
	var a Answer
	q := query{zone: z, snap: snap, view: view, name: question.Name, qtype: question.Qtype}
	var seen []string
	for {
		r, ours := q.find()
		if !ours {
			if len(seen) == 0 {
				return Answer{}, false
			}
			a.Next = q.name
			return a, true
		}
		a.Answer = join(a.Answer, r.records)
		a.Extra = join(a.Extra, r.extra)
		a.Service, a.Why = cmp.Or(r.svc, a.Service), ""
		if r.alias == "" || q.qtype == dns.TypeCNAME || q.qtype == dns.TypeANY {
			q.conclude(&a, r)
			return a, true
		}
		seen = append(seen, dns.CanonicalName(q.name))
		if len(seen) == maxChain || slices.Contains(seen, dns.CanonicalName(r.alias)) {
			return a, true // a loop: the chain as far as it goes
		}
		q.name = r.alias
	}
}

// conclude sets what the last name of a chain says about the whole answer
// (RFC 6604), with the SOA that a negative answer needs (RFC 2308).
func (q *query) conclude(a *Answer, r result) {
	switch {
	case !r.exists:
		a.Rcode, a.Why = dns.RcodeNameError, cmp.Or(r.why, "nothing has this name")
	case len(r.records) > 0:
		return
	case q.qtype == dns.TypeANY:
		a.Answer = append(a.Answer, minimal(q.name))
		return
	}
	if r.exists {
		a.Why = "the name exists, and has no record of this type"
	}
	a.Ns = append(a.Ns, q.soa(r.apex, r.apex))
}

// minimal is the answer to ANY: something true, and small (RFC 8482 4.2).
func minimal(name string) dns.RR {
	return &dns.HINFO{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: ttl}, Cpu: "RFC8482"}
}

// The zones that are ours whatever the configuration, as labels.
var (
	localhostLabels = []string{"localhost"}
	v4Labels        = []string{"in-addr", "arpa"}
	v6Labels        = []string{"ip6", "arpa"}
)

// find looks a name up wherever it belongs.
func (q *query) find() (result, bool) {
	var room [8]string // for nearly every name
	labels := appendLabels(room[:0], dns.CanonicalName(q.name))
	if rest, ok := below(labels, q.labels); ok {
		r := q.cluster(rest)
		r.apex = q.domain
		return r, true
	}
	if _, ok := below(labels, localhostLabels); ok {
		return q.localhost(), true
	}
	if rest, ok := below(labels, v4Labels); ok {
		return q.reverse(rest, v4Names)
	}
	if rest, ok := below(labels, v6Labels); ok {
		return q.reverse(rest, v6Names)
	}
	return result{}, false
}

// appendLabels is dns.SplitDomainName into a slice of the caller's. A label
// keeps its escapes.
func appendLabels(labels []string, name string) []string {
	for off := 0; off < len(name) && name != "."; {
		next, end := dns.NextLabel(name, off)
		labels = append(labels, strings.TrimSuffix(name[off:next], "."))
		if end {
			break
		}
		off = next
	}
	return labels
}

// join is append without a copy where there is nothing to append to.
func join(a, b []dns.RR) []dns.RR {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// below returns the labels that name has in front of apex.
func below(name, apex []string) ([]string, bool) {
	n := len(name) - len(apex)
	if n < 0 || !slices.Equal(name[n:], apex) {
		return nil, false
	}
	return name[:n], true
}

// cluster looks up a name of the cluster domain, given the labels before it.
// It reads them from the right: each case is one branch of the tree.
func (q *query) cluster(labels []string) result {
	if len(labels) == 0 {
		return q.apex(q.domain)
	}
	rest := labels[:len(labels)-1]
	switch labels[len(labels)-1] {
	case "svc":
		return q.services(rest)
	case "pod":
		return q.podNames(rest)
	case "dns": // the nameserver that the SOA names
		switch {
		case len(rest) == 0:
			return result{exists: true}
		case len(rest) == 1 && rest[0] == "ns":
			return q.addresses(q.view.Addr.Addr())
		}
	case "dns-version":
		if len(rest) == 0 {
			txt := &dns.TXT{Hdr: q.header(dns.TypeTXT), Txt: []string{schemaVersion}}
			txt.Hdr.Ttl = versionTTL
			return q.only(txt)
		}
	}
	return result{}
}

// apex has the SOA and NS of a zone.
func (q *query) apex(apex string) result {
	switch q.qtype {
	case dns.TypeSOA:
		return q.only(q.soa(q.name, apex))
	case dns.TypeNS:
		ns := "ns.dns." + q.domain
		r := q.only(&dns.NS{Hdr: q.header(dns.TypeNS), Ns: ns})
		if addr := q.view.Addr.Addr(); addr.IsValid() {
			r.extra = []dns.RR{addressRecord(ns, addr)}
		}
		return r
	}
	return result{exists: true}
}

// soa returns the SOA of the zone at apex, owned by owner. Its serial is the
// revision of the Snapshot, its last number how long "no" may be cached.
func (q *query) soa(owner, apex string) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + q.domain, Mbox: "hostmaster." + q.domain,
		Serial: uint32(q.snap.Revision()), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

// podNames looks up a-b-c-d.<namespace>.pod.<domain>.
func (q *query) podNames(labels []string) result {
	switch len(labels) {
	case 0:
		return result{exists: true}
	case 1:
		return result{exists: q.hasNamespace(labels[0]), why: "there is no such namespace"}
	case 2:
		if addr, ok := parseDashed(labels[0]); ok && q.hasPodName(addr, labels[1]) {
			return q.addresses(addr)
		}
		return result{why: q.pods.whyNot()}
	}
	return result{why: "names of pods have two labels, the address with dashes and the namespace"}
}

// whyNot says why a Pod has no name.
func (p PodNames) whyNot() string {
	switch p {
	case PodsInsecure:
		return "it is no address with dashes, or there is no such namespace"
	case PodsVerified:
		return "no pod of the namespace has the address"
	}
	return "pods have no names (dns.pods is disabled)"
}

// hasPodName reports whether an address has a name below a namespace.
func (q *query) hasPodName(addr netip.Addr, namespace string) bool {
	switch q.pods {
	case PodsInsecure:
		return q.hasNamespace(namespace)
	case PodsVerified:
		for pod := range q.snap.PodsByIP(addr) {
			if pod.Namespace == namespace && !hasEnded(pod) {
				return true
			}
		}
	}
	return false
}

// hasEnded reports whether the address of pod may be another's by now.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// parseDashed reads an address with dashes for dots or colons.
func parseDashed(label string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil {
		return addr, true
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return addr, err == nil && addr.Zone() == ""
}

// localhost answers localhost and all below it, which must not leave the
// machine (RFC 6761 6.3).
func (q *query) localhost() result {
	r := q.addresses(netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	r.apex = "localhost."
	return r
}

// addresses is what exists at a name that has addrs.
func (q *query) addresses(addrs ...netip.Addr) result {
	r := result{exists: true}
	for _, addr := range addrs {
		if addr.IsValid() && addressType(addr) == q.qtype {
			r.records = append(r.records, addressRecord(q.name, addr))
		}
	}
	return r
}

// only is what exists at a name that has one record.
func (q *query) only(rr dns.RR) result {
	if rr.Header().Rrtype != q.qtype {
		return result{exists: true}
	}
	return result{exists: true, records: []dns.RR{rr}}
}

func (q *query) header(rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// hasNamespace reports whether a namespace exists. One that only a Service
// tells of, because nobody wrote its object, does.
func (q *query) hasNamespace(name string) bool {
	if q.snap.HasNamespace(name) {
		return true
	}
	for range q.snap.Services(name) {
		return true
	}
	return false
}

func addressType(addr netip.Addr) uint16 {
	if addr.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func addressRecord(name string, addr netip.Addr) dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: addressType(addr), Class: dns.ClassINET, Ttl: ttl}
	// The record and its address in one allocation: most answers are one such.
	if addr.Is4() {
		r := &struct {
			dns.A
			raw [4]byte
		}{dns.A{Hdr: h}, addr.As4()}
		r.A.A = r.raw[:]
		return &r.A
	}
	r := &struct {
		dns.AAAA
		raw [16]byte
	}{dns.AAAA{Hdr: h}, addr.As16()}
	r.AAAA.AAAA = r.raw[:]
	return &r.AAAA
}

// serviceDomain returns the name of a Service.
func (z *zone) serviceDomain(namespace, name string) string {
	return name + "." + namespace + ".svc." + z.domain
}
