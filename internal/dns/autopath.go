package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"usher/registry"
)

// A Pod that wants www.example.com asks for
// www.example.com.<namespace>.svc.<domain> first, and for two or more names
// after it, each twice. With autopath it has its answer at once, behind a CNAME
// from what it asked for. What is walked is the search list that a Pod has in
// Kubernetes: who has another may get another answer than it would have found,
// so it is done on request.

// searchOn looks for what req is about along the rest of the search list. It
// leaves reply as it is when there is nothing, or when the client is no Pod that
// begins to search there.
func (r *responder) searchOn(reply, req *dns.Msg, from netip.Addr) {
	base, ok := r.searchedFor(req.Question[0].Name, from)
	if ok && r.walk(reply, req, base, r.searchDomains()) {
		r.stats.autopaths.Add(1)
	}
}

// walk answers with the first name that exists: base, which ends with a dot, in
// one of domains. It returns false, and leaves reply as it is, when there is
// none.
func (r *responder) walk(reply, req *dns.Msg, base string, domains []string) bool {
	question := req.Question[0]
	if question.Qtype == dns.TypeANY {
		return false
	}
	for _, domain := range domains {
		next := question
		next.Name = base + domain
		if _, valid := dns.IsDomainName(next.Name); !valid {
			continue
		}
		found := new(dns.Msg)
		r.answerQuestion(found, req, next)
		switch found.Rcode {
		case dns.RcodeNameError:
			continue
		case dns.RcodeSuccess:
		default: // nobody knows what comes first: the client asks itself
			return false
		}
		alias := &dns.CNAME{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: next.Name}
		reply.Rcode, reply.Truncated = found.Rcode, found.Truncated
		reply.Answer, reply.Ns, reply.Extra = append([]dns.RR{alias}, found.Answer...), found.Ns, found.Extra
		return true
	}
	return false
}

// searchedFor returns the name, with its final dot, that a client searches for
// when it asks for one below the first domain of its search list: that of the
// namespace of a Pod with its address.
func (r *responder) searchedFor(name string, from netip.Addr) (string, bool) {
	suffix := ".svc." + r.zone.domain
	at := len(name) - len(suffix)
	if at < 0 || !strings.EqualFold(name[at:], suffix) {
		return "", false
	}
	dot := strings.LastIndexByte(name[:at], '.')
	if dot <= 0 {
		return "", false
	}
	namespace := dns.CanonicalName(name[dot+1 : at])
	for pod := range r.store.Snapshot().PodsByIP(from.Unmap()) {
		if pod.Namespace+"." == namespace && !hasEnded(pod) {
			return name[:dot+1], true
		}
	}
	return "", false
}

// searchDomains returns the search list after its first domain, and the root,
// for the name as it was typed.
func (r *responder) searchDomains() []string {
	domains := registry.SearchPath("", r.zone.domain)[1:]
	if r.search != nil {
		for _, d := range r.search() {
			domains = append(domains, dns.Fqdn(d))
		}
	}
	return append(domains, "")
}
