package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said writes a Lookup on a line.
func said(l Lookup) string {
	parts := []string{l.Rcode, strings.Join(l.Records, "; "), l.Why}
	if l.Forwarded != "" {
		parts = append(parts, "ask "+strings.Join(l.Upstreams, ",")+" for "+l.Forwarded)
	}
	if l.Service != nil {
		parts = append(parts, "of "+l.Service.Namespace+"/"+l.Service.Name)
	}
	var some []string
	for _, p := range parts {
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, " | ")
}

func TestExplain(t *testing.T) {
	s := New(Options{
		Store: fixture(t), ServiceCIDR: []netip.Prefix{serviceCIDR},
		Upstreams: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")} },
	})
	const zone = ".svc.cluster.local"
	tests := []struct{ name, qtype, want string }{
		{"payment-service.finance" + zone, "a", "NOERROR | payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7 | of finance/payment-service"},
		{"payment-service.finance" + zone, "AAAA", "NOERROR | the name exists, and has no record of this type | of finance/payment-service"},
		{"nosuch.finance" + zone, "A", "NXDOMAIN | there is no such Service"},
		{"nosuch" + zone, "A", "NXDOMAIN | there is no such namespace"},
		{"finance" + zone, "A", "NOERROR | the name exists, and has no record of this type"},
		{"a.b.c.d.finance" + zone, "A", "NXDOMAIN | names of Services have at most four labels before svc"},
		{"starting.finance" + zone, "A", "NXDOMAIN | the Service is headless, and none of its endpoints is ready | of finance/starting"},
		{"db-9.db.finance" + zone, "A", "NXDOMAIN | no ready endpoint of the Service has this hostname | of finance/db"},
		{"_ftp._tcp.db.finance" + zone, "SRV", "NXDOMAIN | the Service has no such port with a name | of finance/db"},
		{"stripe.finance" + zone, "A", "NOERROR | stripe.finance.svc.cluster.local. 5 IN CNAME api.stripe.com. | ask 192.0.2.53:53 for api.stripe.com. | of finance/stripe"},
		{"alias.finance" + zone, "A", "NOERROR | alias.finance.svc.cluster.local. 5 IN CNAME payment-service.finance.svc.cluster.local.; payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7 | of finance/payment-service"},
		{"literal.finance" + zone, "A", "NXDOMAIN | the externalName is no name | of finance/literal"},
		{"x.alias.finance" + zone, "A", "NXDOMAIN | the Service is an ExternalName, which has no names below it | of finance/alias"},
		{"10-240-0-1.finance.pod.cluster.local", "A", "NXDOMAIN | pods have no names (dns.pods is disabled)"},
		{"9.9.96.10.in-addr.arpa", "PTR", "NXDOMAIN | no Service and no ready endpoint has the address"},
		{"example.com.", "A", "ask 192.0.2.53:53 for example.com."},
		{"nothing.cluster.local", "A", "NXDOMAIN | nothing has this name"},
	}
	for _, tt := range tests {
		l, err := s.Explain(s.store.Snapshot(), View{}, tt.name, tt.qtype)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, said(l)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.name, tt.qtype, diff)
		}
	}
	for _, wrong := range [][2]string{{"a..b", "A"}, {"a.b", "NOPE"}} {
		if l, err := s.Explain(s.store.Snapshot(), View{}, wrong[0], wrong[1]); err == nil {
			t.Errorf("%v was explained: %s", wrong, said(l))
		}
	}
	alone := New(Options{Store: fixture(t)})
	if l, _ := alone.Explain(alone.store.Snapshot(), View{}, "example.com", "A"); said(l) != "NXDOMAIN | it is no name of usher's, and there is no upstream to ask" {
		t.Errorf("without upstreams: %s", said(l))
	}
}
