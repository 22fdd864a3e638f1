package proxy

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of this file look into the portable engine.

// startPortable starts a harness, and returns its engine.
func startPortable(t *testing.T, limits Limits) (*harness, *portable) {
	h := startWith(t, limits, newSetup(t, engines["portable"]))
	return h, h.proxy.engine.(*portable)
}

// listenerOf returns the listener at vip.
func (h *harness) listenerOf(vip ListenAddr) listener {
	for _, f := range h.proxy.frontends {
		if l := f.open.get(vip); l != nil {
			return l
		}
	}
	h.t.Fatalf("%s is not listened at", vip)
	return nil
}

// TestFlowForgetsItsLargestDatagram checks that a flow does not hold on to
// what has been answered.
func TestFlowForgetsItsLargestDatagram(t *testing.T) {
	h, _ := startPortable(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	c := dialUDP(t, vip)
	for _, payload := range []string{"x", strings.Repeat("x", 60000)} {
		if _, err := exchange(c, payload); err != nil {
			t.Fatal(err)
		}
	}
	l := h.listenerOf(ListenAddr{AddrPort: vip}).(*udpListener)
	waitFor(t, "the datagram to be forgotten", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.flows {
			return cap(f.last) <= keptDatagram
		}
		return false
	})
	if got, err := exchange(c, ""); got != "a" || err != nil {
		t.Errorf("an empty datagram afterwards: %q, %v", got, err)
	}
}

// TestReceiveDoesNotSpin checks that an error that stays costs little.
func TestReceiveDoesNotSpin(t *testing.T) {
	h, _ := startPortable(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	l := h.listenerOf(ListenAddr{AddrPort: vip}).(*udpListener)
	before := cpuTime(t)
	l.conn.SetReadDeadline(past)
	time.Sleep(300 * time.Millisecond) // the time in which it would spin
	if took := cpuTime(t) - before; took > 100*time.Millisecond {
		t.Errorf("300 ms of errors took %v of the processor", took)
	}
	l.conn.SetReadDeadline(time.Time{})
	if got, err := exchange(dialUDP(t, vip), "x"); got != "ax" || err != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// cpuTime returns what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestPanic checks that a connection that panics leaves nothing open.
func TestPanic(t *testing.T) {
	h, e := startPortable(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	result := make(chan error, 1)
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		_, err := c.Read(make([]byte, 1))
		result <- err
	}))...)
	e.mu.Lock()
	pipes := e.pipes
	e.pipes = nil // to which nothing can be added
	e.mu.Unlock()
	if _, err := ask(vip); !isReset(err) {
		t.Errorf("the client read %v, want a reset", err)
	}
	if err := <-result; !isReset(err) {
		t.Errorf("the backend read %v, want a reset", err)
	}
	e.mu.Lock()
	e.pipes = pipes
	e.mu.Unlock()
}
