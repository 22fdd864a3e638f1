package dns

import (
	"fmt"
	"net/netip"
	"testing"

	"usher/registry"
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

// BenchmarkReverse asks for addresses among more and more EndpointSlices: one
// of an endpoint, and one of nobody, as every foreign address is.
func BenchmarkReverse(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		s := New(Options{Store: manySlices(b, n)})
		for _, text := range []string{"4.0.18.172.in-addr.arpa. PTR", "8.8.8.8.in-addr.arpa. PTR"} {
			b.Run(fmt.Sprintf("slices=%d/%s", n, text), func(b *testing.B) {
				snap, view, q := s.store.Snapshot(), anyIP(), question(b, text)
				b.ReportAllocs()
				for b.Loop() {
					s.Resolve(snap, view, q)
				}
			})
		}
	}
}

// manySlices is the fixture with n more Services of one endpoint each.
func manySlices(t testing.TB, n int) *registry.Store {
	t.Helper()
	store := fixture(t)
	var writes []registry.Write
	for i := range n {
		id := fmt.Sprintf("many/s%d", i)
		writes = append(writes, write(service(id, "None", "http 80/TCP")),
			write(slice(id, "http 80/TCP", fmt.Sprintf("172.19.%d.%d", i/250, i%250))))
	}
	store.Apply(fixtureRevision+1, writes)
	return store
}

// BenchmarkServe is a whole query, but for the socket.
func BenchmarkServe(b *testing.B) {
	view := loopback()
	handler := &responder{Server: testServer(b), ctx: b.Context(), view: &view}
	wire, _ := newQuery(b, "payment-service.finance.svc.cluster.local. A").Pack()
	from, buf := netip.MustParseAddr("127.0.0.1"), make([]byte, 2*udpSize)
	b.ReportAllocs()
	for b.Loop() {
		if handler.answerWire(buf, wire, from) == nil {
			b.Fatal("no answer")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}

// What an A query costs beyond reading the Store and the message itself: its
// record, with the address, in a list.
func TestAllocations(t *testing.T) {
	s := testServer(t)
	snap, view, q := s.store.Snapshot(), loopback(), question(t, "payment-service.finance.svc.cluster.local. A")
	read := testing.AllocsPerRun(100, func() { snap.Service("finance", "payment-service") })
	whole := testing.AllocsPerRun(100, func() { s.Resolve(snap, view, q) })
	if got := whole - read; got > 5 {
		t.Errorf("%v allocations, %v of them to read the Store; want at most 5 more", whole, read)
	}
}
