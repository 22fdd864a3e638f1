package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// FuzzResolve asks for any name and type: in our zones a negative answer has
// the SOA of an enclosing zone, and whether a name exists does not depend on
// the type.
func FuzzResolve(f *testing.F) {
	for _, r := range append(clusterRows, reverseRows...) {
		q := question(f, r.Question)
		f.Add(q.Name, q.Qtype)
	}
	s := testServer(f)
	snap := s.store.Snapshot()
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		wire := make([]byte, 512)
		if n, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false); err != nil {
			t.Skip("no domain name")
		} else if name, _, err = dns.UnpackDomainName(wire[:n], 0); err != nil {
			t.Skip("no domain name")
		}
		for _, view := range []View{anyIP(), loopback()} {
			q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
			a, ours := s.Resolve(snap, view, q)
			if !ours {
				continue
			}
			reply := &dns.Msg{Question: []dns.Question{q}, Answer: a.Answer, Ns: a.Ns, Extra: a.Extra}
			if _, err := reply.Pack(); err != nil {
				t.Errorf("%s: answer cannot be packed: %v", q.String(), err)
			}
			if (a.Rcode == dns.RcodeNameError || len(a.Answer) == 0) && !hasSOA(a.Ns, name, len(a.Answer) > 0) {
				t.Errorf("%s: negative answer without an SOA: %+v", q.String(), a)
			}
			if len(a.Answer) > 0 && a.Answer[0].Header().Rrtype == dns.TypeCNAME {
				continue // the rcode is that of another name
			}
			q.Qtype = dns.TypeTXT
			if other, _ := s.Resolve(snap, view, q); other.Rcode != a.Rcode && len(other.Answer) == 0 {
				t.Errorf("%s: rcode %d, for type %d it is %d", q.String(), other.Rcode, qtype, a.Rcode)
			}
		}
	})
}

// hasSOA reports whether rrs is one SOA of a zone that name is in, or of any
// zone when name has an alias.
func hasSOA(rrs []dns.RR, name string, alias bool) bool {
	if len(rrs) != 1 {
		return false
	}
	soa, ok := rrs[0].(*dns.SOA)
	return ok && (alias || dns.IsSubDomain(soa.Hdr.Name, name))
}

// FuzzMessage answers any message: the answer is whole, fits, and is for this
// question. What is no query is refused, or gets none.
func FuzzMessage(f *testing.F) {
	for _, r := range clusterRows[:20] {
		query := newQuery(f, r.Question)
		wire, _ := query.Pack()
		f.Add(wire)
		query.SetEdns0(4096, true)
		wire, _ = query.Pack()
		f.Add(wire)
	}
	f.Add(bareHeader)
	s := testServer(f)
	view := anyIP()
	handler := &responder{Server: s, ctx: f.Context(), view: &view}
	f.Fuzz(func(t *testing.T, wire []byte) {
		answer := handler.answerWire(make([]byte, 2*udpSize), wire, netip.IPv4Unspecified())
		var req, reply dns.Msg
		ours := accepted(wire) && req.Unpack(wire) == nil
		if answer == nil {
			if ours {
				t.Errorf("no answer to %v", &req)
			}
			return
		}
		if err := reply.Unpack(answer); err != nil {
			t.Fatalf("answer to %v: %v", &req, err)
		}
		if !ours {
			refused := reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented
			if !refused || !reply.Response || len(answer) != headerSize || !bytes.Equal(answer[:2], wire[:2]) {
				t.Errorf("answer to no query: %v", &reply)
			}
			return
		}
		if reply.Id != req.Id || !reply.Response || !slices.Equal(reply.Question, req.Question) {
			t.Errorf("answer to another question:\n%v\n%v", &req, &reply)
		}
		if reply.Rcode == dns.RcodeServerFailure { // which is for what is wrong with us
			t.Errorf("no answer to %v", &req)
		}
		if len(answer) > udpSize {
			t.Errorf("answer has %d bytes", len(answer))
		}
	})
}

// accepted reports whether a socket lets a message through to us.
func accepted(wire []byte) bool {
	var h dns.Header
	_, err := binary.Decode(wire, binary.BigEndian, &h)
	return err == nil && dns.DefaultMsgAcceptFunc(h) == dns.MsgAccept
}
