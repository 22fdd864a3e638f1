package dns

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats are the counters of a Server since it was made.
type Stats struct {
	Queries []QueryCount // that are not 0, ordered by type and rcode

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
}

func (c *counters) count(qtype uint16, rcode int) {
	t := max(0, slices.Index(countedTypes[:], qtype))
	if rcode < 0 || rcode >= countedRcodes {
		rcode = dns.RcodeServerFailure
	}
	c.queries[t][rcode].Add(1)
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
		name := dns.TypeToString[qtype]
		if qtype == dns.TypeNone {
			name = "other"
		}
		for rcode := range countedRcodes {
			if n := c.queries[t][rcode].Load(); n > 0 {
				s.Queries = append(s.Queries, QueryCount{name, rcodeName(rcode), n})
			}
		}
	}
	slices.SortFunc(s.Queries, func(a, b QueryCount) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Rcode, b.Rcode))
	})
	return s
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers { // shares its number with a code of TSIG
		return "BADVERS"
	}
	return cmp.Or(dns.RcodeToString[rcode], "other")
}
