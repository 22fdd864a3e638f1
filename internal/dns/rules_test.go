package dns

import (
	"testing"

	"github.com/miekg/dns"

	"usher/registry"
)

// mixed has what is rare: a headless Service of both families whose slices
// overlap, Services that share an endpoint, names that look like others.
func mixed(t testing.TB) *registry.Store {
	t.Helper()
	store := registry.NewStore()
	store.Replace(fixtureRevision, []registry.Object{
		namespace("shop"), namespace("infra"),
		service("shop/web", "10.96.1.1", "http 80/TCP", "http 80/UDP"),
		slice("shop/web", "http 8080/TCP", "172.20.0.1 web-a", "172.20.0.2"),
		service("shop/idle", "10.96.1.2", "http 80/TCP"),
		slice("shop/idle", "http 8080/TCP"),

		service("shop/nodes", "None", "http 80/TCP", "peer 7000/TCP"),
		slice("shop/nodes", "http 8080/TCP,peer 7001/TCP", "172.20.0.2", "172.20.0.3", "172.20.0.4 twin", "172.20.0.5 twin"),
		slicePart("v6", slice("shop/nodes", "http 8080/TCP,peer 7001/TCP", "fd00:20::1", "fd00:20::2 six")),
		slicePart("skewed", slice("shop/nodes", "http 8080/TCP,peer 7001/TCP", "172.20.0.3")),

		// Ports that differ between the parts of a rollout.
		service("shop/rollout", "None", "http 80/TCP"),
		slice("shop/rollout", "http 8080/TCP", "172.20.1.1"),
		slicePart("new", slice("shop/rollout", "http 9090/TCP", "172.20.1.2", "172.20.1.3 unready")),

		external("shop/abroad", "api.example.com."),
		external("shop/mapped", "::1"),
		service("infra/svc", "10.96.1.4", "pod 80/TCP"), // the names of labels of the zone
	})
	return store
}

const (
	nodes  = ".nodes.shop.svc.cluster.local."
	absent = "NXDOMAIN"
)

var ruleRows = []row{
	// Both families of a headless Service: each type has its own.
	{
		Question: "nodes.shop.svc.cluster.local. A",
		Answer: `nodes.shop.svc.cluster.local. 5 IN A 172.20.0.2
			nodes.shop.svc.cluster.local. 5 IN A 172.20.0.3
			nodes.shop.svc.cluster.local. 5 IN A 172.20.0.4
			nodes.shop.svc.cluster.local. 5 IN A 172.20.0.5`,
	},
	{
		Question: "nodes.shop.svc.cluster.local. AAAA",
		Answer: `nodes.shop.svc.cluster.local. 5 IN AAAA fd00:20::1
			nodes.shop.svc.cluster.local. 5 IN AAAA fd00:20::2`,
	},
	// N endpoints by M named ports: the endpoint's port, targets each once.
	{
		Question: "_peer._tcp" + nodes + " SRV",
		Answer: `_peer._tcp.nodes.shop.svc.cluster.local. 5 IN SRV 0 14 7001 172-20-0-2.nodes.shop.svc.cluster.local.
			_peer._tcp.nodes.shop.svc.cluster.local. 5 IN SRV 0 14 7001 172-20-0-3.nodes.shop.svc.cluster.local.
			_peer._tcp.nodes.shop.svc.cluster.local. 5 IN SRV 0 14 7001 twin.nodes.shop.svc.cluster.local.
			_peer._tcp.nodes.shop.svc.cluster.local. 5 IN SRV 0 14 7001 fd00-20--1.nodes.shop.svc.cluster.local.
			_peer._tcp.nodes.shop.svc.cluster.local. 5 IN SRV 0 14 7001 six.nodes.shop.svc.cluster.local.`,
		Extra: `172-20-0-2.nodes.shop.svc.cluster.local. 5 IN A 172.20.0.2
			172-20-0-3.nodes.shop.svc.cluster.local. 5 IN A 172.20.0.3
			twin.nodes.shop.svc.cluster.local. 5 IN A 172.20.0.4
			twin.nodes.shop.svc.cluster.local. 5 IN A 172.20.0.5
			fd00-20--1.nodes.shop.svc.cluster.local. 5 IN AAAA fd00:20::1
			six.nodes.shop.svc.cluster.local. 5 IN AAAA fd00:20::2`,
	},
	{
		Question: "_http._tcp.rollout.shop.svc.cluster.local. SRV",
		Answer: `_http._tcp.rollout.shop.svc.cluster.local. 5 IN SRV 0 50 8080 172-20-1-1.rollout.shop.svc.cluster.local.
			_http._tcp.rollout.shop.svc.cluster.local. 5 IN SRV 0 50 9090 172-20-1-2.rollout.shop.svc.cluster.local.`,
		Extra: `172-20-1-1.rollout.shop.svc.cluster.local. 5 IN A 172.20.1.1
			172-20-1-2.rollout.shop.svc.cluster.local. 5 IN A 172.20.1.2`,
	},
	{Question: "bogus.nope.shop.svc.cluster.local. A", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "twin" + nodes + " AAAA", Ns: soa("cluster.local.")},
	{Question: "six" + nodes + " A", Ns: soa("cluster.local.")},
	{Question: "six" + nodes + " AAAA", Answer: "six" + nodes + " 5 IN AAAA fd00:20::2"},
	{Question: "bogus" + nodes + " A", Rcode: absent, Ns: soa("cluster.local.")},

	// One name and number for two protocols are two ports.
	{
		Question: "_http._udp.web.shop.svc.cluster.local. SRV",
		Answer:   "_http._udp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.",
		Extra:    "web.shop.svc.cluster.local. 5 IN A 10.96.1.1",
	},
	{Question: "idle.shop.svc.cluster.local. A", Answer: "idle.shop.svc.cluster.local. 5 IN A 10.96.1.2"},
	{
		Question: "idle.shop.svc.cluster.local. SRV",
		Answer:   "idle.shop.svc.cluster.local. 5 IN SRV 0 100 80 idle.shop.svc.cluster.local.",
		Extra:    "idle.shop.svc.cluster.local. 5 IN A 10.96.1.2",
	},
	{
		Question: "_http._tcp.idle.shop.svc.cluster.local. SRV",
		Answer:   "_http._tcp.idle.shop.svc.cluster.local. 5 IN SRV 0 100 80 idle.shop.svc.cluster.local.",
		Extra:    "idle.shop.svc.cluster.local. 5 IN A 10.96.1.2",
	},

	// Reverse names: skewed slices give one name, two Services give two.
	{Question: "3.0.20.172.in-addr.arpa. PTR", Answer: "3.0.20.172.in-addr.arpa. 5 IN PTR 172-20-0-3" + nodes},
	{
		Question: "2.0.20.172.in-addr.arpa. PTR",
		Answer: `2.0.20.172.in-addr.arpa. 5 IN PTR 172-20-0-2.nodes.shop.svc.cluster.local.
			2.0.20.172.in-addr.arpa. 5 IN PTR 172-20-0-2.web.shop.svc.cluster.local.`,
	},
	{
		Question: "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.d.f.ip6.arpa. PTR",
		Answer:   "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.d.f.ip6.arpa. 5 IN PTR six" + nodes,
	},
	{Question: "3.1.20.172.in-addr.arpa. PTR", Forward: true},                                         // not ready
	{Question: "web.shop.svc.96.10.in-addr.arpa. A", Rcode: absent, Ns: soa("96.10.in-addr.arpa.")},   // a forward name there
	{Question: "1.1.96.10.cluster.local. PTR", Rcode: absent, Ns: soa("cluster.local.")},              // a reverse name here
	{Question: "web.shop.svc.cluster.local. PTR", Ns: soa("cluster.local.")},                          // a type that names lack
	{Question: "1.1.96.10.in-addr.arpa.cluster.local. PTR", Rcode: absent, Ns: soa("cluster.local.")}, // of a search walk
	{Question: "1.1.96.10.in-addr.arpa. PTR", Answer: "1.1.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local."},

	// ExternalName: the final dot does not matter, and nothing is below it.
	{Question: "abroad.shop.svc.cluster.local. CNAME", Answer: "abroad.shop.svc.cluster.local. 5 IN CNAME api.example.com."},
	{Question: "abroad.shop.svc.cluster.local. SRV", Ns: soa("cluster.local.")},
	{Question: "endpoint.abroad.shop.svc.cluster.local. CNAME", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "a.b.abroad.shop.svc.cluster.local. CNAME", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "_http._tcp.abroad.shop.svc.cluster.local. SRV", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "mapped.shop.svc.cluster.local. AAAA", Rcode: absent, Ns: soa("cluster.local.")},

	// The apex has SOA and NS, and nothing else; what is below it has neither.
	{Question: "cluster.local. HINFO", Ns: soa("cluster.local.")},
	{Question: "cluster.local. AAAA", Ns: soa("cluster.local.")},
	{Question: "cluster.local. SRV", Ns: soa("cluster.local.")},
	{Question: "cluster.local. TXT", Ns: soa("cluster.local.")},
	{Question: "svc.cluster.local. NS", Ns: soa("cluster.local.")},
	{Question: "shop.svc.cluster.local. NS", Ns: soa("cluster.local.")},
	{Question: "foo.cluster.local. NS", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "foo.svc.cluster.local. NS", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "web.shop.pood.cluster.local. A", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "a.b.c.d.e.f.pod.cluster.local. A", Rcode: absent, Ns: soa("cluster.local.")},

	// Labels that mean something elsewhere are names like any other.
	{Question: "svc.infra.svc.cluster.local. A", Answer: "svc.infra.svc.cluster.local. 5 IN A 10.96.1.4"},
	{
		Question: "_pod._tcp.svc.infra.svc.cluster.local. SRV",
		Answer:   "_pod._tcp.svc.infra.svc.cluster.local. 5 IN SRV 0 100 80 svc.infra.svc.cluster.local.",
		Extra:    "svc.infra.svc.cluster.local. 5 IN A 10.96.1.4",
	},

	// Neither wildcards nor zonal names nor spellings of an address are names.
	{Question: "*.shop.svc.cluster.local. SRV", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "any.any.svc.cluster.local. A", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "_*._tcp" + nodes + " SRV", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "eu-1.pin._zone" + nodes + " A", Rcode: absent, Ns: soa("cluster.local.")},
	{Question: "172.20.0.2" + nodes + " A", Rcode: absent, Ns: soa("cluster.local.")},
}

func TestRules(t *testing.T) {
	run(t, New(Options{Store: mixed(t), ServiceCIDR: ranges()}), anyIP(), ruleRows)
}

// The spelling of a question comes back in what it owns, so that a resolver
// that mixes cases against forgers takes the answer.
func TestSpellingComesBack(t *testing.T) {
	server := start(t, New(Options{Store: mixed(t)}), anyIP())
	for _, test := range []struct {
		question string
		rcode    int
	}{
		{"WeB.sHoP.SvC.cLuStEr.LoCaL. A", dns.RcodeSuccess},
		{"_HtTp._TcP.wEb.ShOp.SvC.cLuStEr.LoCaL. SRV", dns.RcodeSuccess},
		{"TWIN.nodes.Shop.svc.Cluster.local. A", dns.RcodeSuccess},
		{"Cluster.local. SOA", dns.RcodeSuccess},
		{"1.1.96.10.In-Addr.Arpa. PTR", dns.RcodeSuccess},
		{"NoPe.shop.svc.ClUsTeR.lOcAl. A", dns.RcodeNameError},
	} {
		reply := ask(t, server, test.question)
		wantRcode(t, reply, test.rcode)
		want := question(t, test.question).Name
		if reply.Question[0].Name != want {
			t.Errorf("question is %s, want %s", reply.Question[0].Name, want)
		}
		for _, rr := range reply.Answer {
			if rr.Header().Name != want {
				t.Errorf("answer to %s is owned by %s", want, rr.Header().Name)
			}
		}
	}
}

// Negative answers carry the SOA whose last number says how long they hold, and
// are as authoritative as others.
func TestNegativeAnswers(t *testing.T) {
	server := start(t, New(Options{Store: mixed(t)}), anyIP())
	for _, name := range []string{"nope.shop.svc.cluster.local. A", "web.shop.svc.cluster.local. AAAA", "web.shop.svc.cluster.local. MX"} {
		reply := ask(t, server, name)
		if !reply.Authoritative || len(reply.Ns) != 1 {
			t.Fatalf("%s: AA %v, authority %v", name, reply.Authoritative, reply.Ns)
		}
		got, ok := reply.Ns[0].(*dns.SOA)
		if !ok || got.Hdr.Ttl != ttl || got.Minttl != ttl || got.Serial != fixtureRevision {
			t.Errorf("%s: authority %v", name, reply.Ns[0])
		}
	}
}
