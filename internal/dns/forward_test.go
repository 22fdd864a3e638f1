package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// upstream starts a nameserver of a test, over UDP and TCP on one port.
func upstream(t testing.TB, answer dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for range 16 {
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		udp.Close()
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: answer}, {Listener: tcp, Handler: answer}} {
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			if err := server.ActivateAndServe(); err != nil {
				t.Errorf("upstream: %v", err)
			}
		}()
		<-started
		t.Cleanup(func() {
			server.Shutdown()
			<-ended
		})
	}
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// says answers every query with these records.
func says(t testing.TB, zone string) dns.HandlerFunc {
	rrs := parseZone(t, zone)
	return func(w dns.ResponseWriter, req *dns.Msg) {
		reply := new(dns.Msg).SetReply(req)
		reply.RecursionAvailable = true
		reply.Answer = rrs
		w.WriteMsg(reply)
	}
}

// fails answers every query with a code.
func fails(rcode int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, req *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(req, rcode)) }
}

func silent(dns.ResponseWriter, *dns.Msg) {}

// closed returns the address of a port that nobody listens on.
func closed(t testing.TB) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func forwarding(t testing.TB, upstreams ...netip.AddrPort) (*Server, netip.AddrPort) {
	t.Helper()
	s := New(Options{Store: fixture(t), ServiceCIDR: ranges(), Upstreams: func() []netip.AddrPort { return upstreams }})
	return s, start(t, s, anyIP())
}

const exampleA = "www.example.com. 60 IN A 192.0.2.80"

func wantAnswer(t testing.TB, reply *dns.Msg, zone string) {
	t.Helper()
	wantRcode(t, reply, dns.RcodeSuccess)
	if diff := cmp.Diff(zoneText(parseZone(t, zone)), zoneText(reply.Answer)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestForward(t *testing.T) {
	for _, test := range []struct {
		about     string
		upstreams []netip.AddrPort
		atMost    time.Duration
	}{
		{"one upstream", []netip.AddrPort{upstream(t, says(t, exampleA))}, hedgeAfter},
		{"first is silent", []netip.AddrPort{upstream(t, silent), upstream(t, says(t, exampleA))}, time.Second},
		{"first is closed", []netip.AddrPort{closed(t), upstream(t, says(t, exampleA))}, hedgeAfter},
		{"first fails", []netip.AddrPort{upstream(t, fails(dns.RcodeServerFailure)), upstream(t, says(t, exampleA))}, hedgeAfter},
		{"first refuses", []netip.AddrPort{upstream(t, fails(dns.RcodeRefused)), upstream(t, says(t, exampleA))}, hedgeAfter},
		{"second is silent", []netip.AddrPort{upstream(t, says(t, exampleA)), upstream(t, silent)}, hedgeAfter},
	} {
		t.Run(test.about, func(t *testing.T) {
			s, server := forwarding(t, test.upstreams...)
			began := time.Now()
			reply := ask(t, server, "www.example.com. A")
			wantAnswer(t, reply, exampleA)
			if took := time.Since(began); took > test.atMost {
				t.Errorf("took %v, want at most %v", took, test.atMost)
			}
			if reply.Authoritative || !reply.RecursionAvailable {
				t.Errorf("AA %v, RA %v, want false and true", reply.Authoritative, reply.RecursionAvailable)
			}
			if got := s.Stats().Forwarded; got != 1 {
				t.Errorf("%d queries counted as forwarded, want 1", got)
			}
		})
	}
}

// A lost datagram is sent again.
func TestForwardRetransmits(t *testing.T) {
	var seen atomic.Int32
	answer := says(t, exampleA)
	_, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		if seen.Add(1) > 1 {
			answer(w, req)
		}
	}))
	wantAnswer(t, ask(t, server, "www.example.com. A"), exampleA)
}

func TestForwardFailure(t *testing.T) {
	for _, test := range []struct {
		about     string
		upstreams []netip.AddrPort
	}{
		{"silent", []netip.AddrPort{upstream(t, silent)}},
		{"all silent", []netip.AddrPort{upstream(t, silent), upstream(t, silent)}},
		{"closed", []netip.AddrPort{closed(t)}},
		{"failing", []netip.AddrPort{upstream(t, fails(dns.RcodeServerFailure))}},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			_, server := forwarding(t, test.upstreams...)
			began := time.Now()
			wantRcode(t, ask(t, server, "www.example.com. A"), dns.RcodeServerFailure)
			if took := time.Since(began); took > forwardTimeout+time.Second {
				t.Errorf("took %v, want at most %v", took, forwardTimeout)
			}
		})
	}
}

// With no upstream a search walk must end at once, also in musl.
func TestNoUpstream(t *testing.T) {
	plain := start(t, testServer(t), anyIP())
	_, none := forwarding(t)
	for _, server := range []netip.AddrPort{plain, none} {
		for _, name := range []string{"www.example.com. A", "www.example.com. AAAA", "payment-service. A", "8.8.8.8.in-addr.arpa. PTR"} {
			wantRcode(t, ask(t, server, name), dns.RcodeNameError)
		}
	}
}

// A forged answer is not taken, and the true one after it is.
func TestForwardIgnoresForgedAnswers(t *testing.T) {
	forged := parseZone(t, "www.example.com. 60 IN A 203.0.113.66")
	genuine := says(t, exampleA)
	_, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		w.Write([]byte("garbage"))
		for _, edit := range []func(*dns.Msg){
			func(m *dns.Msg) { m.Id++ },
			func(m *dns.Msg) { m.Question[0].Name = "www.example.org." },
			func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
			func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
			func(m *dns.Msg) { m.Question = nil },
			func(m *dns.Msg) { m.Response = false },
		} {
			reply := new(dns.Msg).SetReply(req)
			reply.Answer = forged
			edit(reply)
			w.WriteMsg(reply)
		}
		genuine(w, req)
	}))
	wantAnswer(t, ask(t, server, "www.example.com. A"), exampleA)
}

func TestForwardTruncated(t *testing.T) {
	var zone strings.Builder
	for range 40 {
		zone.WriteString(`www.example.com. 60 IN TXT "` + strings.Repeat("x", 90) + `"` + "\n")
	}
	records := parseZone(t, zone.String())
	_, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		reply := new(dns.Msg).SetReply(req)
		reply.Answer = records
		if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
			reply.Answer, reply.Truncated = records[:1], true
		}
		w.WriteMsg(reply)
	}))
	if reply := ask(t, server, "www.example.com. TXT"); !reply.Truncated {
		t.Errorf("over UDP: not cut:\n%v", reply)
	}
	reply := exchangeWith(t, "tcp", server, newQuery(t, "www.example.com. TXT"))
	if reply.Truncated || len(reply.Answer) != len(records) {
		t.Errorf("over TCP: TC %v, %d records, want all %d", reply.Truncated, len(reply.Answer), len(records))
	}
}

// EDNS and the flags are the client's: it knows how to fall back, we need not.
func TestForwardPassesFlagsOn(t *testing.T) {
	queries := make(chan *dns.Msg, 1)
	answer := says(t, exampleA)
	_, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		queries <- req.Copy()
		answer(w, req)
	}))
	plain := newQuery(t, "www.example.com. A")
	exchangeWith(t, "udp", server, plain)
	if got := <-queries; got.IsEdns0() != nil || !got.RecursionDesired || got.CheckingDisabled {
		t.Errorf("plain query became:\n%v", got)
	}
	flagged := newQuery(t, "www.example.com. A")
	flagged.CheckingDisabled = true
	flagged.SetEdns0(4096, true)
	reply := exchangeWith(t, "udp", server, flagged)
	got := <-queries
	if opt := got.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != udpSize || !got.CheckingDisabled {
		t.Errorf("query with EDNS became:\n%v", got)
	}
	if got.Id == flagged.Id {
		t.Error("the client's ID was used for the upstream")
	}
	if opt := reply.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != udpSize {
		t.Errorf("answer without our EDNS:\n%v", reply)
	}
}

// Our own zone is answered while upstreams hang and every place is taken.
func TestOwnZoneIsIndependentOfUpstreams(t *testing.T) {
	s, server := forwarding(t, upstream(t, silent))
	for range maxForwards {
		s.forward.slots <- struct{}{}
	}
	wantRcode(t, ask(t, server, "www.example.com. A"), dns.RcodeServerFailure)
	if got := s.Stats().ForwardRefused; got != 1 {
		t.Errorf("%d queries counted as refused, want 1", got)
	}
	began := time.Now()
	for range 50 {
		wantRcode(t, ask(t, server, "payment-service.finance.svc.cluster.local. A"), dns.RcodeSuccess)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("50 queries of our zone took %v", took)
	}
}

// Equal queries under way are one query upstream.
func TestForwardSharesQueriesUnderWay(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	answer := says(t, exampleA)
	s, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		if asked.Add(1) == 1 {
			<-release
		}
		answer(w, req)
	}))
	const clients = 10
	replies := make(chan *dns.Msg, clients)
	for range clients {
		go func() {
			client := dns.Client{Timeout: 5 * time.Second}
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), server.String())
			if err != nil {
				t.Error(err)
			}
			replies <- reply
		}()
	}
	waitFor(t, func() bool { return len(s.forward.slots) == clients })
	close(release)
	for range clients {
		if reply := <-replies; reply != nil {
			wantAnswer(t, reply, exampleA)
		}
	}
	// Usually once; a client that comes late asks again.
	if got := asked.Load(); got >= clients {
		t.Errorf("the upstream was asked %d times by %d clients", got, clients)
	}
}

// One more query than are forwarded at once gets its answer, which is that
// there is none, without waiting.
func TestForwardsAreBounded(t *testing.T) {
	s, server := forwarding(t, upstream(t, says(t, exampleA)))
	if maxForwards != 1000 {
		t.Errorf("%d queries are forwarded at once, want 1000 (max_concurrent)", maxForwards)
	}
	for range maxForwards {
		s.forward.slots <- struct{}{}
	}
	wantRcode(t, ask(t, server, "www.example.com. A"), dns.RcodeServerFailure)
	if got := s.Stats().ForwardRefused; got != 1 {
		t.Errorf("%d queries counted as refused, want 1", got)
	}
	<-s.forward.slots
	wantAnswer(t, ask(t, server, "www.example.com. A"), exampleA)
}

// waitFor polls until cond holds.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("what is waited for does not happen")
		}
	}
}

// A resolv.conf that names us must not make a loop.
func TestOwnAddressIsNoUpstream(t *testing.T) {
	var own atomic.Pointer[[]netip.AddrPort]
	s := New(Options{Store: fixture(t), Upstreams: func() []netip.AddrPort { return *own.Load() }})
	server := start(t, s, anyIP())
	own.Store(&[]netip.AddrPort{server})
	wantRcode(t, ask(t, server, "www.example.com. A"), dns.RcodeNameError)

	s.setListening(netip.MustParseAddrPort("0.0.0.0:53"), true)
	got := s.withoutOwn([]netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("127.0.0.1:5353"),
	})
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("127.0.0.1:5353")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("upstreams other than us (-want +got):\n%s", diff)
	}
}

// A loop that goes through another resolver ends at its second turn.
func TestLoopThroughAnotherResolver(t *testing.T) {
	var us atomic.Pointer[string]
	var turns atomic.Int32
	other := upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		turns.Add(1)
		client := dns.Client{Timeout: 3 * time.Second}
		if reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(req.Question[0].Name, req.Question[0].Qtype), *us.Load()); err == nil {
			reply.Id = req.Id
			w.WriteMsg(reply)
		}
	})
	_, server := forwarding(t, other)
	us.Store(new(server.String()))
	wantRcode(t, ask(t, server, "www.example.com. A"), dns.RcodeServerFailure)
	if got := turns.Load(); got > 2 { // the query, and its retransmission
		t.Errorf("the query went around %d times", got)
	}
}

func TestExternalNameThroughUpstream(t *testing.T) {
	const cname = "stripe.finance.svc.cluster.local. 5 IN CNAME api.stripe.com.\n"
	const theirs = "api.stripe.com. 60 IN CNAME edge.stripe.com.\nedge.stripe.com. 60 IN A 192.0.2.9\n"
	_, server := forwarding(t, upstream(t, says(t, theirs)))
	reply := ask(t, server, "stripe.finance.svc.cluster.local. A")
	wantAnswer(t, reply, cname+theirs)
	if reply.Answer[0].Header().Rrtype != dns.TypeCNAME || !reply.Authoritative {
		t.Errorf("the CNAME does not come first, or without AA:\n%v", reply)
	}

	// An upstream that says nothing leaves the CNAME.
	for _, u := range []netip.AddrPort{upstream(t, fails(dns.RcodeServerFailure)), closed(t)} {
		_, server := forwarding(t, u)
		wantAnswer(t, ask(t, server, "stripe.finance.svc.cluster.local. A"), cname)
	}
	wantAnswer(t, ask(t, start(t, testServer(t), anyIP()), "stripe.finance.svc.cluster.local. A"), cname)

	_, server = forwarding(t, upstream(t, fails(dns.RcodeNameError)))
	reply = ask(t, server, "stripe.finance.svc.cluster.local. A")
	wantRcode(t, reply, dns.RcodeNameError)
	if len(reply.Answer) != 1 {
		t.Errorf("an absent target hides the CNAME:\n%v", reply)
	}
}

// The end of a Server ends its queries under way.
func TestForwardEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silentUpstream := upstream(t, func(dns.ResponseWriter, *dns.Msg) { cancel() })
	began := time.Now()
	_, err := newForwarder(nil).race(ctx, []netip.AddrPort{silentUpstream}, newQuery(t, "www.example.com. A"))
	if err == nil || errors.Is(err, errBusy) {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v after the context ended", took)
	}
}
