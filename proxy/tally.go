package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// A tally is what one part of an engine, such as a loop, counts for a Frontend
// and for each of its Backends: nobody else writes to its cache lines. A loop
// changes it without a lock, but for when a Backend comes or goes.
type tally struct {
	counters // of the Frontend as a whole
	frontend *frontend

	// mu guards what follows. Who owns the tally, and alone changes it, need not
	// hold mu to read.
	mu       sync.Mutex
	backends map[netip.AddrPort]*counters // of those that were dialled
	gone     *counters                    // what those had that are gone

	_ [32]byte // up to whole cache lines
}

// counters are those of a Frontend, or of one Backend.
type counters struct {
	connections, bytesUp, bytesDown, dialErrors, retries, unserved, resets, flows, dropped atomic.Uint64

	active, activeFlows atomic.Int64

	left atomic.Bool // its Backend is gone

	_ [36]byte // up to two cache lines
}

// idle reports whether nothing is open that counts here.
func (c *counters) idle() bool { return c.active.Load() == 0 && c.activeFlows.Load() == 0 }

// newTallies returns a tally for each part of an engine.
func newTallies(f *frontend, parts int) []tally {
	list := make([]tally, parts)
	for i := range list {
		list[i].frontend = f
	}
	return list
}

// of returns the counters of a Backend. Only who owns the tally calls it.
func (t *tally) of(address netip.AddrPort) *counters {
	if c := t.backends[address]; c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ofLocked(address)
}

// ofLocked is of for a caller who holds mu.
func (t *tally) ofLocked(address netip.AddrPort) *counters {
	if c := t.backends[address]; c != nil {
		return c
	}
	if t.frontend.now.Load().Serving(address) == nil { // it has gone since it was picked
		return t.goneLocked()
	}
	if t.backends == nil {
		t.backends = make(map[netip.AddrPort]*counters)
	}
	c := new(counters)
	t.backends[address] = c
	return c
}

func (t *tally) goneLocked() *counters {
	if t.gone == nil {
		t.gone = new(counters)
	}
	return t.gone
}

// count changes the counters of a Backend, and returns them. It is of for an owner
// with many goroutines.
func (t *tally) count(address netip.AddrPort, change func(*counters)) *counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.ofLocked(address)
	change(c)
	return c
}

// stale reports whether a Backend has gone, or come back, since tidy.
func (t *tally) stale() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.frontend.now.Load()
	for address, c := range t.backends {
		if c.left.Load() == (now.Serving(address) != nil) {
			return true
		}
	}
	return false
}

// tidy lets go of the counters of Backends that are gone: those in use once
// they are not, by leave. Only who owns the tally calls it.
func (t *tally) tidy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.frontend.now.Load()
	for address, c := range t.backends {
		c.left.Store(now.Serving(address) == nil)
		t.dropLocked(address, c)
	}
}

// leave is called after something has ended that counts in c, the counters of a
// Backend. Only who owns the tally calls it.
func (t *tally) leave(address netip.AddrPort, c *counters) {
	if c.left.Load() && c.idle() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.dropLocked(address, c)
	}
}

// dropLocked adds c, of a Backend that is gone, to those of all that are, unless
// something is open yet: a count of the Frontend never becomes less.
func (t *tally) dropLocked(address netip.AddrPort, c *counters) {
	if !c.left.Load() || !c.idle() || t.backends[address] != c {
		return
	}
	delete(t.backends, address)
	to := t.goneLocked()
	to.bytesUp.Add(c.bytesUp.Load())
	to.bytesDown.Add(c.bytesDown.Load())
	to.dialErrors.Add(c.dialErrors.Load())
	to.retries.Add(c.retries.Load())
	to.resets.Add(c.resets.Load())
	to.dropped.Add(c.dropped.Load())
}
