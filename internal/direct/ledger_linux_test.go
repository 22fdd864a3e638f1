//go:build amd64 || arm64

package direct

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/sockdiag"
	"usher/registry"
)

// TestRemovedBackend checks what becomes of connections to a Backend that is
// removed, or is only not ready, by the annotation of the Service; and that their
// bytes are counted.
func TestRemovedBackend(t *testing.T) {
	needsSockdiag(t)
	for _, tt := range []struct{ way, program string }{{"keep", "here"}, {"close", "EOF"}, {"reset", "connection reset by peer"}} {
		t.Run(tt.way, func(t *testing.T) {
			a, b := backend(t, "a", "127.0.0.1:0"), backend(t, "b", "127.0.0.2:0")
			annotated := func(list ...string) string {
				return strings.Replace(service("web", "10.96.0.7", 80, "TCP", list...), `"namespace":"default"}`,
					`"namespace":"default","annotations":{"usher.internal/removed-backend":"`+tt.way+`"}}`, 1)
			}
			w := newWorld(t, annotated(a)+service("other", "10.96.0.8", 80, "TCP", a))
			_, do := keep(t, w)
			do("10.96.0.7:80")
			do("10.96.0.8:80") // of a Service that does not care
			w.apply(t, strings.Replace(annotated(a), `"addresses"`, `"notReadyAddresses"`, 1))
			until(t, "it is not ready", func() bool { return do("10.96.0.7:80") == "connection refused" })
			if got := do("look"); got != "here" {
				t.Errorf("to one that is not ready: %s", got)
			}
			w.apply(t, annotated(b))
			until(t, "it is removed", func() bool { return do("10.96.0.7:80") == "b" })
			until(t, "the connection is "+tt.program, func() bool { return do("look") == tt.program })
			do("close")
			if got := do("look"); got != "here" {
				t.Errorf("to another Service: %s", got)
			}
			until(t, "the bytes are counted", func() bool {
				w.reports.now(t)
				got := w.reports.counted("web", a)
				resets := map[string]uint64{"reset": got.Connections}[tt.way] // of all that there were
				return got.Connections > 0 && got.BytesDown == 2*got.Connections && got.Resets == resets
			})
		})
	}
}

// TestRest checks that the kernel is asked to tell of ends while there are
// connections, and a few seconds longer, and that what waits to be entered is
// bounded.
func TestRest(t *testing.T) {
	watcher, err := sockdiag.Watch()
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	defer watcher.Close()
	watcher.Leave()
	told := func() bool { // of the end of any socket there is now
		conn, err := net.Dial("tcp", backend(t, "a", "127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		conn.Close()
		var some atomic.Bool
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			for err := error(nil); err == nil && !some.Load(); {
				_, err = watcher.Next(func(s *sockdiag.Socket) {
					if s.Local == local {
						some.Store(true)
					}
				})
			}
		}()
		select {
		case <-closed:
		case <-time.After(100 * time.Millisecond):
			watcher.Close()
			<-closed
		}
		return some.Load()
	}
	l := newLedger(watcher)
	st := &state{started: time.Now()}
	to := netip.MustParseAddrPort(backend(t, "b", "127.0.0.1:0"))
	f := &registry.Frontend{
		FrontendKey: registry.FrontendKey{Address: netip.MustParseAddr("10.96.0.5"), Port: 80, Protocol: "TCP"},
		Backends:    []registry.Backend{{Address: to}},
	}
	st.serve(f)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(unix.AF_INET, to)); err != nil {
		t.Fatal(err)
	}
	for range 2 * maxNoted {
		l.note(&notification{TID: uint32(os.Getpid())}, &dial{fd: fd, blocking: true, pick: st.choose(f.FrontendKey)}, 0)
	}
	if len(l.notes.list) > maxNoted || cap(l.notes.list) > maxNoted {
		t.Errorf("%d openings wait", len(l.notes.list))
	}
	l.lock() // enters them before the program is known
	l.mu.Unlock()
	l.notes.identify()
	if open := (&reporter{ledger: l, state: new(state)}).make().Open; len(open) != 1 || open[0].PID != os.Getpid() {
		t.Errorf("%+v", open)
	}
	for range 10 {
		l.rest()
	}
	if !l.notes.hears || !told() {
		t.Error("nobody tells of ends")
	}
	l.lock()
	for _, c := range l.sockets {
		l.end(c, nil)
	}
	l.mu.Unlock()
	for range 10 {
		l.rest()
	}
	if l.notes.hears || told() {
		t.Error("the kernel tells of ends for nothing")
	}
}

// TestWordIsOnItsWay looks for a connection that is no longer there, again and
// again: until the kernel has had time to say how it ended, it has not.
func TestWordIsOnItsWay(t *testing.T) {
	needsSockdiag(t)
	l := newLedger(nil)
	c := &connection{opening: opening{cookie: 1 << 62, started: time.Now().Add(-time.Minute)}}
	l.sockets[c.cookie], l.pairs[c.Pair] = c, c
	for range 5 {
		if err := l.refresh(); err != nil {
			t.Fatal(err)
		}
	}
	if !c.ended.IsZero() || c.missed.IsZero() {
		t.Errorf("ended at %v, missed since %v", c.ended, c.missed)
	}
}

// TestBoundToDevice checks that a connection is not taken for ended because the
// kernel finds it only among all others.
func TestBoundToDevice(t *testing.T) {
	needsSockdiag(t)
	to := netip.MustParseAddrPort(backend(t, "b", "127.0.0.1:0"))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, "lo"); err != nil {
		t.Skipf("SKIP: bind to a device: %v", err)
	}
	if err := unix.Connect(fd, sockaddr(unix.AF_INET, to)); err != nil {
		t.Fatal(err)
	}
	cookie, err := cookieOf(fd)
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger(nil)
	c := &connection{opening: opening{
		pick: pick{fixed: []netip.AddrPort{to}}, Pair: sockdiag.Pair{Local: rawLocal(fd), Remote: to}, cookie: cookie, answered: true, started: time.Now().Add(-time.Minute),
	}}
	c.missed = time.Now().Add(-time.Minute)
	l.sockets[c.cookie], l.pairs[c.Pair] = c, c
	if err := l.refresh(); err != nil {
		t.Fatal(err)
	}
	if !c.ended.IsZero() || !c.missed.IsZero() || c.state != sockdiag.Established {
		t.Errorf("ended at %v, missed since %v, %v", c.ended, c.missed, c.state)
	}
}
