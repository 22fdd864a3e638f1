package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const udp = corev1.ProtocolUDP

// serveUDP runs a server that answers each datagram with its name and the
// payload. It returns what closes it.
func serveUDP(t testing.TB, name string) (netip.AddrPort, func()) {
	t.Helper()
	p, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := p.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p.WriteToUDPAddrPort(append([]byte(name), buf[:n]...)[:min(n+len(name), 65507)], from)
		}
	})
	stop := sync.OnceFunc(func() {
		p.Close()
		wg.Wait()
	})
	t.Cleanup(stop)
	return netip.MustParseAddrPort(p.LocalAddr().String()), stop
}

// dialUDP returns a connected socket: an answer from elsewhere is not seen.
func dialUDP(t testing.TB, vip netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(vip))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends a datagram and returns the answer.
func exchange(c *net.UDPConn, payload string) (string, error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(payload)); err != nil {
		return "", err
	}
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func TestFlows(t *testing.T) { eachEngine(t, testFlows) }

func testFlows(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	b, _ := serveUDP(t, "b")
	h.serve(vip, udp, ends(a, b)...)
	one, two := dialUDP(t, vip), dialUDP(t, vip)
	first, err := exchange(one, "")
	if err != nil {
		t.Fatalf("an empty datagram: %v", err)
	}
	second, err := exchange(two, "")
	if err != nil || first == second {
		t.Errorf("two clients got %q and %q, %v; want one each", first, second, err)
	}
	for range 10 {
		if got, err := exchange(one, "x"); got != first+"x" || err != nil {
			t.Errorf("the flow answered %q, %v; want %q", got, err, first+"x")
		}
	}
	big := strings.Repeat("x", 65507)
	if got, err := exchange(one, big); got != (first + big)[:65507] || err != nil {
		t.Errorf("65,507 bytes came back as %d, %v", len(got), err)
	}

	// Its backend leaves: the next datagram is answered by the other one.
	stays := b
	if first == "b" {
		stays = a
	}
	h.serve(vip, udp, ends(stays)...)
	if got, err := exchange(one, "x"); got != second+"x" || err != nil {
		t.Errorf("after its backend left: %q, %v", got, err)
	}
	if got, err := exchange(two, "x"); got != second+"x" || err != nil {
		t.Errorf("a flow that was not concerned: %q, %v", got, err)
	}

	// Without backends datagrams are refused, and work again afterwards.
	h.serve(vip, udp)
	if _, err := exchange(one, "x"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without backends: %v, want a refusal", err)
	}
	h.serve(vip, udp, ends(a)...)
	if got, err := exchange(one, "x"); got != "ax" || err != nil {
		t.Errorf("with a backend again: %q, %v", got, err)
	}
	h.remove(vip)
	if _, err := exchange(one, "x"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the end: %v, want a refusal", err)
	}
}

func TestFlowsOfDrainingBackends(t *testing.T) { eachEngine(t, testFlowsOfDrainingBackends) }

func testFlowsOfDrainingBackends(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	b, _ := serveUDP(t, "b")
	h.serve(vip, udp, ends(a)...)
	old := dialUDP(t, vip)
	if got, err := exchange(old, ""); got != "a" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	h.serve(vip, udp, end{addr: a, draining: true}, end{addr: b})
	if got, err := exchange(old, ""); got != "a" || err != nil {
		t.Errorf("a flow of a backend that terminates and serves: %q, %v", got, err)
	}
	if got, err := exchange(dialUDP(t, vip), ""); got != "b" || err != nil {
		t.Errorf("a new flow: %q, %v", got, err)
	}
}

// TestFlowMovesOn checks that a datagram that the kernel says was not
// delivered is sent to another backend.
func TestFlowMovesOn(t *testing.T) { eachEngine(t, testFlowMovesOn) }

func testFlowMovesOn(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, stopA := serveUDP(t, "a")
	b, stopB := serveUDP(t, "b")
	h.serve(vip, udp, ends(a, b, freePort(t, "127.0.0.1"))...)
	c := dialUDP(t, vip)
	got, err := exchange(c, "")
	if err != nil {
		t.Fatal(err)
	}
	want := "b"
	if got == "a" {
		stopA()
	} else {
		stopB()
		want = "a"
	}
	if got, err := exchange(c, "x"); got != want+"x" || err != nil {
		t.Errorf("after its backend died: %q, %v; want the same datagram answered by %s", got, err, want)
	}
}

func TestFlowLimits(t *testing.T) { eachEngine(t, testFlowLimits) }

func testFlowLimits(t *testing.T, start starter) {
	h := start(t, Limits{MaxFlows: 4, FlowUnanswered: 300 * time.Millisecond, FlowIdle: time.Minute})
	vip := freePort(t, "127.96.0.5")
	mute, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	stats := func() (active int64, opened uint64) {
		for s := range h.proxy.Stats() {
			return s.ActiveFlows, s.Flows
		}
		return 0, 0
	}
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	answered := dialUDP(t, vip)
	for range 2 { // a conversation
		if _, err := exchange(answered, ""); err != nil {
			t.Fatal(err)
		}
	}
	h.serve(vip, udp, end{addr: netip.MustParseAddrPort(mute.LocalAddr().String())}, end{addr: a, draining: true})
	for range 20 {
		dialUDP(t, vip).Write([]byte("x"))
	}
	waitFor(t, "20 flows", func() bool { _, n := stats(); return n == 21 })
	if n, _ := stats(); n != 4 {
		t.Errorf("%d flows are open, the limit is 4", n)
	}
	if got, err := exchange(answered, ""); got != "a" || err != nil {
		t.Errorf("a flow with answers had to go before those without: %q, %v", got, err)
	}
	waitFor(t, "unanswered flows to end", func() bool { n, _ := stats(); return n == 1 })
}

// TestForgedClient checks that a datagram that claims to come from another
// Service does not set off an endless exchange between the two.
func TestForgedClient(t *testing.T) { eachEngine(t, testForgedClient) }

func testForgedClient(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	other := freePort(t, "127.96.0.6")
	h.proxy.own.add(other, 1)
	forger, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(other), net.UDPAddrFromAddrPort(vip))
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	forger.Write([]byte("x"))
	forger.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := forger.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a forged datagram was answered: %v", err)
	}
}

// TestFlowsMakeRoom checks that the flow that moved last is not the one to go,
// though its client has been silent for longest.
func TestFlowsMakeRoom(t *testing.T) { eachEngine(t, testFlowsMakeRoom) }

func testFlowsMakeRoom(t *testing.T, start starter) {
	h := start(t, Limits{MaxFlows: 2})
	vip := freePort(t, "127.96.0.5")
	p, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // "stream" is answered by many
		buf := make([]byte, 10)
		for {
			n, from, err := p.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p.WriteToUDPAddrPort([]byte("x"), from)
			if string(buf[:n]) == "stream" {
				wg.Go(func() {
					tick := time.NewTicker(10 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							p.WriteToUDPAddrPort([]byte("x"), from)
						case <-stop:
							return
						}
					}
				})
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	defer p.Close()
	h.serve(vip, udp, ends(netip.MustParseAddrPort(p.LocalAddr().String()))...)
	streaming, quiet := dialUDP(t, vip), dialUDP(t, vip)
	for payload, c := range map[string]*net.UDPConn{"stream": streaming, "once": quiet} {
		if _, err := exchange(c, payload); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // a second, in which the other is idle
		if _, err := streaming.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exchange(dialUDP(t, vip), "once"); err != nil {
		t.Fatal(err)
	}
	for range 200 { // more than what was under way
		if _, err := streaming.Read(make([]byte, 1)); err != nil {
			t.Fatalf("the flow that moved last had to go: %v", err)
		}
		streaming.SetReadDeadline(time.Now().Add(time.Second))
	}
}

// TestEqualFlowLimits checks that flows with an answer stay when there is but
// one limit for both kinds.
func TestEqualFlowLimits(t *testing.T) { eachEngine(t, testEqualFlowLimits) }

func testEqualFlowLimits(t *testing.T, start starter) {
	h := start(t, Limits{MaxFlows: 4, FlowUnanswered: time.Minute, FlowIdle: time.Minute})
	vip := freePort(t, "127.96.0.5")
	mute, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	answered := dialUDP(t, vip)
	for range 2 { // a conversation
		if _, err := exchange(answered, ""); err != nil {
			t.Fatal(err)
		}
	}
	h.serve(vip, udp, end{addr: netip.MustParseAddrPort(mute.LocalAddr().String())}, end{addr: a, draining: true})
	for range 20 {
		dialUDP(t, vip).Write([]byte("x"))
	}
	waitFor(t, "20 flows", func() bool { return h.statsOf(vip).Flows == 21 })
	if _, err := exchange(answered, ""); err != nil || h.statsOf(vip).Flows != 21 {
		t.Errorf("the flow with answers had to go, %v", err)
	}
}

// TestLateAnswers checks that a Backend that was removed cannot reach a client
// any more.
func TestLateAnswers(t *testing.T) { eachEngine(t, testLateAnswers) }

func testLateAnswers(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	late, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	b, _ := serveUDP(t, "b")
	h.serve(vip, udp, ends(netip.MustParseAddrPort(late.LocalAddr().String()))...)
	c := dialUDP(t, vip)
	c.Write([]byte("x"))
	_, from, err := late.ReadFromUDPAddrPort(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	h.serve(vip, udp, ends(b)...)
	late.WriteToUDPAddrPort([]byte("late"), from)
	for range 3 {
		if got, err := exchange(c, "x"); got != "bx" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		late.WriteToUDPAddrPort([]byte("late"), from)
	}
}

// TestFlowLeavesOutWhatIsGone has a Backend refuse that has had a flow for long,
// of a client that gets no answers: the flow does not move on to one that has
// left the Service meanwhile.
func TestFlowLeavesOutWhatIsGone(t *testing.T) { eachEngine(t, testFlowLeavesOutWhatIsGone) }

func testFlowLeavesOutWhatIsGone(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	sinks := make(map[netip.AddrPort]*net.UDPConn)
	sink := func() netip.AddrPort {
		p, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		addr := netip.MustParseAddrPort(p.LocalAddr().String())
		sinks[addr] = p
		return addr
	}
	receives := func(addr netip.AddrPort, within time.Duration) bool {
		sinks[addr].SetReadDeadline(time.Now().Add(within))
		_, _, err := sinks[addr].ReadFromUDPAddrPort(make([]byte, 1))
		return err == nil
	}
	first, gone, late := sink(), sink(), sink()
	h.serve(vip, udp, ends(first, gone)...)
	if h.next(vip, udp) == gone {
		first, gone = gone, first
	}
	client := dialUDP(t, vip)
	client.Write([]byte("x"))
	if !receives(first, patience) {
		t.Fatal("the flow has another Backend")
	}
	h.serve(vip, udp, ends(first, late)...)
	sinks[first].Close()
	arrived := false
	for range 50 { // those that are refused are lost
		client.Write([]byte("x"))
		if arrived = receives(late, 50*time.Millisecond); arrived {
			break
		}
	}
	if !arrived {
		t.Error("the one that has come receives nothing")
	}
	if receives(gone, 50*time.Millisecond) {
		t.Error("the one that has left receives datagrams")
	}
}
