package proxy

import (
	"testing"

	"usher/registry"
)

// TestPages checks that a loop looks at a bounded part of its tables at once, and
// at each place once.
func TestPages(t *testing.T) {
	e, err := newLoops(engineOptions{Limits: Limits{MaxDescriptors: 10}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.closeAll()
	l, f := e.all[0], new(frontend)
	f.now.Store(new(registry.Frontend))
	const n = 2*listed + 7
	for i := range n {
		c := l.conns.take()
		c.acceptor, c.client.fd = &acceptor{listener: &loopListener{}, frontend: f}, -1
		c.client.moved = uint64(i)
	}
	seen := make(map[uint64]bool)
	p := &page{q: &query{want: func(*registry.Frontend) bool { return true }, limit: n}, list: make([]Connection, 0, listed)}
	pages := 0
	for ; !p.end; pages++ {
		p.list = p.list[:0]
		l.listConns(p)
		if cap(p.list) != listed {
			t.Fatalf("the memory of a page has grown to %d", cap(p.list))
		}
		for _, c := range p.list {
			seen[c.BytesUp] = true
		}
	}
	if len(seen) != n || pages != 3 {
		t.Errorf("%d of %d connections on %d pages, want 3", len(seen), n, pages)
	}
}

// BenchmarkPage measures for how long a loop does nothing else because somebody
// wants to know what is open: one page.
func BenchmarkPage(b *testing.B) {
	e, err := newLoops(engineOptions{Limits: Limits{MaxDescriptors: 10}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.closeAll()
	raw, err := dialTCP(b, serveTCP(b, echo)).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	l, f := e.all[0], new(frontend)
	f.now.Store(new(registry.Frontend))
	raw.Control(func(fd uintptr) {
		for range listed { // of one socket: the kernel answers each time
			c := l.conns.take()
			c.acceptor, c.client.fd = &acceptor{listener: &loopListener{}, frontend: f}, int32(fd)
		}
		p := &page{q: &query{want: func(*registry.Frontend) bool { return true }, limit: listed}, list: make([]Connection, 0, listed)}
		b.ReportAllocs()
		for b.Loop() {
			p.at, p.list = 0, p.list[:0]
			l.listConns(p)
		}
	})
}
