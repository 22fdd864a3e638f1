package dns

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestComplete checks that short names are found as in a Pod of finance, and
// that all others are what they are.
func TestComplete(t *testing.T) {
	handler := finder(t)
	handler.namespace = "finance"
	for _, test := range []struct {
		about, question string
		rcode           int
		answer, ns      string
	}{
		{
			about: "a Service of the namespace", question: "Payment-service. A",
			answer: "Payment-service. 5 IN CNAME Payment-service.finance.svc.cluster.local.\nPayment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7",
		},
		{
			about: "of which there is no AAAA", question: "payment-service. AAAA",
			answer: "payment-service. 5 IN CNAME payment-service.finance.svc.cluster.local.", ns: soa("cluster.local."),
		},
		{
			about: "a Service of another namespace", question: "api.orphan. A",
			answer: "api.orphan. 5 IN CNAME api.orphan.svc.cluster.local.\napi.orphan.svc.cluster.local. 5 IN A 10.96.143.20",
		},
		{
			about: "a name below svc", question: "api.orphan.svc. A",
			answer: "api.orphan.svc. 5 IN CNAME api.orphan.svc.cluster.local.\napi.orphan.svc.cluster.local. 5 IN A 10.96.143.20",
		},
		{about: "the whole name", question: "payment-service.finance.svc.cluster.local. A", answer: "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7"},
		{about: "a name of the world", question: "www.example.com. A", answer: "www.example.com. 60 IN A 192.0.2.80"},
		{about: "of nobody", question: "nope.test. A", rcode: dns.RcodeNameError},
		{about: "a reverse name", question: "7.143.96.10.in-addr.arpa. PTR",
			answer: "7.143.96.10.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
	} {
		t.Run(test.about, func(t *testing.T) {
			reply := handler.answer(newQuery(t, test.question), netip.MustParseAddr("127.0.0.1"))
			wantRcode(t, reply, test.rcode)
			if diff := cmp.Diff(zoneText(parseZone(t, test.answer)), zoneText(reply.Answer)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(zoneText(parseZone(t, test.ns)), zoneText(reply.Ns)); diff != "" {
				t.Errorf("authority (-want +got):\n%s", diff)
			}
		})
	}
	handler.namespace = ""
	wantRcode(t, handler.answer(newQuery(t, "payment-service. A"), netip.MustParseAddr("127.0.0.1")), dns.RcodeNameError)
}
