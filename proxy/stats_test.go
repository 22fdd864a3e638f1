package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"usher/registry"
)

// backendStats returns the counters of a Backend of vip, and whether there are any.
func (h *harness) backendStats(vip, backend netip.AddrPort) (BackendStats, bool) {
	for _, b := range h.statsOf(vip).Backends {
		if b.Address == backend {
			return b, true
		}
	}
	return BackendStats{}, false
}

// TestBackendCounts checks what is counted for each Backend, and that what a
// Frontend has counted stays when a Backend goes.
func TestBackendCounts(t *testing.T) { eachEngine(t, testBackendCounts) }

func testBackendCounts(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, b := serveTCP(t, echo), serveTCP(t, echo)
	h.serve(vip, tcp, ends(a, b)...)
	for range 6 {
		if err := echoOnce(vip); err != nil {
			t.Fatal(err)
		}
	}
	h.awaitEnd(vip)
	before := h.statsOf(vip)
	size := before.BytesUp / 6
	for _, backend := range []netip.AddrPort{a, b} {
		want := BackendStats{Address: backend, Counts: Counts{Connections: 3, BytesUp: 3 * size, BytesDown: 3 * size}}
		if got, _ := h.backendStats(vip, backend); size == 0 || got != want {
			t.Errorf("counts of %s: %+v, want %+v", backend, got, want)
		}
	}
	if before.Connections != 6 {
		t.Errorf("%d connections of the Frontend, want 6", before.Connections)
	}

	h.serve(vip, tcp, ends(a)...)
	waitFor(t, "the counts of a Backend that is gone to go", func() bool {
		_, there := h.backendStats(vip, b)
		return !there && len(h.tallied(vip)) == 1
	})
	if now := h.statsOf(vip); now.Counts != before.Counts {
		t.Errorf("the Frontend has counted %+v, and %+v before a Backend went", now.Counts, before.Counts)
	}
	h.serve(vip, tcp, ends(a, b)...)
	if got, there := h.backendStats(vip, b); !there || got.Counts != (Counts{}) {
		t.Errorf("counts of a Backend that is back: %+v, %v", got, there)
	}
}

// tallied returns the Backends of vip that anything is kept of.
func (h *harness) tallied(vip netip.AddrPort) []netip.AddrPort {
	h.proxy.mu.Lock()
	defer h.proxy.mu.Unlock()
	var list []netip.AddrPort
	for key, f := range h.proxy.frontends {
		for i := range f.parts {
			t := &f.parts[i]
			t.mu.Lock()
			for address := range t.backends {
				if key.AddrPort() == vip && !slices.Contains(list, address) {
					list = append(list, address)
				}
			}
			t.mu.Unlock()
		}
	}
	return list
}

// TestBackendGoneCounts checks that a Backend that is gone has its counts as long
// as something is open, and again when it comes back by then.
func TestBackendGoneCounts(t *testing.T) { eachEngine(t, testBackendGoneCounts) }

func testBackendGoneCounts(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, b := serveTCP(t, echo), serveTCP(t, echo)
	open := func(backend netip.AddrPort) *net.TCPConn {
		t.Helper()
		h.serve(vip, tcp, ends(backend)...)
		c := dialTCP(t, vip)
		if err := exchangeTCP(c, "hello"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := open(a)
	second := open(b)
	waitFor(t, "the counts of a Backend that is gone, with a connection", func() bool {
		got, there := h.backendStats(vip, a)
		return there && got.Gone && got.Counts == Counts{Connections: 1, Active: 1, BytesUp: 5, BytesDown: 5}
	})
	third := open(a)
	waitFor(t, "the counts of a Backend that is back", func() bool {
		got, there := h.backendStats(vip, a)
		return there && !got.Gone && got.Counts == Counts{Connections: 2, Active: 2, BytesUp: 10, BytesDown: 10}
	})
	h.serve(vip, tcp, ends(b)...)
	for _, c := range []*net.TCPConn{first, second, third} {
		if err := exchangeTCP(c, "more"); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	waitFor(t, "the counts of a Backend that is gone to go", func() bool { return slices.Equal(h.tallied(vip), []netip.AddrPort{b}) })
	if got, want := h.statsOf(vip).Counts, (Counts{Connections: 3, BytesUp: 27, BytesDown: 27}); got != want {
		t.Errorf("the Frontend has counted %+v, want %+v", got, want)
	}
}

// TestRetryCounts checks which Backend a failed dial and the next one count for,
// and that what a client said is counted once.
func TestRetryCounts(t *testing.T) { eachEngine(t, testRetryCounts) }

func testRetryCounts(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip, dead, live := freePort(t, "127.96.0.5"), freePort(t, "127.0.0.1"), serveTCP(t, echo)
	h.serve(vip, tcp, ends(dead, live)...)
	for range 4 {
		c := dialTCP(t, vip)
		if err := exchangeTCP(c, "hello"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	h.awaitEnd(vip)
	got, _ := h.backendStats(vip, dead)
	if want := (Counts{DialErrors: 2}); got.Counts != want {
		t.Errorf("counts of the dead Backend: %+v, want %+v", got.Counts, want)
	}
	got, _ = h.backendStats(vip, live)
	if want := (Counts{Connections: 4, Retries: 2, BytesUp: 20, BytesDown: 20}); got.Counts != want {
		t.Errorf("counts of the live one: %+v, want %+v", got.Counts, want)
	}
	h.serve(vip, tcp, ends(dead)...)
	if _, err := ask(vip); !isReset(err) {
		t.Errorf("nobody answers: %v, want a reset", err)
	}
	waitFor(t, "the last dial", func() bool { return h.statsOf(vip).Unserved == 1 })
	if got := h.statsOf(vip); got.Connections != 5 || got.DialErrors != 3 || got.Retries != 2 {
		t.Errorf("the Frontend has counted %+v", got.Counts)
	}
}

// TestFlowCounts checks what is counted of flows.
func TestFlowCounts(t *testing.T) { eachEngine(t, testFlowCounts) }

func testFlowCounts(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, stop := serveUDP(t, "a")
	b, _ := serveUDP(t, "b")
	h.serve(vip, udp, ends(a)...)
	c := dialUDP(t, vip)
	if got, err := exchange(c, "hello"); got != "ahello" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	waitFor(t, "the counts of the first Backend", func() bool {
		got, _ := h.backendStats(vip, a)
		return got.Counts == Counts{Flows: 1, ActiveFlows: 1, BytesUp: 5, BytesDown: 6}
	})
	h.serve(vip, udp, ends(a, b)...)
	stop() // it refuses now
	waitFor(t, "the flow to move", func() bool {
		got, _ := exchange(c, "hello")
		return got == "bhello"
	})
	first, _ := h.backendStats(vip, a)
	second, _ := h.backendStats(vip, b)
	if first.ActiveFlows != 0 || first.DialErrors == 0 || second.ActiveFlows != 1 || second.Flows == 0 || second.Retries == 0 {
		t.Errorf("after the flow has moved: %+v and %+v", first.Counts, second.Counts)
	}
	before := h.statsOf(vip)
	h.serve(vip, udp, ends(b)...)
	waitFor(t, "the counts of the Backend that is gone to go", func() bool { return slices.Equal(h.tallied(vip), []netip.AddrPort{b}) })
	const late = 5 // bytes: the last datagram may have been answered before it was counted
	if now := h.statsOf(vip); now.BytesUp < before.BytesUp || now.BytesUp > before.BytesUp+late || now.DialErrors != before.DialErrors || now.ActiveFlows != before.ActiveFlows {
		t.Errorf("the Frontend has counted %+v, and %+v before", now.Counts, before.Counts)
	}
}

// TestStaleBackendCounts checks that a Backend which is picked as it goes leaves
// nothing behind.
func TestStaleBackendCounts(t *testing.T) {
	f := new(frontend)
	f.now.Store(new(registry.Frontend))
	list := newTallies(f, 1)
	list[0].of(netip.MustParseAddrPort("127.0.0.1:80")).bytesUp.Add(3)
	s := Stats{Frontend: f.now.Load()}
	list[0].addTo(&s, nil)
	if len(list[0].backends) != 0 || s.BytesUp != 3 {
		t.Errorf("%d Backends, %d bytes", len(list[0].backends), s.BytesUp)
	}
}

// connections returns what is open of vip, without times.
func (h *harness) connections(vip netip.AddrPort, limit int) ([]Connection, int) {
	h.t.Helper()
	list, more, err := h.proxy.Connections(h.t.Context(), limit, func(f *registry.Frontend) bool { return f.AddrPort() == vip })
	if err != nil {
		h.t.Error(err)
	}
	for i := range list {
		if age := time.Since(list[i].Started); age < 0 || age > patience {
			h.t.Errorf("the connection of %s is %v old", list[i].Client, age)
		}
		list[i].Started, list[i].Frontend = time.Time{}, nil
	}
	return list, more
}

// TestConnections checks what is said about connections that are open.
func TestConnections(t *testing.T) { eachEngine(t, testConnections) }

func testConnections(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip, other := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
	a := serveTCP(t, echo)
	h.serve(vip, tcp, ends(a)...)
	h.serve(other, tcp, ends(a)...)
	if err := exchangeTCP(dialTCP(t, other), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, vip)
	if err := exchangeTCP(c, "hello"); err != nil {
		t.Fatal(err)
	}
	want := Connection{
		Client: netip.MustParseAddrPort(c.LocalAddr().String()), Listener: vip, Backend: registry.Backend{Address: a, Weight: 1},
		State: Established, BytesUp: 5, BytesDown: 5,
	}
	waitFor(t, "the connection", func() bool { // bytes may be counted after they have come
		got, more := h.connections(vip, 10)
		return len(got) == 1 && got[0] == want && more == 0
	})
	c.Close()
	h.awaitEnd(vip)
	if got, _ := h.connections(vip, 10); len(got) != 0 {
		t.Errorf("after the end: %+v", got)
	}
}

// TestHalfClosedConnection checks the state of a connection of which one
// direction has ended.
func TestHalfClosedConnection(t *testing.T) { eachEngine(t, testHalfClosedConnection) }

func testHalfClosedConnection(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip, release := freePort(t, "127.96.0.5"), make(chan struct{})
	h.serve(vip, tcp, ends(serveTCP(t, func(*net.TCPConn) { <-release }))...)
	defer close(release)
	c := dialTCP(t, vip)
	c.Write([]byte("hello"))
	c.CloseWrite()
	waitFor(t, "a connection half closed", func() bool {
		got, _ := h.connections(vip, 10)
		return len(got) == 1 && got[0].State == HalfClosed && got[0].BytesUp == 5
	})
}

// TestConnecting checks what is said of a connection that nobody has answered.
func TestConnecting(t *testing.T) { overEngine(t, "loop", testConnecting) }

func testConnecting(t *testing.T, start starter) {
	h := start(t, Limits{DialTimeout: time.Minute})
	vip := freePort(t, "127.96.0.5")
	h.serve(vip, tcp, ends(silent(t))...)
	c := dialTCP(t, vip)
	waitFor(t, "a connection without an answer", func() bool {
		got, _ := h.connections(vip, 10)
		return len(got) == 1 && got[0].State == Connecting && got[0].Backend == registry.Backend{}
	})
	c.Close()
}

// TestOpenFlows checks what is said about flows, and the limit.
func TestOpenFlows(t *testing.T) { eachEngine(t, testOpenFlows) }

func testOpenFlows(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	c := dialUDP(t, vip)
	if _, err := exchange(c, "hello"); err != nil {
		t.Fatal(err)
	}
	want := Connection{
		Client: netip.MustParseAddrPort(c.LocalAddr().String()), Listener: vip, Backend: registry.Backend{Address: a, Weight: 1},
		State: Answered, BytesUp: 5, BytesDown: 6,
	}
	waitFor(t, "the flow", func() bool {
		got, more := h.connections(vip, 10)
		return len(got) == 1 && got[0] == want && more == 0
	})
	for range 4 {
		if _, err := exchange(dialUDP(t, vip), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	if got, more := h.connections(vip, 2); len(got) != 2 || more != 3 {
		t.Errorf("with a limit of 2: %d, and %d more", len(got), more)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := h.proxy.Connections(ctx, 2, func(*registry.Frontend) bool { return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}
