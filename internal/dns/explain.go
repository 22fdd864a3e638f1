package dns

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// A Lookup is what a name has, for people.
type Lookup struct {
	Name    string // with its final dot
	Type    string
	Rcode   string   // "" when upstreams have the answer
	Records []string // as in a zone file
	Why     string   // there are none; "" when there are

	// Forwarded is the name, Name or what it is an alias of, that Upstreams
	// are asked for; "" when that is none. They are not asked here.
	Forwarded string
	Upstreams []string

	Service *corev1.Service // that the name, or what it is an alias of, belongs to
}

// Found reports whether the name exists, as far as is known here.
func (l Lookup) Found() bool { return l.Rcode == dns.RcodeToString[dns.RcodeSuccess] }

// Explain resolves a name as Resolve does, and says what came of it. A name
// without its final dot is taken as if it had one. It is an error when there is
// no such type, or when no name is like that.
func (s *Server) Explain(snap *registry.Snapshot, v View, name, qtype string) (Lookup, error) {
	l := Lookup{Name: dns.Fqdn(name), Type: strings.ToUpper(qtype)}
	number, ok := dns.StringToType[l.Type]
	if !ok {
		return l, fmt.Errorf("unknown record type %q", qtype)
	}
	if _, ok := dns.IsDomainName(l.Name); !ok {
		return l, fmt.Errorf("%q is no domain name", name)
	}
	a, ours := s.Resolve(snap, v, dns.Question{Name: l.Name, Qtype: number, Qclass: dns.ClassINET})
	l.Forwarded, l.Rcode, l.Service, l.Why = a.Next, dns.RcodeToString[a.Rcode], a.Service, a.Why
	if !ours {
		l.Forwarded, l.Rcode = l.Name, ""
	}
	if l.Forwarded != "" {
		l.Upstreams = s.upstreams()
	}
	if !ours && len(l.Upstreams) == 0 {
		l.Forwarded, l.Rcode = "", dns.RcodeToString[dns.RcodeNameError]
		l.Why = "it is no name of usher's, and there is no upstream to ask"
	}
	for _, rr := range a.Answer {
		l.Records = append(l.Records, strings.Join(strings.Fields(rr.String()), " "))
	}
	return l, nil
}

// upstreams returns the nameservers that names of others are asked of.
func (s *Server) upstreams() []string {
	var list []string
	if s.forward != nil {
		for _, u := range s.forward.upstreams() {
			list = append(list, u.String())
		}
	}
	return list
}

// ReverseName returns the name that has the PTR record of an address.
func ReverseName(addr netip.Addr) (string, error) { return dns.ReverseAddr(addr.String()) }
