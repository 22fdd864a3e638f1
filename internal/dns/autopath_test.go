package dns

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// finder serves autopath, with an upstream that knows www.example.com and
// intranet.corp.example, and one Pod: 10.240.0.1 in finance.
func finder(t *testing.T) *responder {
	www, intranet := says(t, "www.example.com. 60 IN A 192.0.2.80"), says(t, "intranet.corp.example. 60 IN A 192.0.2.81")
	knows := upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		switch dns.CanonicalName(req.Question[0].Name) {
		case "www.example.com.":
			www(w, req)
		case "intranet.corp.example.":
			intranet(w, req)
		case "broken.corp.example.":
			fails(dns.RcodeServerFailure)(w, req)
		default:
			fails(dns.RcodeNameError)(w, req)
		}
	})
	s := New(Options{
		Store: fixture(t), ServiceCIDR: ranges(), Autopath: true,
		Upstreams: func() []netip.AddrPort { return []netip.AddrPort{knows} },
		Search:    func() []string { return []string{"corp.example"} },
	})
	view := anyIP()
	return &responder{Server: s, ctx: t.Context(), view: &view}
}

func TestAutopath(t *testing.T) {
	handler := finder(t)
	const (
		in  = ".finance.svc.cluster.local."
		pod = "10.240.0.1"
	)
	for _, test := range []struct {
		about, client, question string
		rcode                   int
		answer, ns              string
	}{
		{
			about: "a Service of another namespace", client: pod, question: "api.orphan" + in + " A",
			answer: "api.orphan" + in + " 5 IN CNAME api.orphan.svc.cluster.local.\napi.orphan.svc.cluster.local. 5 IN A 10.96.143.20",
		},
		{
			about: "of which there is no AAAA", client: pod, question: "api.orphan" + in + " AAAA",
			answer: "api.orphan" + in + " 5 IN CNAME api.orphan.svc.cluster.local.", ns: soa("cluster.local."),
		},
		{
			about: "a domain of the host", client: pod, question: "intranet" + in + " A",
			answer: "intranet" + in + " 5 IN CNAME intranet.corp.example.\nintranet.corp.example. 60 IN A 192.0.2.81",
		},
		{
			about: "the name as it was typed", client: "::ffff:" + pod, question: "WWW.example.com.Finance.svc.cluster.local. A",
			answer: "WWW.example.com.Finance.svc.cluster.local. 5 IN CNAME WWW.example.com.\nwww.example.com. 60 IN A 192.0.2.80",
		},
		{about: "what is there at once", client: pod, question: "payment-service" + in + " A", answer: "payment-service" + in + " 5 IN A 10.96.143.7"},
		{about: "nothing anywhere", client: pod, question: "nope.test" + in + " A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "nobody knows", client: pod, question: "broken" + in + " A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "no Pod", client: "10.240.0.9", question: "api.orphan" + in + " A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "a Pod that ended", client: "10.240.0.3", question: "api.orphan" + in + " A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "not its namespace", client: pod, question: "nope.kube-system.svc.cluster.local. A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "not the first domain", client: pod, question: "www.example.com.svc.cluster.local. A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "nothing before it", client: pod, question: "nope.svc.cluster.local. A", rcode: dns.RcodeNameError, ns: soa("cluster.local.")},
		{about: "an alias of nothing", client: pod, question: "gone" + in + " A", rcode: dns.RcodeNameError,
			answer: "gone" + in + " 5 IN CNAME missing.finance.svc.cluster.local.", ns: soa("cluster.local.")},
	} {
		t.Run(test.about, func(t *testing.T) {
			reply := handler.answer(newQuery(t, test.question), netip.MustParseAddr(test.client))
			wantRcode(t, reply, test.rcode)
			if diff := cmp.Diff(zoneText(parseZone(t, test.answer)), zoneText(reply.Answer)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(zoneText(parseZone(t, test.ns)), zoneText(reply.Ns)); diff != "" {
				t.Errorf("authority (-want +got):\n%s", diff)
			}
			if len(reply.Answer) > 1 && reply.Answer[0].Header().Rrtype != dns.TypeCNAME {
				t.Errorf("the CNAME does not come first:\n%v", reply)
			}
		})
	}
	if got := handler.Stats().Autopaths; got != 4 {
		t.Errorf("%d answers counted, want 4", got)
	}

	handler.autopath = false
	wantRcode(t, handler.answer(newQuery(t, "api.orphan"+in+" A"), netip.MustParseAddr(pod)), dns.RcodeNameError)
}
