package dns

import (
	"net/netip"
	"testing"

	"usher/registry"
)

func ranges() []netip.Prefix {
	return []netip.Prefix{serviceCIDR, netip.MustParsePrefix("fd00:10:96::/112")}
}

const zone6 = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."

var reverseRows = []row{
	{Question: "7.143.96.10.in-addr.arpa. PTR", Answer: "7.143.96.10.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
	{Question: "7.143.96.10.IN-ADDR.ARPA. PTR", Answer: "7.143.96.10.IN-ADDR.ARPA. 5 IN PTR payment-service.finance.svc.cluster.local."},
	{Question: "5.0.0.0." + zone6 + " PTR", Answer: "5.0.0.0." + zone6 + " 5 IN PTR dual.finance.svc.cluster.local."},
	{Question: "7.143.96.10.in-addr.arpa. A", Ns: soa("96.10.in-addr.arpa.")},

	// Addresses of ours that nobody has.
	{Question: "99.143.96.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "9.9.9.9." + zone6 + " PTR", Rcode: "NXDOMAIN", Ns: soa(zone6)},
	{Question: "1.0.0.128.in-addr.arpa. PTR", Forward: true},
	{Question: "9.9.9.127.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("127.in-addr.arpa.")},

	// The reverse zones themselves, and what is no address in them.
	{Question: "96.10.in-addr.arpa. SOA", Answer: soa("96.10.in-addr.arpa.")},
	{
		Question: "96.10.in-addr.arpa. NS", Answer: "96.10.in-addr.arpa. 5 IN NS ns.dns.cluster.local.",
		Extra: "ns.dns.cluster.local. 5 IN A 10.96.0.10",
	},
	{Question: "96.10.in-addr.arpa. PTR", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "143.96.10.in-addr.arpa. PTR", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "x.143.96.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "256.143.96.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "07.143.96.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "1.7.143.96.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("96.10.in-addr.arpa.")},
	{Question: "00.0.0.0." + zone6 + " PTR", Rcode: "NXDOMAIN", Ns: soa(zone6)},

	// Endpoints, whatever their address, one name for each Service.
	{Question: "4.0.18.172.in-addr.arpa. PTR", Answer: "4.0.18.172.in-addr.arpa. 5 IN PTR db-0.db.finance.svc.cluster.local."},
	{Question: "6.0.18.172.in-addr.arpa. PTR", Answer: "6.0.18.172.in-addr.arpa. 5 IN PTR 172-18-0-6.db.finance.svc.cluster.local."},
	{Question: "4.0.18.172.in-addr.arpa. TXT", Ns: soa("4.0.18.172.in-addr.arpa.")}, // a zone of one name
	{Question: "7.0.18.172.in-addr.arpa. PTR", Forward: true},                       // not ready
	{Question: "1.0.244.127.in-addr.arpa. PTR", Answer: "1.0.244.127.in-addr.arpa. 5 IN PTR 127-244-0-1.payment-service.finance.svc.cluster.local."},

	{Question: "1.0.0.127.in-addr.arpa. PTR", Answer: "1.0.0.127.in-addr.arpa. 5 IN PTR localhost."},
	{
		Question: "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR",
		Answer:   "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. 5 IN PTR localhost.",
	},

	{Question: "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa. TXT", Ns: soa("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa.")},

	// What is above or beside our ranges is for others.
	{Question: "8.8.8.8.in-addr.arpa. PTR", Forward: true},
	{Question: "10.in-addr.arpa. PTR", Forward: true},
	{Question: "in-addr.arpa. PTR", Forward: true},
	{Question: "1.0.97.10.in-addr.arpa. PTR", Forward: true},
	{Question: "x.10.in-addr.arpa. PTR", Forward: true},
	{Question: "ip6.arpa. PTR", Forward: true},
}

func TestReverseNames(t *testing.T) {
	run(t, testServer(t), anyIP(), reverseRows)
}

func TestReverseNamesInLoopbackView(t *testing.T) {
	run(t, testServer(t), loopback(), []row{
		{Question: "7.143.96.127.in-addr.arpa. PTR", Answer: "7.143.96.127.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
		{Question: "7.143.96.10.in-addr.arpa. PTR", Answer: "7.143.96.10.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
		{Question: "99.143.96.127.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("127.in-addr.arpa.")},
	})
}

// What a reverse lookup costs does not grow with the EndpointSlices: clients
// ask for addresses of the whole world.
func TestReverseNamesAmongManySlices(t *testing.T) {
	cost := func(n int) float64 {
		s := New(Options{Store: manySlices(t, n)})
		snap, view, q := s.store.Snapshot(), anyIP(), question(t, "8.8.8.8.in-addr.arpa. PTR")
		return testing.AllocsPerRun(100, func() {
			if _, ours := s.Resolve(snap, view, q); ours {
				t.Error("8.8.8.8 is ours")
			}
		})
	}
	if few, many := cost(10), cost(2000); many > 2*few {
		t.Errorf("%v allocations among 10 slices, %v among 2000", few, many)
	}
}

// A name goes with its endpoint, and moves with it.
func TestReverseNamesFollowEndpoints(t *testing.T) {
	store := fixture(t)
	store.Apply(fixtureRevision+1, []registry.Write{
		write(slice("finance/db", "pg 15432/TCP", "172.18.0.5 db-0", "172.18.0.9")),
		write(slice("finance/twins", "http 80/TCP", "172.18.0.5 twin")),
		{Key: registry.KeyOf(slice("finance/db6", ""))},
	})
	run(t, New(Options{Store: store}), anyIP(), []row{
		{Question: "4.0.18.172.in-addr.arpa. PTR", Forward: true},
		{
			Question: "5.0.18.172.in-addr.arpa. PTR",
			Answer: `5.0.18.172.in-addr.arpa. 5 IN PTR db-0.db.finance.svc.cluster.local.
				5.0.18.172.in-addr.arpa. 5 IN PTR twin.twins.finance.svc.cluster.local.`,
		},
		{Question: "9.0.18.172.in-addr.arpa. PTR", Answer: "9.0.18.172.in-addr.arpa. 5 IN PTR 172-18-0-9.db.finance.svc.cluster.local."},
		{Question: "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa. PTR", Forward: true},
	})
}

// A View may have a range that the Server was not told of, inside a network of
// somebody else.
func TestReverseNamesInForeignRange(t *testing.T) {
	view := anyIP()
	view.ClusterIP = func(a netip.Addr) (netip.Addr, bool) {
		b := a.As4()
		return netip.AddrFrom4([4]byte{10, 96, 143, b[3]}), netip.MustParsePrefix("172.20.1.0/24").Contains(a)
	}
	run(t, testServer(t), view, []row{
		{Question: "7.1.20.172.in-addr.arpa. PTR", Answer: "7.1.20.172.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
		{Question: "7.1.20.172.in-addr.arpa. A", Ns: soa("7.1.20.172.in-addr.arpa.")},
		{Question: "99.1.20.172.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("99.1.20.172.in-addr.arpa.")},
		{Question: "1.2.20.172.in-addr.arpa. PTR", Forward: true},
	})
}

// A range that ends within a label has the zones inside it.
func TestReverseZonesOfUnalignedRange(t *testing.T) {
	s := New(Options{Store: fixture(t), ServiceCIDR: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}})
	view := anyIP()
	view.ClusterIP = nil
	run(t, s, view, []row{
		{Question: "1.0.111.10.in-addr.arpa. PTR", Rcode: "NXDOMAIN", Ns: soa("111.10.in-addr.arpa.")},
		{Question: "1.0.112.10.in-addr.arpa. PTR", Forward: true},
		{Question: "111.10.in-addr.arpa. SOA", Answer: soa("111.10.in-addr.arpa.")},
	})
}
