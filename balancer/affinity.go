package balancer

import (
	"net/netip"
	"sync"
	"time"
)

// maxPins bounds the clients that are remembered for a Frontend. The one that
// came longest ago makes room.
const maxPins = 65536

// expireAtOnce bounds the pins that one pick removes.
const expireAtOnce = 8

// pins are the Backends of the clients of a Frontend with session affinity
// (ClientIP). Each connection or flow of a client begins its time anew.
type pins struct {
	mu       sync.Mutex // guards the following
	timeout  int64
	byClient map[netip.Addr]*pin
	oldest   *pin
	newest   *pin
}

// A pin is the Backend of a client.
type pin struct {
	client        netip.Addr
	backend       netip.AddrPort
	used          int64
	before, after *pin // by when they were used
}

// pinsFor returns the pins after a change: those of old, with another time-out
// perhaps, or none when there is no affinity.
func pinsFor(old *list, timeout time.Duration) *pins {
	if timeout == 0 {
		return nil
	}
	if old == nil || old.pins == nil {
		return &pins{timeout: int64(timeout), byClient: make(map[netip.Addr]*pin)}
	}
	old.pins.mu.Lock()
	defer old.pins.mu.Unlock()
	old.pins.timeout = int64(timeout)
	return old.pins
}

// choose returns the Backend of a client, or chooses one: for a client that is
// not known or was away for too long, and when its Backend has left or is
// ejected.
func (s *pins) choose(l *list, client netip.Addr, now int64) Choice {
	if !client.IsValid() { // it was gone before anybody could ask
		return l.choose(client, now)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < expireAtOnce && s.oldest != nil && s.expired(s.oldest, now); i++ {
		s.remove(s.oldest)
	}
	if p := s.byClient[client]; p != nil && !s.expired(p, now) {
		if place, ok := l.search(p.backend); ok {
			s.use(p, now)
			return Choice{list: l, first: int32(place)}
		}
	}
	c := l.choose(client, now)
	if c.Len() > 0 {
		s.pinLocked(client, c.At(0).Address, now)
	}
	return c
}

// pin makes a Backend that of a client.
func (s *pins) pin(client netip.Addr, backend netip.AddrPort, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinLocked(client, backend, now)
}

func (s *pins) pinLocked(client netip.Addr, backend netip.AddrPort, now int64) {
	p := s.byClient[client]
	if p == nil {
		if len(s.byClient) >= maxPins {
			s.remove(s.oldest)
		}
		p = &pin{client: client}
		s.byClient[client] = p
	}
	p.backend = backend
	s.use(p, now)
}

func (s *pins) expired(p *pin, now int64) bool { return now-p.used >= s.timeout }

// use makes p the newest.
func (s *pins) use(p *pin, now int64) {
	p.used = now
	if s.newest == p {
		return
	}
	s.unlink(p)
	p.before, p.after = s.newest, nil
	if s.newest != nil {
		s.newest.after = p
	} else {
		s.oldest = p
	}
	s.newest = p
}

func (s *pins) remove(p *pin) {
	s.unlink(p)
	delete(s.byClient, p.client)
}

// unlink takes p out of the order, if it is there.
func (s *pins) unlink(p *pin) {
	if p.before != nil {
		p.before.after = p.after
	} else if s.oldest == p {
		s.oldest = p.after
	}
	if p.after != nil {
		p.after.before = p.before
	} else if s.newest == p {
		s.newest = p.before
	}
	p.before, p.after = nil, nil
}
