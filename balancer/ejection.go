package balancer

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"usher/registry"
)

const (
	// ejectAfter is how many dials in a row must fail. One may be a server that
	// is just being restarted, or a packet that was lost.
	ejectAfter = 3

	// An ejected Backend is tried by one connection after minEjection, and after
	// twice as long each time that fails. The one that waits to see whether it
	// has come back pays for that: nothing when it refuses, a hedged dial when it
	// is silent. So who starts a server again need not wait long.
	minEjection = int64(time.Second)
	maxRefused  = int64(4 * time.Second)
	maxSilent   = int64(30 * time.Second)
)

// An end is what is known of a Backend.
type end struct {
	pod       string
	load      atomic.Int64 // connections and flows, where the policy counts them
	elsewhere atomic.Int64 // those of others (Picker.Elsewhere)
	fails     atomic.Int32 // dials that failed since the last that did not

	// The following are guarded by the Picker's mu.
	ejected bool
	probing bool  // a connection tries it
	since   int64 // when it was ejected
	until   int64 // when it is to be tried again
	wait    int64
	err     error // of the last dial
}

// restore takes e back. The caller must hold the Picker's mu.
func (e *end) restore() {
	e.fails.Store(0)
	e.ejected, e.probing, e.wait, e.err = false, false, 0, nil
}

// putOff says until when e is ejected after a failure. The caller must hold the
// Picker's mu.
func (e *end) putOff(err error, now int64) {
	longest := maxRefused
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		longest = maxSilent
	}
	e.wait = min(max(2*e.wait, minEjection), longest)
	e.until, e.err, e.probing = now+e.wait, err, false
}

// eject puts a Backend at the end of what is chosen, unless all others are there
// already.
func (p *Picker) eject(address netip.AddrPort, e *end, err error, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list.Load()
	switch {
	case p.ends[address] != e || e.fails.Load() < ejectAfter: // it has left, or answered
	case e.probing:
		e.putOff(err, now)
		l.due.Store(l.nextDue())
	case !e.ejected && l.choosable > 1:
		e.ejected, e.since = true, now
		e.putOff(err, now)
		p.rearrange(l)
	}
}

// restore takes a Backend back that has answered.
func (p *Picker) restore(address netip.AddrPort, e *end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := e.ejected
	e.restore()
	if was && p.ends[address] == e {
		p.rearrange(p.list.Load())
	}
}

// rearrange replaces a list after one of its Backends was ejected or restored.
// The caller must hold mu.
func (p *Picker) rearrange(old *list) {
	p.replace(old, &list{
		picker: p, policy: old.policy, backends: old.backends, ends: old.ends, pins: old.pins,
	})
}

// nextDue returns when the first of the ejected is to be tried again. The
// caller must hold the Picker's mu.
func (l *list) nextDue() int64 {
	due := int64(math.MaxInt64)
	for _, i := range l.order[l.choosable:] {
		due = min(due, l.ends[i].until)
	}
	return due
}

// probe returns the place of an ejected Backend that is to be tried again, or
// 0. One connection tries it; the others go on without it meanwhile.
func (l *list) probe(now int64) int32 {
	p := l.picker
	if !p.mu.TryLock() { // somebody is about it; who picks does not wait
		return 0
	}
	defer p.mu.Unlock()
	for place := l.choosable; place < len(l.order) && p.list.Load() == l; place++ {
		e := l.ends[l.order[place]]
		if e.until > now {
			continue
		}
		e.probing, e.until = true, now+e.wait
		l.due.Store(l.nextDue())
		return int32(place)
	}
	return 0
}

// An Ejection says why a Backend is at the end of what is chosen.
type Ejection struct {
	Backend registry.Backend
	Since   int64 // when it was ejected
	Until   int64 // when a connection may try it again
	Err     error // how its last dial ended
}

// Ejections returns the Backends that are ejected, by address.
func (p *Picker) Ejections() []Ejection {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list.Load()
	if l == nil {
		return nil
	}
	var list []Ejection
	for _, i := range l.order[l.choosable:] {
		e := l.ends[i]
		list = append(list, Ejection{l.backends[i], e.since, e.until, e.err})
	}
	return list
}
