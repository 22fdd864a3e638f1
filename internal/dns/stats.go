package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Stats are the counters of a Server since it was made.
type Stats struct {
	Queries []QueryCount // that are not 0, ordered by type and rcode

	Requests []RequestCount // the same queries by how they came
	Took     Durations      // by those, from when they were read until the answer was ready

	Forwarded       uint64 // queries that an upstream answered
	ForwardFailures uint64 // queries that none answered in time
	ForwardRefused  uint64 // queries over the bound of those forwarded at once

	Limited uint64 // answers that were cut because their client was sent too much

	Autopaths uint64 // answers found along the search list of a Pod

	Cache CacheStats
}

// CacheStats tell of the answers of upstreams that are remembered.
type CacheStats struct {
	Answers, Denials     int    // that are remembered now
	Hits, Denied, Misses uint64 // queries that got an answer, a denial, nothing
}

// A QueryCount says how many queries of a type were answered with a code.
type QueryCount struct {
	Type  string // "A"; "other" for the rare ones
	Rcode string // "NOERROR"
	Count uint64
}

// A RequestCount says how many queries of a type came in a way.
type RequestCount struct {
	Type  string // as in QueryCount
	TCP   bool
	IPv6  bool
	Count uint64
}

// Durations are a histogram.
type Durations struct {
	Sum   time.Duration
	Count uint64
	Below [durationBounds]uint64 // how many took no longer than DurationBound of the index
}

// durationBounds is how many bounds CoreDNS' histograms have.
const durationBounds = 16

// DurationBound returns a bound of Durations: 0.25 ms, and twice as much each
// time, as CoreDNS has them.
func DurationBound(i int) time.Duration { return 250 * time.Microsecond << i }

// countedTypes are told apart. Their number is bounded, since a client chooses
// the type. The rest is counted as the first.
var countedTypes = [...]uint16{
	dns.TypeNone, dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeCNAME, dns.TypeHTTPS,
	dns.TypeMX, dns.TypeNS, dns.TypePTR, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT,
}

// countedRcodes are those below: all that is ever sent.
const countedRcodes = dns.RcodeBadVers + 1

type counters struct {
	queries                   [len(countedTypes)][countedRcodes]atomic.Uint64
	answered, failed, refused atomic.Uint64
	limited, autopaths        atomic.Uint64

	requests  [len(countedTypes)][2][2]atomic.Uint64 // by type, TCP and IPv6
	durations [durationBounds + 1]atomic.Uint64      // in each; the last is of what is longer
	sum       atomic.Int64                           // of all durations, in ns
}

func (c *counters) count(qtype uint16, rcode int) {
	t := max(0, slices.Index(countedTypes[:], qtype))
	if rcode < 0 || rcode >= countedRcodes {
		rcode = dns.RcodeServerFailure
	}
	c.queries[t][rcode].Add(1)
}

// took notes how a query came, and how long its answer took.
func (c *counters) took(qtype uint16, from netip.Addr, udp bool, took time.Duration) {
	t := max(0, slices.Index(countedTypes[:], qtype))
	tcp, ipv6 := 0, 0
	if !udp {
		tcp = 1
	}
	if from.Unmap().Is6() {
		ipv6 = 1
	}
	c.requests[t][tcp][ipv6].Add(1)
	i := 0
	for i < durationBounds && took > DurationBound(i) {
		i++
	}
	c.durations[i].Add(1)
	c.sum.Add(int64(took))
}

// forwarded counts a query that was to be forwarded.
func (c *counters) forwarded(err error) {
	switch err {
	case nil:
		c.answered.Add(1)
	case errNoUpstream: // nothing was tried
	case errBusy:
		c.refused.Add(1)
	default:
		c.failed.Add(1)
	}
}

func (c *counters) snapshot() Stats {
	s := Stats{Forwarded: c.answered.Load(), ForwardFailures: c.failed.Load(), ForwardRefused: c.refused.Load(), Limited: c.limited.Load(), Autopaths: c.autopaths.Load()}
	for t, qtype := range countedTypes {
		name := typeName(qtype)
		for rcode := range countedRcodes {
			if n := c.queries[t][rcode].Load(); n > 0 {
				s.Queries = append(s.Queries, QueryCount{name, rcodeName(rcode), n})
			}
		}
	}
	c.addRequests(&s)
	slices.SortFunc(s.Queries, func(a, b QueryCount) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Rcode, b.Rcode))
	})
	return s
}

func (c *counters) addRequests(s *Stats) {
	for t, qtype := range countedTypes {
		for tcp := range 2 {
			for ipv6 := range 2 {
				if n := c.requests[t][tcp][ipv6].Load(); n > 0 {
					s.Requests = append(s.Requests, RequestCount{typeName(qtype), tcp == 1, ipv6 == 1, n})
				}
			}
		}
	}
	s.Took.Sum = time.Duration(c.sum.Load())
	for i := range c.durations {
		s.Took.Count += c.durations[i].Load()
		if i < durationBounds {
			s.Took.Below[i] = s.Took.Count
		}
	}
}

func typeName(qtype uint16) string {
	if qtype == dns.TypeNone {
		return "other"
	}
	return dns.TypeToString[qtype]
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers { // shares its number with a code of TSIG
		return "BADVERS"
	}
	return cmp.Or(dns.RcodeToString[rcode], "other")
}
