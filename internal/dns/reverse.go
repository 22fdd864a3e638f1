package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// reverseNames says how the reverse names of an address family are written:
// one label for each step of bits.
type reverseNames struct {
	suffix string
	bits   int // of one label
	labels int // of a whole address
	base   int // of the number in a label
}

var (
	v4Names = reverseNames{"in-addr.arpa.", 8, 4, 10}
	v6Names = reverseNames{"ip6.arpa.", 4, 32, 16}
)

// parse reads labels from the right. It returns the prefix that they spell,
// and whether labels are left over that are no part of an address.
func (f reverseNames) parse(labels []string) (netip.Prefix, bool) {
	raw := make([]byte, f.labels*f.bits/8)
	n := 0
	for ; n < len(labels) && n < f.labels; n++ {
		label := labels[len(labels)-1-n]
		v, err := strconv.ParseUint(label, f.base, f.bits)
		if err != nil || strconv.FormatUint(v, f.base) != label { // "01", "+1"
			break
		}
		bit := n * f.bits
		raw[bit/8] |= byte(v) << (8 - f.bits - bit%8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(addr, n*f.bits), n < len(labels)
}

// zoneOf returns how many bits of a reverse name make the reverse zone of r:
// whole labels, so that nothing outside r is in it.
func (f reverseNames) zoneOf(r netip.Prefix) int {
	return (r.Bits() + f.bits - 1) / f.bits * f.bits
}

// reverse looks up a name below in-addr.arpa or ip6.arpa. It returns false for
// one that others may know.
func (q *query) reverse(labels []string, f reverseNames) (result, bool) {
	prefix, leftover := f.parse(labels)
	apexBits, ours := q.reverseZone(prefix, f)
	whole := prefix.IsSingleIP() && !leftover
	var r result
	if whole {
		r = q.pointers(prefix.Addr())
		if !ours {
			// An address of ours in a range that is not: for this name alone
			// we are the zone.
			_, inView := q.view.clusterIP(prefix.Addr())
			apexBits, ours = prefix.Bits(), inView || r.exists
		}
	}
	if !ours {
		return result{}, false
	}
	apexLabels := labels[len(labels)-apexBits/f.bits:]
	apex := strings.Join(append(slices.Clone(apexLabels), f.suffix), ".")
	switch {
	case whole, leftover:
	case prefix.Bits() == apexBits:
		r = q.apex(apex)
	default:
		r.exists = true // something may be below
	}
	r.apex = apex
	return r, true
}

// reverseZone returns the length of the reverse zone of ours that prefix is in.
func (q *query) reverseZone(prefix netip.Prefix, f reverseNames) (bits int, ok bool) {
	for _, r := range q.ranges {
		if bits := f.zoneOf(r); r.Contains(prefix.Addr()) && prefix.Bits() >= bits {
			return bits, true
		}
	}
	return 0, false
}

// pointers looks up the names of one address: that of the Service whose
// ClusterIP it is, or of which it is the twin in the View, or those of the
// endpoints that have it.
func (q *query) pointers(addr netip.Addr) result {
	var names []string
	clusterIP, ok := q.view.clusterIP(addr)
	if !ok {
		clusterIP = addr
	}
	switch svc := q.snap.ServiceByIP(clusterIP); {
	case svc != nil:
		names = []string{q.serviceDomain(svc.Namespace, svc.Name)}
	case addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || addr == netip.IPv6Loopback():
		names = []string{"localhost."}
	default:
		names = q.endpointNames(addr)
	}
	r := result{exists: len(names) > 0, why: "no Service and no ready endpoint has the address"}
	for _, name := range names {
		if q.qtype == dns.TypePTR {
			r.records = append(r.records, &dns.PTR{Hdr: q.header(dns.TypePTR), Ptr: name})
		}
	}
	return r
}

// endpointNames returns the names of the ready endpoints with that address, one
// for each Service they serve.
func (q *query) endpointNames(addr netip.Addr) []string {
	var names []string
	for slice := range q.snap.EndpointSlicesByIP(addr) {
		service := slice.Labels[discoveryv1.LabelServiceName]
		if (slice.AddressType == discoveryv1.AddressTypeIPv4) != addr.Is4() || service == "" {
			continue
		}
		for i := range slice.Endpoints {
			e, ok := q.readEndpoint(&slice.Endpoints[i])
			if !ok || e.address != addr {
				continue
			}
			svc := q.snap.Service(slice.Namespace, service)
			name := e.hostname + "." + q.serviceDomain(slice.Namespace, service)
			if svc != nil && svc.Spec.Type != corev1.ServiceTypeExternalName && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
