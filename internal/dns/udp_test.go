package dns

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// Who waits for an upstream holds up nobody else, however few read the socket.
func TestForwardedOverUDPHoldUpNobody(t *testing.T) {
	const n = 4 * maxReaders
	var asked atomic.Int32
	release := make(chan struct{})
	_, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		asked.Add(1)
		<-release
		w.WriteMsg(new(dns.Msg).SetReply(req))
	}))
	defer close(release)
	conn, err := net.Dial("udp", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range n {
		wire, err := newQuery(t, fmt.Sprintf("www%d.example.com. A", i)).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(wire); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return asked.Load() >= n })
	wantRcode(t, ask(t, server, "payment-service.finance.svc.cluster.local. A"), dns.RcodeSuccess)
}

// What is no query gets a refusal, or nothing at all.
func TestNoQueries(t *testing.T) {
	view := anyIP()
	handler := &responder{Server: testServer(t), ctx: t.Context(), view: &view}
	query := func(change func(*dns.Msg)) []byte {
		m := newQuery(t, "payment-service.finance.svc.cluster.local. A")
		change(m)
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	tests := []struct {
		name  string
		wire  []byte
		rcode int // -1: no answer
	}{
		{"empty", nil, -1},
		{"short of a header", bareHeader[:headerSize-1], -1},
		{"a response", query(func(m *dns.Msg) { m.Response = true }), -1},
		{"an update", query(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"two questions", query(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"a name cut short", query(func(*dns.Msg) {})[:headerSize+5], dns.RcodeFormatError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer := handler.answerWire(make([]byte, 2*udpSize), tt.wire, view.Addr.Addr())
			if tt.rcode < 0 {
				if answer != nil {
					t.Errorf("answered % x", answer)
				}
				return
			}
			var reply dns.Msg
			if err := reply.Unpack(answer); err != nil {
				t.Fatal(err)
			}
			wantRcode(t, &reply, tt.rcode)
			if reply.Id != uint16(tt.wire[0])<<8|uint16(tt.wire[1]) || !reply.Response || len(answer) != headerSize {
				t.Errorf("answered % x", answer)
			}
		})
	}
}
