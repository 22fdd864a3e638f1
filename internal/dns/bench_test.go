package dns

import (
	"testing"

	"github.com/miekg/dns"
)

// BenchmarkResolve is the pure function, without sockets.
func BenchmarkResolve(b *testing.B) {
	s := testServer(b)
	snap, view := s.store.Snapshot(), loopback()
	for _, text := range []string{
		"payment-service.finance.svc.cluster.local. A",
		"payment-service.finance.svc.cluster.local. AAAA",
		"payment-service.finance.finance.svc.cluster.local. A",
		"db.finance.svc.cluster.local. A",
		"7.143.96.127.in-addr.arpa. PTR",
	} {
		q := question(b, text)
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Resolve(snap, view, q)
			}
		})
	}
}

// BenchmarkServe is a whole query, but for the socket.
func BenchmarkServe(b *testing.B) {
	view := loopback()
	handler := &responder{Server: testServer(b), ctx: b.Context(), view: &view}
	wire, _ := newQuery(b, "payment-service.finance.svc.cluster.local. A").Pack()
	b.ReportAllocs()
	for b.Loop() {
		var req dns.Msg
		if err := req.Unpack(wire); err != nil {
			b.Fatal(err)
		}
		handler.ServeDNS(new(recorder), &req)
	}
}
