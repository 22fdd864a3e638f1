package dns

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// bareHeader promises a question and ends.
var bareHeader = []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}

// A message that promises a question and has none is refused, and the server
// goes on.
func TestBareHeader(t *testing.T) {
	s := testServer(t)
	server := start(t, s, anyIP())
	for _, network := range []string{"udp", "tcp"} {
		conn := &dns.Conn{Conn: dial(t, network, server)}
		if _, err := conn.Write(bareHeader); err != nil {
			t.Fatal(err)
		}
		reply, err := conn.ReadMsg()
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		wantRcode(t, reply, dns.RcodeFormatError)
		if reply.Id != 0x1234 {
			t.Errorf("%s: the answer has ID %#x", network, reply.Id)
		}
		wantRcode(t, exchangeWith(t, network, server, newQuery(t, "cluster.local. SOA")), dns.RcodeSuccess)
	}
	want := []QueryCount{{"SOA", "NOERROR", 2}, {"other", "FORMERR", 2}}
	if diff := cmp.Diff(want, s.Stats().Queries); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// A panic while one query is answered is logged, and is that query's SERVFAIL.
func TestPanic(t *testing.T) {
	log := make(lines, 8)
	s := New(Options{Store: fixture(t), Log: slog.New(slog.NewTextHandler(log, nil))})
	view := anyIP()
	view.Address = func(netip.Addr) netip.Addr { panic("this view is broken") }
	server := start(t, s, view)
	for _, network := range []string{"udp", "tcp"} {
		reply := exchangeWith(t, network, server, newQuery(t, "payment-service.finance.svc.cluster.local. A"))
		wantRcode(t, reply, dns.RcodeServerFailure)
		if line := <-log; !strings.Contains(line, "panic: this view is broken") || !strings.Contains(line, "payment-service.finance") {
			t.Errorf("log: %s", line)
		}
		wantRcode(t, exchangeWith(t, network, server, newQuery(t, "cluster.local. SOA")), dns.RcodeSuccess)
	}
}

// lines gets each line of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// Upstreams are asked in goroutines of their own: a panic there is an error.
func TestPanicAtUpstream(t *testing.T) {
	_, err := exchange(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), nil)
	if err == nil || !strings.Contains(err.Error(), "ask 127.0.0.1:1: panic: ") {
		t.Errorf("error %v", err)
	}
}
