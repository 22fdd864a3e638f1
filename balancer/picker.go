// Package balancer chooses Backends. It is pure: it does no I/O, starts no
// goroutine and reads no clock: the time is what its callers say, in ns on a
// clock of their own.
//
// It does not dial. Who uses a Picker tries the Backends of a Choice in their
// order, and says how that went: one that fails several times in a row is
// ejected for a while, which puts it at the end of every Choice.
package balancer

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"

	"usher/registry"
)

// A Picker chooses the Backends of one Frontend by its policy. It is safe for
// concurrent use. The zero value has no Backends.
type Picker struct {
	// Random, if not nil, takes the place of math/rand/v2.
	Random func() uint64

	list atomic.Pointer[list]

	mu        sync.Mutex               // guards the following, and what replaces list; pins.mu may be taken after it
	ends      map[netip.AddrPort]*end  // of the Backends there are
	gone      map[netip.AddrPort]*end  // of those that have left, and have connections yet
	elsewhere map[netip.AddrPort]int64 // what Elsewhere has said
}

// Pick chooses for a new connection or flow of client, which is not asked for
// unless ByClient says so. It allocates nothing but a pin of session affinity,
// and for the policies by turn and at random it takes no lock.
func (p *Picker) Pick(client netip.Addr, now int64) Choice {
	l := p.list.Load()
	if l == nil || l.choosable == 0 {
		return Choice{}
	}
	var c Choice
	if l.pins == nil {
		c = l.choose(client, now)
	} else {
		c = l.pins.choose(l, client, now)
	}
	if c.list != nil && c.list.counts {
		c.list.ends[c.index(0)].load.Add(1)
	}
	return c
}

// ByClient reports whether a Choice depends on the client.
func (p *Picker) ByClient() bool {
	l := p.list.Load()
	return l != nil && (l.pins != nil || l.policy == registry.Maglev)
}

// Update takes over the Backends and the policy of f. What is known of a
// Backend that stays is kept.
func (p *Picker) Update(f *registry.Frontend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.list.Load()
	if old == nil && len(f.Backends) == 0 {
		return // as it is at first; most of what is idle has none
	}
	ends := make(map[netip.AddrPort]*end, len(f.Backends))
	l := &list{picker: p, policy: f.Policy, backends: f.Backends, ends: make([]*end, len(f.Backends))}
	for i, b := range f.Backends {
		e := cmp.Or(p.ends[b.Address], p.gone[b.Address])
		if e == nil || e.pod != b.Pod { // another server at the same address
			e = &end{pod: b.Pod}
		}
		e.elsewhere.Store(p.elsewhere[b.Address])
		ends[b.Address], l.ends[i] = e, e
	}
	p.leave(ends)
	p.ends = ends
	l.pins = pinsFor(old, f.Affinity)
	p.replace(old, l)
}

// leave keeps what is open at Backends that are not among ends any more: one may
// come back before its connections have ended. The caller must hold mu.
func (p *Picker) leave(ends map[netip.AddrPort]*end) {
	var gone map[netip.AddrPort]*end
	for _, were := range [...]map[netip.AddrPort]*end{p.gone, p.ends} {
		for address, e := range were {
			if ends[address] != nil || e.load.Load() == 0 {
				continue
			}
			if gone == nil {
				gone = make(map[netip.AddrPort]*end)
			}
			e.restore() // what has come back is tried like one that is new
			gone[address] = e
		}
	}
	p.gone = gone
}

// replace makes l, of which the Backends and what follows from the Frontend are
// known, the list to choose from. The caller must hold mu.
func (p *Picker) replace(old, l *list) {
	switch l.policy {
	case registry.LeastConnections, registry.P2C, registry.Random, registry.Maglev:
	default:
		l.byTurn = true
	}
	l.counts = l.policy.ByLoad()
	l.arrange()
	l.weigh()
	if l.policy == registry.Maglev {
		if old != nil && old.table != nil && sameBackends(old.backends, l.backends) {
			l.table = old.table
		} else {
			l.table = maglevTable(l.backends)
		}
	}
	l.due.Store(l.nextDue())
	l.goOnAfter(old)
	p.list.Store(l)
}

// random returns 64 random bits.
func (p *Picker) random() uint64 {
	if p.Random != nil {
		return p.Random()
	}
	return rand.Uint64()
}
