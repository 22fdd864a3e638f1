package dns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"usher/registry"
)

// The rows are those of the Kubernetes DNS specification and of what clients
// rely on in CoreDNS.
var clusterRows = []row{
	// A Service with a ClusterIP: the address of the family, else NODATA.
	{Question: "payment-service.finance.svc.cluster.local. A", Answer: "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7"},
	{Question: "payment-service.finance.svc.cluster.local. AAAA", Ns: soa("cluster.local.")},
	{Question: "dual.finance.svc.cluster.local. A", Answer: "dual.finance.svc.cluster.local. 5 IN A 10.96.143.10"},
	{Question: "dual.finance.svc.cluster.local. AAAA", Answer: "dual.finance.svc.cluster.local. 5 IN AAAA fd00:10:96::5"},
	{Question: "only6.finance.svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "only6.finance.svc.cluster.local. AAAA", Answer: "only6.finance.svc.cluster.local. 5 IN AAAA fd00:10:96::6"},
	{Question: "noports.finance.svc.cluster.local. A", Answer: "noports.finance.svc.cluster.local. 5 IN A 10.96.143.9"},
	{Question: "api.orphan.svc.cluster.local. A", Answer: "api.orphan.svc.cluster.local. 5 IN A 10.96.143.20"},

	// SRV: named ports below their names, all ports at the bare name.
	{
		Question: "_http._tcp.payment-service.finance.svc.cluster.local. SRV",
		Answer:   "_http._tcp.payment-service.finance.svc.cluster.local. 5 IN SRV 0 100 80 payment-service.finance.svc.cluster.local.",
		Extra:    "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7",
	},
	{
		Question: "payment-service.finance.svc.cluster.local. SRV",
		Answer: `payment-service.finance.svc.cluster.local. 5 IN SRV 0 50 80 payment-service.finance.svc.cluster.local.
			payment-service.finance.svc.cluster.local. 5 IN SRV 0 50 9090 payment-service.finance.svc.cluster.local.`,
		Extra: "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7",
	},
	{
		Question: "_http._tcp.dual.finance.svc.cluster.local. SRV",
		Answer:   "_http._tcp.dual.finance.svc.cluster.local. 5 IN SRV 0 50 80 dual.finance.svc.cluster.local.",
		Extra: `dual.finance.svc.cluster.local. 5 IN A 10.96.143.10
			dual.finance.svc.cluster.local. 5 IN AAAA fd00:10:96::5`,
	},
	{
		Question: "unnamed.finance.svc.cluster.local. SRV",
		Answer:   "unnamed.finance.svc.cluster.local. 5 IN SRV 0 100 80 unnamed.finance.svc.cluster.local.",
		Extra:    "unnamed.finance.svc.cluster.local. 5 IN A 10.96.143.8",
	},
	{
		Question: "_dns._udp.kube-dns.kube-system.svc.cluster.local. SRV",
		Answer:   "_dns._udp.kube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 100 53 kube-dns.kube-system.svc.cluster.local.",
		Extra:    "kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10",
	},
	{Question: "_http._udp.payment-service.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_nope._tcp.payment-service.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "http.tcp.payment-service.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_._tcp.unnamed.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_http._tcp.payment-service.finance.svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "noports.finance.svc.cluster.local. SRV", Ns: soa("cluster.local.")},

	// Endpoint names exist below a Service with a ClusterIP too.
	{Question: "127-244-0-1.payment-service.finance.svc.cluster.local. A", Answer: "127-244-0-1.payment-service.finance.svc.cluster.local. 5 IN A 127.244.0.1"},
	{Question: "pod-b.payment-service.finance.svc.cluster.local. A", Answer: "pod-b.payment-service.finance.svc.cluster.local. 5 IN A 127.244.0.2"},
	{Question: "pod-c.payment-service.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},

	// Headless: one address for each ready endpoint.
	{
		Question: "db.finance.svc.cluster.local. A",
		Answer: `db.finance.svc.cluster.local. 5 IN A 172.18.0.4
			db.finance.svc.cluster.local. 5 IN A 172.18.0.5
			db.finance.svc.cluster.local. 5 IN A 172.18.0.6`,
	},
	{Question: "db.finance.svc.cluster.local. AAAA", Ns: soa("cluster.local.")},
	{
		Question: "db6.finance.svc.cluster.local. AAAA",
		Answer: `db6.finance.svc.cluster.local. 5 IN AAAA 5678:abcd::1
			db6.finance.svc.cluster.local. 5 IN AAAA 5678:abcd::`,
	},
	{Question: "starting.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "starting.finance.svc.cluster.local. AAAA", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "starting.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_http._tcp.starting.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "portless.finance.svc.cluster.local. A", Answer: "portless.finance.svc.cluster.local. 5 IN A 172.18.3.1"},
	{Question: "portless.finance.svc.cluster.local. SRV", Ns: soa("cluster.local.")},
	{
		// The ports are those of the endpoints, the targets their names.
		Question: "_pg._tcp.db.finance.svc.cluster.local. SRV",
		Answer: `_pg._tcp.db.finance.svc.cluster.local. 5 IN SRV 0 33 15432 db-0.db.finance.svc.cluster.local.
			_pg._tcp.db.finance.svc.cluster.local. 5 IN SRV 0 33 15432 db-1.db.finance.svc.cluster.local.
			_pg._tcp.db.finance.svc.cluster.local. 5 IN SRV 0 33 15432 172-18-0-6.db.finance.svc.cluster.local.`,
		Extra: `db-0.db.finance.svc.cluster.local. 5 IN A 172.18.0.4
			db-1.db.finance.svc.cluster.local. 5 IN A 172.18.0.5
			172-18-0-6.db.finance.svc.cluster.local. 5 IN A 172.18.0.6`,
	},
	{Question: "db-1.db.finance.svc.cluster.local. A", Answer: "db-1.db.finance.svc.cluster.local. 5 IN A 172.18.0.5"},
	{Question: "db-1.db.finance.svc.cluster.local. AAAA", Ns: soa("cluster.local.")},
	{
		Question: "db-1.db.finance.svc.cluster.local. SRV",
		Answer: `db-1.db.finance.svc.cluster.local. 5 IN SRV 0 50 15432 db-1.db.finance.svc.cluster.local.
			db-1.db.finance.svc.cluster.local. 5 IN SRV 0 50 19187 db-1.db.finance.svc.cluster.local.`,
		Extra: "db-1.db.finance.svc.cluster.local. 5 IN A 172.18.0.5",
	},
	{Question: "db-3.db.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "172-18-0-6.db.finance.svc.cluster.local. A", Answer: "172-18-0-6.db.finance.svc.cluster.local. 5 IN A 172.18.0.6"},
	{Question: "172-18-0-4.db.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")}, // it has a hostname
	{Question: "5678-abcd--1.db6.finance.svc.cluster.local. AAAA", Answer: "5678-abcd--1.db6.finance.svc.cluster.local. 5 IN AAAA 5678:abcd::1"},
	{Question: "5678-abcd--0.db6.finance.svc.cluster.local. AAAA", Answer: "5678-abcd--0.db6.finance.svc.cluster.local. 5 IN AAAA 5678:abcd::"},
	{
		Question: "same.twins.finance.svc.cluster.local. A",
		Answer: `same.twins.finance.svc.cluster.local. 5 IN A 172.18.1.1
			same.twins.finance.svc.cluster.local. 5 IN A 172.18.1.2`,
	},
	{
		Question: "_http._tcp.twins.finance.svc.cluster.local. SRV",
		Answer:   "_http._tcp.twins.finance.svc.cluster.local. 5 IN SRV 0 50 80 same.twins.finance.svc.cluster.local.",
		Extra: `same.twins.finance.svc.cluster.local. 5 IN A 172.18.1.1
			same.twins.finance.svc.cluster.local. 5 IN A 172.18.1.2`,
	},
	// An endpoint whose ports are in two slices.
	{Question: "split.finance.svc.cluster.local. A", Answer: "split.finance.svc.cluster.local. 5 IN A 172.18.4.1"},
	{
		Question: "split.finance.svc.cluster.local. SRV",
		Answer: `split.finance.svc.cluster.local. 5 IN SRV 0 50 8080 s-0.split.finance.svc.cluster.local.
			split.finance.svc.cluster.local. 5 IN SRV 0 50 8081 s-0.split.finance.svc.cluster.local.`,
		Extra: "s-0.split.finance.svc.cluster.local. 5 IN A 172.18.4.1",
	},

	// ExternalName: a CNAME, followed as long as the names are ours.
	{
		Question: "stripe.finance.svc.cluster.local. A", Next: "api.stripe.com.",
		Answer: "stripe.finance.svc.cluster.local. 5 IN CNAME api.stripe.com.",
	},
	{Question: "stripe.finance.svc.cluster.local. CNAME", Answer: "stripe.finance.svc.cluster.local. 5 IN CNAME api.stripe.com."},
	{Question: "stripe.finance.svc.cluster.local. SRV", Ns: soa("cluster.local.")},
	{Question: "x.stripe.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_tcp.stripe.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{
		Question: "alias2.finance.svc.cluster.local. A",
		Answer: `alias2.finance.svc.cluster.local. 5 IN CNAME alias.finance.svc.cluster.local.
			alias.finance.svc.cluster.local. 5 IN CNAME payment-service.finance.svc.cluster.local.
			payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7`,
	},
	{
		Question: "alias.finance.svc.cluster.local. AAAA",
		Answer:   "alias.finance.svc.cluster.local. 5 IN CNAME payment-service.finance.svc.cluster.local.",
		Ns:       soa("cluster.local."),
	},
	{
		Question: "gone.finance.svc.cluster.local. A", Rcode: "NXDOMAIN",
		Answer: "gone.finance.svc.cluster.local. 5 IN CNAME missing.finance.svc.cluster.local.",
		Ns:     soa("cluster.local."),
	},
	{
		Question: "loop-a.finance.svc.cluster.local. A",
		Answer: `loop-a.finance.svc.cluster.local. 5 IN CNAME loop-b.finance.svc.cluster.local.
			loop-b.finance.svc.cluster.local. 5 IN CNAME loop-a.finance.svc.cluster.local.`,
	},
	{Question: "self.finance.svc.cluster.local. A", Answer: "self.finance.svc.cluster.local. 5 IN CNAME self.finance.svc.cluster.local."},
	{Question: "literal.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{
		Question: "host.finance.svc.cluster.local. A",
		Answer: `host.finance.svc.cluster.local. 5 IN CNAME localhost.
			localhost. 5 IN A 127.0.0.1`,
	},

	// The schema's version, and the zone itself.
	{Question: "dns-version.cluster.local. TXT", Answer: `dns-version.cluster.local. 28800 IN TXT "1.1.0"`},
	{Question: "dns-version.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "cluster.local. SOA", Answer: soa("cluster.local.")},
	{
		Question: "cluster.local. NS", Answer: "cluster.local. 5 IN NS ns.dns.cluster.local.",
		Extra: "ns.dns.cluster.local. 5 IN A 10.96.0.10",
	},
	{Question: "ns.dns.cluster.local. A", Answer: "ns.dns.cluster.local. 5 IN A 10.96.0.10"},

	// Names that exist only because others are below them.
	{Question: "cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "pod.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "dns.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "finance.svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "finance.pod.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "empty.svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "orphan.svc.cluster.local. A", Ns: soa("cluster.local.")},
	{Question: "_tcp.payment-service.finance.svc.cluster.local. SRV", Ns: soa("cluster.local.")},
	{Question: "_udp.payment-service.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_tcp.unnamed.finance.svc.cluster.local. SRV", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "_tcp.db.finance.svc.cluster.local. A", Ns: soa("cluster.local.")},

	// Types that a Service does not have: NODATA.
	{Question: "payment-service.finance.svc.cluster.local. TXT", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. MX", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. HINFO", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. CAA", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. HTTPS", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. NS", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.svc.cluster.local. SOA", Ns: soa("cluster.local.")},

	// Names that do not exist, and the walk along a search list.
	{Question: "nope.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "nope.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "payment-service.nope.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "nope.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "x.dns-version.cluster.local. TXT", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "x.dns.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "payment-service.finance.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "www.example.com.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "a.b.c.d.e.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "*.finance.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "*.*.svc.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: `payment-service\.finance.svc.cluster.local. A`, Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	{Question: "127-244-0-1.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},

	// The question's spelling comes back; the names are the same.
	{Question: "Payment-SERVICE.finance.Svc.Cluster.LOCAL. A", Answer: "Payment-SERVICE.finance.Svc.Cluster.LOCAL. 5 IN A 10.96.143.7"},
	{
		Question: "_HTTP._Tcp.payment-service.finance.svc.cluster.LOCAL. SRV",
		Answer:   "_HTTP._Tcp.payment-service.finance.svc.cluster.LOCAL. 5 IN SRV 0 100 80 payment-service.finance.svc.cluster.local.",
		Extra:    "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7",
	},

	// ANY is answered with little (RFC 8482).
	{Question: "payment-service.finance.svc.cluster.local. ANY", Answer: `payment-service.finance.svc.cluster.local. 5 IN HINFO "RFC8482" ""`},
	{Question: "stripe.finance.svc.cluster.local. ANY", Answer: "stripe.finance.svc.cluster.local. 5 IN CNAME api.stripe.com."},
	{Question: "nope.finance.svc.cluster.local. ANY", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},

	// localhost stays here, and everything else is for others.
	{Question: "localhost. A", Answer: "localhost. 5 IN A 127.0.0.1"},
	{Question: "web.localhost. AAAA", Answer: "web.localhost. 5 IN AAAA ::1"},
	{Question: "localhost. MX", Ns: soa("localhost.")},
	{Question: "www.example.com. A", Forward: true},
	{Question: "payment-service. A", Forward: true},
	{Question: "local. A", Forward: true},
	{Question: "printer.local. A", Forward: true},
	{Question: "xcluster.local. A", Forward: true},
	{Question: `payment-service.finance.svc\.cluster.local. A`, Forward: true},
	{Question: ". NS", Forward: true},
}

func testServer(t testing.TB) *Server {
	return New(Options{Store: fixture(t), ServiceCIDR: ranges()})
}

func TestClusterNames(t *testing.T) {
	run(t, testServer(t), anyIP(), clusterRows)
}

func TestNamesInLoopbackView(t *testing.T) {
	run(t, testServer(t), loopback(), []row{
		{Question: "payment-service.finance.svc.cluster.local. A", Answer: "payment-service.finance.svc.cluster.local. 5 IN A 127.96.143.7"},
		{Question: "dual.finance.svc.cluster.local. AAAA", Ns: soa("cluster.local.")}, // no twin of its IPv6 address
		{Question: "ns.dns.cluster.local. A", Answer: "ns.dns.cluster.local. 5 IN A 127.96.0.10"},
		{
			// The port is the one that is open in the View.
			Question: "payment-service.finance.svc.cluster.local. SRV",
			Answer: `payment-service.finance.svc.cluster.local. 5 IN SRV 0 50 8080 payment-service.finance.svc.cluster.local.
				payment-service.finance.svc.cluster.local. 5 IN SRV 0 50 9090 payment-service.finance.svc.cluster.local.`,
			Extra: "payment-service.finance.svc.cluster.local. 5 IN A 127.96.143.7",
		},
		{Question: "_http._tcp.only6.finance.svc.cluster.local. SRV", Ns: soa("cluster.local.")},
		{Question: "db-0.db.finance.svc.cluster.local. A", Answer: "db-0.db.finance.svc.cluster.local. 5 IN A 172.18.0.4"},
	})
}

func TestNamesInViewWithoutNameserver(t *testing.T) {
	run(t, testServer(t), View{}, []row{
		{Question: "payment-service.finance.svc.cluster.local. A", Answer: "payment-service.finance.svc.cluster.local. 5 IN A 10.96.143.7"},
		{Question: "ns.dns.cluster.local. AAAA", Ns: soa("cluster.local.")},
		{Question: "cluster.local. NS", Answer: "cluster.local. 5 IN NS ns.dns.cluster.local."},
		{Question: "7.143.96.10.in-addr.arpa. PTR", Answer: "7.143.96.10.in-addr.arpa. 5 IN PTR payment-service.finance.svc.cluster.local."},
	})
}

func TestInsecurePodNames(t *testing.T) {
	s := New(Options{Store: fixture(t), Pods: PodsInsecure})
	run(t, s, anyIP(), []row{
		{Question: "172-0-0-2.finance.pod.cluster.local. A", Answer: "172-0-0-2.finance.pod.cluster.local. 5 IN A 172.0.0.2"},
		{Question: "172-0-0-2.finance.pod.cluster.local. AAAA", Ns: soa("cluster.local.")},
		{Question: "5678-abcd--1.finance.pod.cluster.local. AAAA", Answer: "5678-abcd--1.finance.pod.cluster.local. 5 IN AAAA 5678:abcd::1"},
		{Question: "blah.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "blah.finance.pod.cluster.local. HINFO", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "finance.pod.cluster.local. A", Ns: soa("cluster.local.")},
		{Question: "172-0-0-2.nope.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "172-0-0-256.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "x.172-0-0-2.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	})
}

func TestVerifiedPodNames(t *testing.T) {
	s := New(Options{Store: fixture(t), Pods: PodsVerified})
	run(t, s, anyIP(), []row{
		{Question: "10-240-0-1.finance.pod.cluster.local. A", Answer: "10-240-0-1.finance.pod.cluster.local. 5 IN A 10.240.0.1"},
		{Question: "10-240-0-1.finance.pod.cluster.local. AAAA", Ns: soa("cluster.local.")},
		{Question: "fd00-240--1.finance.pod.cluster.local. AAAA", Answer: "fd00-240--1.finance.pod.cluster.local. 5 IN AAAA fd00:240::1"},
		{Question: "10-240-0-2.finance.pod.cluster.local. A", Answer: "10-240-0-2.finance.pod.cluster.local. 5 IN A 10.240.0.2"},

		// An address of nobody, of a Pod that ended, of a Pod elsewhere.
		{Question: "172-0-0-2.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "10-240-0-3.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "10-240-0-4.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "10-240-0-1.empty.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "10-240-0-1.nope.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},

		// A Pod's own name is none of these.
		{Question: "worker.finance.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
		{Question: "finance.pod.cluster.local. A", Ns: soa("cluster.local.")},
		{Question: "nope.pod.cluster.local. A", Rcode: "NXDOMAIN", Ns: soa("cluster.local.")},
	})
}

func TestEndpointPodNames(t *testing.T) {
	store := fixture(t)
	long := strings.Repeat("x", 64)
	store.Apply(fixtureRevision+1, []registry.Write{
		write(service("finance/named", "None", "http 80/TCP")),
		write(slice("finance/named", "http 80/TCP", "172.18.5.1 pod=web-abc", "172.18.5.2 own pod=web-def",
			"172.18.5.3 pod="+long, "172.18.5.4 pod=with.dot", "172.18.5.5")),
	})
	const domain = ".named.finance.svc.cluster.local."
	soa := strings.Replace(soa("cluster.local."), " 7 7200", " 8 7200", 1)
	run(t, New(Options{Store: store, EndpointPodNames: true}), anyIP(), []row{
		{Question: "web-abc" + domain + " A", Answer: "web-abc" + domain + " 5 IN A 172.18.5.1"},
		{Question: "172-18-5-1" + domain + " A", Rcode: "NXDOMAIN", Ns: soa},
		{Question: "own" + domain + " A", Answer: "own" + domain + " 5 IN A 172.18.5.2"},
		{Question: "172-18-5-3" + domain + " A", Answer: "172-18-5-3" + domain + " 5 IN A 172.18.5.3"},
		{Question: "172-18-5-4" + domain + " A", Answer: "172-18-5-4" + domain + " 5 IN A 172.18.5.4"},
		{Question: "172-18-5-5" + domain + " A", Answer: "172-18-5-5" + domain + " 5 IN A 172.18.5.5"},
		{Question: "1.5.18.172.in-addr.arpa. PTR", Answer: "1.5.18.172.in-addr.arpa. 5 IN PTR web-abc" + domain},
	})
	run(t, New(Options{Store: store}), anyIP(), []row{
		{Question: "web-abc" + domain + " A", Rcode: "NXDOMAIN", Ns: soa},
		{Question: "172-18-5-1" + domain + " A", Answer: "172-18-5-1" + domain + " 5 IN A 172.18.5.1"},
	})
}

// A chain that is too long ends where it is cut, without a claim about its end.
func TestLongChain(t *testing.T) {
	store := fixture(t)
	var writes []registry.Write
	for i := range 2 * maxChain {
		writes = append(writes, write(external(fmt.Sprintf("finance/chain-%d", i), fmt.Sprintf("chain-%d.finance.svc.cluster.local", i+1))))
	}
	store.Apply(fixtureRevision+1, writes)
	s := New(Options{Store: store})
	a, ours := s.Resolve(store.Snapshot(), anyIP(), question(t, "chain-0.finance.svc.cluster.local. A"))
	if !ours || a.Rcode != dns.RcodeSuccess || len(a.Answer) != maxChain || len(a.Ns) > 0 {
		t.Errorf("answer %+v, want %d CNAMEs", a, maxChain)
	}
}

func TestOtherDomain(t *testing.T) {
	s := New(Options{Store: fixture(t), Domain: "Usher.Test"})
	otherSOA := "usher.test. 5 IN SOA ns.dns.usher.test. hostmaster.usher.test. 7 7200 1800 86400 5"
	run(t, s, anyIP(), []row{
		{Question: "payment-service.finance.svc.usher.test. A", Answer: "payment-service.finance.svc.usher.test. 5 IN A 10.96.143.7"},
		{Question: "nope.finance.svc.usher.test. A", Rcode: "NXDOMAIN", Ns: otherSOA},
		{Question: "payment-service.finance.svc.cluster.local. A", Forward: true},
	})
}

// Whether a name exists must not depend on the type asked for: musl takes an
// NXDOMAIN for the AAAA as one for the name, and a resolver that caches may
// take it for everything below (RFC 8020).
func TestExistenceIsTheSameForAllTypes(t *testing.T) {
	s := testServer(t)
	snap := s.store.Snapshot()
	for _, view := range []View{anyIP(), loopback()} {
		for _, r := range append(clusterRows, reverseRows...) {
			if r.Forward {
				continue
			}
			q := question(t, r.Question)
			q.Qtype = dns.TypeA
			want, _ := s.Resolve(snap, view, q)
			if want.Next != "" || len(want.Answer) > 0 && want.Answer[0].Header().Rrtype == dns.TypeCNAME {
				continue // the rcode is that of another name
			}
			for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeANY, dns.TypeSOA, dns.TypeNS, dns.TypeCNAME} {
				q.Qtype = qtype
				if got, ours := s.Resolve(snap, view, q); !ours || got.Rcode != want.Rcode {
					t.Errorf("%s in %s: rcode %s, that of A is %s", q.String(), view.Name, dns.RcodeToString[got.Rcode], dns.RcodeToString[want.Rcode])
				}
			}
		}
	}
}
