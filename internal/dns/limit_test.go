package dns

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// sent asks n times as client, and returns how much larger the answers were
// than the questions, and how many were cut.
func sent(t *testing.T, handler *responder, client string, query *dns.Msg, n int) (gain, cut int) {
	t.Helper()
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		answer := handler.answerWire(nil, wire, netip.MustParseAddr(client))
		var reply dns.Msg
		if err := reply.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		gain += max(0, len(answer)-query.Len())
		if reply.Truncated && len(reply.Answer) == 0 {
			cut++
			if len(answer) > query.Len() {
				t.Fatalf("an answer that was cut has %d bytes, its question %d", len(answer), query.Len())
			}
		}
	}
	return gain, cut
}

// What a client is sent beyond what it sent is bounded, whatever it asks for;
// another client does not notice.
func TestAmplificationIsBounded(t *testing.T) {
	s := New(Options{Store: manyEndpoints(t, 40)})
	view := anyIP()
	handler := &responder{Server: s, ctx: t.Context(), view: &view}
	for i, name := range []string{"_http._tcp.many.finance.svc.cluster.local. SRV", "nope.finance.svc.cluster.local. A", "many.finance.svc.cluster.local. A"} {
		query := newQuery(t, name)
		query.SetEdns0(65535, false)
		synctest.Test(t, func(t *testing.T) {
			victim, other := fmt.Sprintf("172.18.7.%d", i), fmt.Sprintf("172.18.8.%d", i)
			gain, cut := sent(t, handler, victim, query, 4000)
			if cut == 0 || gain > clientGain {
				t.Errorf("%s: a gain of %d bytes, %d answers cut; want at most %d", name, gain, cut, clientGain)
			}
			if _, cut := sent(t, handler, other, query, 10); cut > 0 {
				t.Errorf("%s: another client has %d of 10 answers cut", name, cut)
			}
			time.Sleep(time.Second)
			if _, cut := sent(t, handler, victim, query, 10); cut > 0 {
				t.Errorf("%s: a second later %d of 10 answers are cut", name, cut)
			}
		})
	}
	if s.Stats().Limited == 0 {
		t.Error("no answer is counted as cut")
	}
}

// Over TCP, where the address of a client is its own, everything is answered.
func TestLimitIsForDatagrams(t *testing.T) {
	s := New(Options{Store: manyEndpoints(t, 200)})
	server := start(t, s, anyIP())
	s.limit.mu.Lock() // the server asks it
	s.limit.clients = map[netip.Addr]*budget{netip.MustParseAddr("127.0.0.1"): {left: -1e9, at: time.Now()}}
	s.limit.mu.Unlock()
	const name = "many.finance.svc.cluster.local. A"
	if reply := ask(t, server, name); !reply.Truncated || len(reply.Answer) > 0 {
		t.Errorf("over UDP: not cut:\n%v", reply)
	}
	if reply := exchangeWith(t, "tcp", server, newQuery(t, name)); reply.Truncated || len(reply.Answer) != 200 {
		t.Errorf("over TCP: TC %v, %d records", reply.Truncated, len(reply.Answer))
	}
}

// The addresses of a client are one client, and a flood of made up ones costs
// bounded memory and no one who is known already.
func TestLimiterClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		addr := netip.MustParseAddr
		if !l.allow(addr("2001:db8::1"), clientGain) || l.allow(addr("2001:db8::ffff"), 1) || !l.allow(addr("2001:db8:0:1::1"), 1) {
			t.Error("a host of IPv6 is not its network")
		}
		if !l.allow(addr("192.0.2.1"), clientGain) || l.allow(addr("::ffff:192.0.2.1"), 1) {
			t.Error("an IPv4 address is another when written as IPv6")
		}
		if !l.allow(addr("127.0.0.1"), localGain) || l.allow(addr("127.0.0.1"), 1) || !l.allow(addr("192.0.2.1"), 0) {
			t.Error("loopback has another budget, or what gains nothing is bounded")
		}
		time.Sleep(time.Second)
		known := addr("192.0.2.2")
		l.allow(known, 1)
		a := addr("198.18.0.0")
		for range 2 * limitedClients {
			l.allow(a, clientGain/4)
			a = a.Next()
		}
		if len(l.clients) > limitedClients {
			t.Errorf("%d clients are remembered, want at most %d", len(l.clients), limitedClients)
		}
		if l.allow(a, clientGain/4) {
			t.Error("clients over the bound are not bounded together")
		}
		if !l.allow(known, clientGain/2) {
			t.Error("one who is known is taken for one of them")
		}
		time.Sleep(time.Second)
		if !l.allow(a, clientGain) || len(l.clients) > 1 {
			t.Errorf("%d clients are remembered after a second of silence, want 1", len(l.clients))
		}
	})
}

// ANY gains next to nothing, of our names and of others.
func TestAnyIsMinimal(t *testing.T) {
	_, server := forwarding(t, upstream(t, func(dns.ResponseWriter, *dns.Msg) { t.Error("ANY was forwarded") }))
	for _, name := range []string{"www.example.com. ANY", "payment-service.finance.svc.cluster.local. ANY", "db.finance.svc.cluster.local. ANY", "cluster.local. ANY"} {
		reply := ask(t, server, name)
		wantRcode(t, reply, dns.RcodeSuccess)
		if len(reply.Answer) != 1 || len(reply.Ns)+len(reply.Extra) > 0 || reply.Answer[0].Header().Rrtype != dns.TypeHINFO {
			t.Errorf("%s:\n%v", name, reply)
		}
	}
}
