package dns

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestListenIsAllOrNothing(t *testing.T) {
	s := testServer(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().(*net.TCPAddr).AddrPort()
	if _, err := s.Listen(t.Context(), View{Addr: addr}); err == nil {
		t.Fatal("Listen succeeds although TCP is taken")
	} else if want := "listen for DNS on " + addr.String(); !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error = %q, want it to begin with %q", err, want)
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatalf("the UDP socket is left open: %v", err)
	}
	udp.Close()

	l, err := s.Listen(t.Context(), View{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if len(s.listening) != 0 {
		t.Errorf("still listening on %v", s.listening)
	}
}

// Serve ends at once although connections are idle and queries are under way.
func TestServeEndsWithIdleConnection(t *testing.T) {
	s := testServer(t)
	l, err := s.Listen(t.Context(), View{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	conn := &dns.Conn{Conn: dial(t, "tcp", l.Addr())}
	if err := conn.WriteMsg(newQuery(t, "cluster.local. SOA")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ReadMsg(); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Serve does not end")
	}
	if _, err := conn.ReadMsg(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestTCPLimits(t *testing.T) {
	server := start(t, testServer(t), anyIP())
	conn := &dns.Conn{Conn: dial(t, "tcp", server)}
	for i := range tcpQueries {
		if err := conn.WriteMsg(newQuery(t, "cluster.local. SOA")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatalf("query %d: %v", i, err)
		}
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after %d queries: %v, want the end of the connection", tcpQueries, err)
	}
}

func TestConnListenerRefusesWhatIsTooMuch(t *testing.T) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	l := &connListener{TCPListener: tcp, slots: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	addr := tcp.Addr().(*net.TCPAddr).AddrPort()

	dial(t, "tcp", addr)
	held, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	refused := dial(t, "tcp", addr)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if _, err := refused.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a connection over the bound: %v, want it closed", err)
	}
	held.Close()
	held.Close() // its place is given back once
	dial(t, "tcp", addr)
	if c := <-accepted; c == nil {
		t.Error("no place after one was given back")
	} else {
		c.Close()
	}
	if len(l.slots) != 0 {
		t.Errorf("%d places are taken, want 0", len(l.slots))
	}
}

// Who holds connections without a query makes room when others want it.
func TestIdleTimeWhenCrowded(t *testing.T) {
	l := &connListener{slots: make(chan struct{}, 4)}
	for _, want := range []time.Duration{tcpIdle, tcpIdle, tcpIdle, tcpCrowded, tcpCrowded} {
		if got := l.idle(); got != want {
			t.Errorf("with %d of %d places taken: %v, want %v", len(l.slots), cap(l.slots), got, want)
		}
		if len(l.slots) < cap(l.slots) {
			l.slots <- struct{}{}
		}
	}
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// A client that asks and never reads does not hold the goroutine that answers.
func TestConnGivesUpOnClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	l := &connListener{TCPListener: tcp, slots: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	dial(t, "tcp", tcp.Addr().(*net.TCPAddr).AddrPort())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Write(make([]byte, dns.MaxMsgSize)); err != nil {
				failed <- err
				return
			}
		}
	}()
	select {
	case err := <-failed:
		if !isTimeout(err) {
			t.Errorf("write: %v, want a timeout", err)
		}
	case <-time.After(tcpWrite + 5*time.Second):
		t.Error("a write waits for ever")
	}
}
