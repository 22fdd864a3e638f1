package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// A page of a site may have its site's name point at an address of this
// machine, and then talk to what listens there as if it were the site itself:
// the browser compares names, not addresses (DNS rebinding). It is usher that
// makes Services reachable at theirs, without a password, so a name that is not
// ours does not get to have one. Addresses that are not Services' are let
// through: people rely on names for 127.0.0.1, and a proxy in front of it
// cannot tell who is behind.

// rebindSilence is how long nothing is logged after an address was taken out: a
// page tries again and again.
const rebindSilence = 10 * time.Second

// A rebindFilter takes the addresses of Services out of what upstreams say.
type rebindFilter struct {
	isService func(netip.Addr) bool
	domains   []string // canonical: these, and what is below them, may have any
	logged    atomic.Int64
}

func newRebindFilter(o Options) *rebindFilter {
	f := &rebindFilter{isService: o.IsService}
	if f.isService == nil {
		f.isService = func(netip.Addr) bool { return false }
	}
	for _, d := range o.RebindDomains {
		f.domains = append(f.domains, dns.CanonicalName(d))
	}
	return f
}

// clean takes the addresses of Services out of theirs, an answer about name
// that is the caller's own. It returns the first of them.
func (f *rebindFilter) clean(name string, theirs *dns.Msg) (first netip.Addr) {
	for _, d := range f.domains {
		if dns.IsSubDomain(d, name) {
			return netip.Addr{}
		}
	}
	take := func(rrs []dns.RR) []dns.RR {
		return slices.DeleteFunc(rrs, func(rr dns.RR) bool {
			addr, found := f.find(rr)
			if found && !first.IsValid() {
				first = addr
			}
			return found
		})
	}
	theirs.Answer, theirs.Extra = take(theirs.Answer), take(theirs.Extra)
	return first
}

// find returns the address of a Service that a record has.
func (f *rebindFilter) find(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		return f.service(rr.A)
	case *dns.AAAA:
		return f.service(rr.AAAA)
	case *dns.HTTPS:
		return f.findHint(rr.Value)
	case *dns.SVCB:
		return f.findHint(rr.Value)
	}
	return netip.Addr{}, false
}

// findHint returns the address of a Service that is in a hint (RFC 9460 7.3).
func (f *rebindFilter) findHint(values []dns.SVCBKeyValue) (netip.Addr, bool) {
	for _, v := range values {
		if key := v.Key(); key != dns.SVCB_IPV4HINT && key != dns.SVCB_IPV6HINT {
			continue
		}
		for text := range strings.SplitSeq(v.String(), ",") {
			if addr, err := netip.ParseAddr(text); err == nil {
				if addr, ok := f.service(addr.AsSlice()); ok {
					return addr, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

// service reports whether an address is a Service's. One that is written as
// IPv6 leads to the same place.
func (f *rebindFilter) service(raw []byte) (netip.Addr, bool) {
	addr, _ := netip.AddrFromSlice(raw)
	addr = addr.Unmap()
	return addr, f.isService(addr)
}

// loud reports whether to log that an address was taken out.
func (f *rebindFilter) loud() bool {
	now := time.Now().UnixNano()
	return now-f.logged.Swap(now) > int64(rebindSilence)
}
