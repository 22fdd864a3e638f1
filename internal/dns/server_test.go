package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"usher/registry"
)

// start serves a View of s on a free port of 127.0.0.1 until the test ends.
func start(t testing.TB, s *Server, v View) netip.AddrPort {
	t.Helper()
	v.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	l, err := s.Listen(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Serve does not end with its context")
		}
	})
	return l.Addr()
}

// exchangeWith sends a query over "udp" or "tcp".
func exchangeWith(t testing.TB, network string, server netip.AddrPort, query *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize - 1}
	reply, _, err := client.Exchange(query, server.String())
	if err != nil {
		t.Fatalf("%s query for %s: %v", network, query.Question[0].String(), err)
	}
	return reply
}

func ask(t testing.TB, server netip.AddrPort, text string) *dns.Msg {
	t.Helper()
	return exchangeWith(t, "udp", server, newQuery(t, text))
}

func newQuery(t testing.TB, text string) *dns.Msg {
	q := question(t, text)
	query := new(dns.Msg).SetQuestion(q.Name, q.Qtype)
	return query
}

func wantRcode(t testing.TB, reply *dns.Msg, want int) {
	t.Helper()
	if reply.Rcode != want {
		t.Errorf("rcode = %s, want %s:\n%v", dns.RcodeToString[reply.Rcode], dns.RcodeToString[want], reply)
	}
}

func TestServeUDPAndTCP(t *testing.T) {
	server := start(t, testServer(t), loopback())
	for _, network := range []string{"udp", "tcp"} {
		reply := exchangeWith(t, network, server, newQuery(t, "Payment-service.finance.svc.cluster.local. A"))
		want := []string{"Payment-service.finance.svc.cluster.local.\t5\tIN\tA\t127.96.143.7"}
		if diff := cmp.Diff(want, zoneText(reply.Answer)); diff != "" {
			t.Errorf("%s answer (-want +got):\n%s", network, diff)
		}
		if !reply.Authoritative || reply.Question[0].Name != "Payment-service.finance.svc.cluster.local." {
			t.Errorf("%s: not authoritative, or another question:\n%v", network, reply)
		}
	}
	// The nameserver tells its own address, not one it was asked to pick.
	reply := ask(t, server, "ns.dns.cluster.local. A")
	if diff := cmp.Diff([]string{"ns.dns.cluster.local.\t5\tIN\tA\t127.0.0.1"}, zoneText(reply.Answer)); diff != "" {
		t.Errorf("address of the nameserver (-want +got):\n%s", diff)
	}
}

func TestNotSynced(t *testing.T) {
	store := registry.NewStore()
	server := start(t, New(Options{Store: store, ServiceCIDR: ranges()}), anyIP())
	names := []string{
		"payment-service.finance.svc.cluster.local. A", "nope.finance.svc.cluster.local. AAAA",
		"cluster.local. SOA", "7.143.96.10.in-addr.arpa. PTR",
	}
	for _, name := range names {
		reply := ask(t, server, name)
		wantRcode(t, reply, dns.RcodeServerFailure)
	}
	store.Replace(fixtureRevision, fixtureObjects())
	for _, name := range names {
		if reply := ask(t, server, name); reply.Rcode == dns.RcodeServerFailure {
			t.Errorf("%s is SERVFAIL after the sync", name)
		}
	}
	store.Apply(fixtureRevision+1, []registry.Write{{Key: registry.Key{Kind: registry.Services, Namespace: "finance", Name: "payment-service"}}})
	wantRcode(t, ask(t, server, names[0]), dns.RcodeNameError)
}

func TestRefusals(t *testing.T) {
	server := start(t, testServer(t), anyIP())
	const name = "payment-service.finance.svc.cluster.local. A"
	for _, test := range []struct {
		about string
		want  int
		edit  func(*dns.Msg)
	}{
		{"transfer", dns.RcodeRefused, func(m *dns.Msg) { m.SetAxfr("cluster.local.") }},
		{"incremental transfer", dns.RcodeRefused, func(m *dns.Msg) { m.SetIxfr("cluster.local.", 1, "a.", "b.") }},
		{"transfer of a foreign zone", dns.RcodeRefused, func(m *dns.Msg) { m.SetAxfr("example.com.") }},
		{"class CHAOS", dns.RcodeRefused, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }},
		{"class ANY", dns.RcodeRefused, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }},
		{"notify", dns.RcodeNotImplemented, func(m *dns.Msg) { m.SetNotify("cluster.local.") }},
		{"update", dns.RcodeNotImplemented, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }},
		{"EDNS version 1", dns.RcodeBadVers, func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }},
		{"two questions", dns.RcodeFormatError, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }},
		{"no question", dns.RcodeFormatError, func(m *dns.Msg) { m.Question = nil }},
	} {
		t.Run(test.about, func(t *testing.T) {
			query := newQuery(t, name)
			test.edit(query)
			reply := rawExchange(t, server, query)
			wantRcode(t, reply, test.want)
			if len(reply.Answer) > 0 {
				t.Errorf("a refusal has an answer:\n%v", reply)
			}
		})
	}
}

// rawExchange sends what a dns.Client would not.
func rawExchange(t *testing.T, server netip.AddrPort, query *dns.Msg) *dns.Msg {
	t.Helper()
	conn := dial(t, "udp", server)
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	reply, err := (&dns.Conn{Conn: conn, UDPSize: 4096}).ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func dial(t *testing.T, network string, server netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, server.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// What is no query gets no answer: two resolvers that answer answers never
// stop. Garbage before it must not keep the next query from being answered.
func TestResponsesAndGarbageAreIgnored(t *testing.T) {
	server := start(t, testServer(t), anyIP())
	conn := dial(t, "udp", server)
	response := newQuery(t, "cluster.local. SOA")
	response.Response, response.Id = true, 1
	wire, _ := response.Pack()
	for _, packet := range [][]byte{wire, {}, {1}, []byte(strings.Repeat("\xc0\x0c", 6)), make([]byte, 11)} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	query := newQuery(t, "cluster.local. SOA")
	query.Id = 2
	wire, _ = query.Pack()
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	for {
		reply, err := (&dns.Conn{Conn: conn}).ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		switch reply.Id {
		case 1:
			t.Fatalf("a response was answered:\n%v", reply)
		case 2:
			return
		}
	}
}

// manyEndpoints is a headless Service with n ready endpoints.
func manyEndpoints(t *testing.T, n int) *registry.Store {
	t.Helper()
	store := fixture(t)
	var endpoints []string
	for i := range n {
		endpoints = append(endpoints, fmt.Sprintf("172.18.%d.%d", 100+i/250, i%250))
	}
	store.Apply(fixtureRevision+1, []registry.Write{
		write(service("finance/many", "None", "http 80/TCP")),
		write(slice("finance/many", "http 80/TCP", endpoints...)),
	})
	return store
}

func write(obj registry.Object) registry.Write {
	return registry.Write{Key: registry.KeyOf(obj), Object: obj}
}

func TestTruncation(t *testing.T) {
	const n = 200
	server := start(t, New(Options{Store: manyEndpoints(t, n)}), anyIP())
	for _, name := range []string{"many.finance.svc.cluster.local. A", "_http._tcp.many.finance.svc.cluster.local. SRV"} {
		for _, test := range []struct {
			offers uint16 // 0: without EDNS
			fits   int
		}{{0, 512}, {100, 512}, {700, 700}, {1232, 1232}, {65535, 1232}} {
			query := newQuery(t, name)
			if test.offers > 0 {
				query.SetEdns0(test.offers, false)
			}
			wire, _ := query.Pack()
			conn := dial(t, "udp", server)
			if _, err := conn.Write(wire); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 65535)
			size, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			var reply dns.Msg
			if err := reply.Unpack(buf[:size]); err != nil {
				t.Fatal(err)
			}
			if size > test.fits || !reply.Truncated {
				t.Errorf("%s offering %d: %d bytes, TC %v; want at most %d and TC", name, test.offers, size, reply.Truncated, test.fits)
			}
			if got, want := reply.IsEdns0() != nil, test.offers > 0; got != want {
				t.Errorf("%s offering %d: EDNS in the answer %v, want %v", name, test.offers, got, want)
			}
		}
		whole := exchangeWith(t, "tcp", server, newQuery(t, name))
		if whole.Truncated || len(whole.Answer) != n {
			t.Errorf("%s over TCP: TC %v, %d records, want all %d", name, whole.Truncated, len(whole.Answer), n)
		}
	}
}

func TestAddressesAreShuffled(t *testing.T) {
	server := start(t, testServer(t), anyIP())
	first := make(map[string]bool)
	for range 200 {
		reply := ask(t, server, "db.finance.svc.cluster.local. A")
		first[reply.Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v of three addresses ever came first", first)
	}
	reply := ask(t, server, "alias2.finance.svc.cluster.local. A")
	var types []uint16
	for _, rr := range reply.Answer {
		types = append(types, rr.Header().Rrtype)
	}
	if diff := cmp.Diff([]uint16{dns.TypeCNAME, dns.TypeCNAME, dns.TypeA}, types); diff != "" {
		t.Errorf("order of a chain (-want +got):\n%s", diff)
	}
}

// Queries are answered from one consistent Snapshot while the Store changes.
func TestConcurrentQueriesAndChanges(t *testing.T) {
	store := fixture(t)
	server := start(t, New(Options{Store: store}), anyIP())
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		for revision := int64(fixtureRevision + 1); ; revision++ {
			select {
			case <-stop:
				return
			default:
			}
			a, b := "172.18.9.1", "172.18.9.2"
			if revision%2 == 0 {
				a, b = "172.18.9.3", "172.18.9.4"
			}
			store.Apply(revision, []registry.Write{
				write(service("finance/flip", "None", "http 80/TCP")),
				write(slice("finance/flip", "http 80/TCP", a, b)),
			})
		}
	})
	for range 8 {
		readers.Go(func() {
			client := dns.Client{Timeout: 5 * time.Second}
			for range 100 {
				query := new(dns.Msg).SetQuestion("flip.finance.svc.cluster.local.", dns.TypeA)
				reply, _, err := client.Exchange(query, server.String())
				if err != nil {
					t.Error(err)
					return
				}
				var got []string
				for _, rr := range reply.Answer {
					got = append(got, rr.(*dns.A).A.String())
				}
				slices.Sort(got)
				if text := strings.Join(got, " "); text != "" && text != "172.18.9.1 172.18.9.2" && text != "172.18.9.3 172.18.9.4" {
					t.Errorf("addresses of two revisions in one answer: %s", text)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
}

func TestStats(t *testing.T) {
	s := testServer(t)
	server := start(t, s, anyIP())
	ask(t, server, "payment-service.finance.svc.cluster.local. A")
	ask(t, server, "payment-service.finance.svc.cluster.local. A")
	ask(t, server, "nope.finance.svc.cluster.local. AAAA")
	ask(t, server, "payment-service.finance.svc.cluster.local. LOC")
	wantRcode(t, exchangeWith(t, "tcp", server, newQuery(t, "payment-service.finance.svc.cluster.local. A")), dns.RcodeSuccess)
	want := Stats{
		Queries:  []QueryCount{{"A", "NOERROR", 3}, {"AAAA", "NXDOMAIN", 1}, {"other", "NOERROR", 1}},
		Requests: []RequestCount{{Type: "other", Count: 1}, {Type: "A", Count: 2}, {Type: "A", TCP: true, Count: 1}, {Type: "AAAA", Count: 1}},
	}
	var got Stats
	for got = s.Stats(); got.Took.Count < 5; got = s.Stats() { // counted after the answer is sent
		runtime.Gosched()
	}
	if took := got.Took; took.Sum <= 0 || took.Count != 5 || !slices.IsSorted(took.Below[:]) || took.Below[durationBounds-1] != 5 {
		t.Errorf("durations %+v", took)
	}
	got.Took = Durations{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// Go's resolver, which refuses referrals and mismatched questions.
func TestGoResolver(t *testing.T) {
	server := start(t, testServer(t), loopback())
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server.String())
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	addrs, err := resolver.LookupHost(ctx, "payment-service.finance.svc.cluster.local.")
	if diff := cmp.Diff([]string{"127.96.143.7"}, addrs); diff != "" || err != nil {
		t.Errorf("LookupHost: %v (-want +got):\n%s", err, diff)
	}
	_, srvs, err := resolver.LookupSRV(ctx, "http", "tcp", "payment-service.finance.svc.cluster.local.")
	if err != nil || len(srvs) != 1 || srvs[0].Port != 8080 {
		t.Errorf("LookupSRV = %v, %v", srvs, err)
	}
	names, err := resolver.LookupAddr(ctx, "127.96.143.7")
	if diff := cmp.Diff([]string{"payment-service.finance.svc.cluster.local."}, names); diff != "" || err != nil {
		t.Errorf("LookupAddr: %v (-want +got):\n%s", err, diff)
	}
	_, err = resolver.LookupHost(ctx, "nope.finance.svc.cluster.local.")
	if e, ok := err.(*net.DNSError); !ok || !e.IsNotFound {
		t.Errorf("LookupHost of no Service: %v, want not found", err)
	}
}

// musl sends A and AAAA of each name of a search walk at once, gives up when
// one of them says that the name does not exist while the other has it, and
// asks again for 5 s when one is SERVFAIL, REFUSED or not answered.
func TestSearchWalkAsMuslDoesIt(t *testing.T) {
	server := start(t, testServer(t), anyIP())
	for _, name := range []string{"payment-service.finance", "unnamed", "db", "only6", "nope", "nope.finance", "www.example.com"} {
		var found bool
		for _, suffix := range []string{".finance.svc.cluster.local.", ".svc.cluster.local.", ".cluster.local.", "."} {
			conn := &dns.Conn{Conn: dial(t, "udp", server)}
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name+suffix, qtype)); err != nil {
					t.Fatal(err)
				}
			}
			var rcodes [2]int
			answers := 0
			for i := range rcodes {
				reply, err := conn.ReadMsg()
				if err != nil {
					t.Fatalf("%s%s: %v", name, suffix, err)
				}
				rcodes[i] = reply.Rcode
				answers += len(reply.Answer)
			}
			if rcodes[0] != rcodes[1] || rcodes[0] != dns.RcodeSuccess && rcodes[0] != dns.RcodeNameError {
				t.Errorf("%s%s: rcodes %v", name, suffix, rcodes)
			}
			if found = answers > 0; found || rcodes[0] == dns.RcodeSuccess {
				break // also where the name has no address: musl ends its walk there
			}
		}
		if want := !strings.HasPrefix(name, "nope") && name != "www.example.com"; found != want {
			t.Errorf("%s: found %v, want %v", name, found, want)
		}
	}
}
