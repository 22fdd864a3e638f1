package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"usher/registry"
)

// A name that is not ours has no address of a Service, however it is written,
// unless its domain is permitted to.
func TestRebinding(t *testing.T) {
	zone := parseZone(t, `
		a.evil.test. 0 IN A 10.96.0.42
		a.evil.test. 0 IN A 192.0.2.1
		twin.evil.test. 0 IN A 127.96.0.42
		mapped.evil.test. 0 IN AAAA ::ffff:10.96.0.42
		six.evil.test. 0 IN AAAA fd00:10:96::5
		local.evil.test. 0 IN A 127.0.0.1
		alias.evil.test. 0 IN CNAME a.evil.test.
		hint.evil.test. 0 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,10.96.0.42
		hint.evil.test. 0 IN HTTPS 2 . alpn=h2 ipv4hint=192.0.2.1
		10.96.0.42.nip.test. 0 IN A 10.96.0.42
		xnip.test. 0 IN A 10.96.0.42`)
	up := upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		reply, q := new(dns.Msg).SetReply(req), req.Question[0]
		for _, rr := range zone {
			if strings.EqualFold(rr.Header().Name, q.Name) && (rr.Header().Rrtype == q.Qtype || rr.Header().Rrtype == dns.TypeCNAME) ||
				q.Name == "alias.evil.test." && rr.Header().Name == "a.evil.test." {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		reply.Extra = parseZone(t, "ns.evil.test. 0 IN A 10.96.0.43")
		w.WriteMsg(reply)
	})
	ranges := append(ranges(), netip.MustParsePrefix("127.96.0.0/16"))
	options := Options{
		Store: fixture(t), ServiceCIDR: ranges, RebindDomains: []string{"NIP.test"},
		Upstreams: func() []netip.AddrPort { return []netip.AddrPort{up} },
		IsService: func(addr netip.Addr) bool {
			for _, r := range ranges {
				if r.Contains(addr) {
					return true
				}
			}
			return false
		},
	}
	server := start(t, New(options), loopback())
	options.IsService = nil
	open := start(t, New(options), loopback())
	for _, test := range []struct {
		question   string
		kept, gone int
		glue       int // records in Additional
	}{
		{"a.evil.test. A", 1, 1, 0},
		{"A.EVIL.test. A", 1, 1, 0},
		{"twin.evil.test. A", 0, 1, 0},
		{"mapped.evil.test. AAAA", 0, 1, 0},
		{"six.evil.test. AAAA", 0, 1, 0},
		{"local.evil.test. A", 1, 0, 0},
		{"alias.evil.test. A", 2, 1, 0}, // the CNAME and the other address
		{"hint.evil.test. HTTPS", 1, 1, 0},
		{"10.96.0.42.nip.test. A", 1, 0, 1},
		{"xnip.test. A", 0, 1, 0},
	} {
		reply := ask(t, server, test.question)
		wantRcode(t, reply, dns.RcodeSuccess)
		if len(reply.Answer) != test.kept || len(reply.Extra) != test.glue {
			t.Errorf("%s: %d answers and %d more, want %d and %d:\n%v", test.question, len(reply.Answer), len(reply.Extra), test.kept, test.glue, reply)
		}
		if got := ask(t, open, test.question); len(got.Answer) != test.kept+test.gone {
			t.Errorf("%s without a filter: %d answers, want %d", test.question, len(got.Answer), test.kept+test.gone)
		}
	}

	// The target of an ExternalName was chosen by whoever wrote the Service.
	store := fixture(t)
	store.Apply(fixtureRevision+1, []registry.Write{write(external("finance/chosen", "twin.evil.test"))})
	options.Store = store
	options.IsService = func(netip.Addr) bool { return true }
	reply := ask(t, start(t, New(options), loopback()), "chosen.finance.svc.cluster.local. A")
	want := []string{"chosen.finance.svc.cluster.local.\t5\tIN\tCNAME\ttwin.evil.test.", "twin.evil.test.\t0\tIN\tA\t127.96.0.42"}
	if diff := cmp.Diff(want, zoneText(reply.Answer)); diff != "" {
		t.Errorf("ExternalName (-want +got):\n%s", diff)
	}
}
