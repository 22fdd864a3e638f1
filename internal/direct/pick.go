package direct

import (
	"net/netip"
	"time"

	"usher/balancer"
	"usher/registry"
)

// A pick is what was chosen for one connection. The zero value has nothing, and
// counts nowhere.
type pick struct {
	list []netip.AddrPort // where it is to go, the best first

	// The following is there where connections go to Backends: those to the
	// proxy it counts itself, and a nameserver is no Backend.
	frontend *frontend
	choice   balancer.Choice
	places   []int // of list in choice
	clock    time.Time

	at     int   // the one in turn
	errors []int // those that have failed
}

// choose picks for a new connection or flow. It counts as one of the first of
// the list, for the policies that ask for load, until the pick is released.
func (s *state) choose(key registry.FrontendKey) pick {
	v, ok := s.frontends.Load(key)
	if !ok {
		return pick{}
	}
	f := v.(*frontend)
	if f.proxied.Load() {
		return pick{list: s.proxyOf(key)}
	}
	p := pick{frontend: f, clock: s.started}
	p.choice = f.Pick(localhost, p.now())
	n := p.choice.Len()
	p.list, p.places = make([]netip.AddrPort, n), make([]int, n)
	for i := range n {
		p.list[i], p.places[i] = p.choice.At(i).Address, i
	}
	return p
}

func (p *pick) now() int64 { return int64(time.Since(p.clock)) }

// only leaves the addresses that may be used. Without any it is released.
func (p *pick) only(may func(netip.Addr) bool) {
	kept := 0
	for i, b := range p.list {
		if !may(b.Addr()) {
			continue
		}
		p.list[kept] = b
		if p.frontend != nil {
			p.places[kept] = p.places[i]
		}
		kept++
	}
	p.list = p.list[:kept]
	switch {
	case p.frontend == nil:
	case kept == 0:
		p.choice.Release(0)
		*p = pick{}
	default:
		p.choice.Move(0, p.places[0])
	}
}

// backend returns the Backend in turn.
func (p *pick) backend() netip.AddrPort { return p.list[p.at] }

// try says that it is the turn of the Backend at i.
func (p *pick) try(i int) {
	if p.frontend != nil {
		p.choice.Move(p.places[p.at], p.places[i])
	}
	p.at = i
}

// failed says that the Backend in turn did not answer.
func (p *pick) failed(err error) {
	if p.frontend != nil {
		p.choice.Failed(p.places[p.at], err, p.now())
		p.errors = append(p.errors, p.at)
	}
}

// lost reports whether the last that was tried has failed.
func (p *pick) lost() bool { return len(p.errors) > 0 && p.errors[len(p.errors)-1] == p.at }

// succeeded says that the Backend in turn has answered.
func (p *pick) succeeded() {
	p.choice.Succeeded(p.places[p.at])
	if p.at > 0 {
		p.choice.Pin(p.places[p.at], localhost, p.now())
	}
}

// release says that the connection has ended, or that there is none.
func (p *pick) release() {
	if p.frontend != nil {
		p.choice.Release(p.places[p.at])
	}
}

// settled returns what is to be kept of p for as long as the connection to the
// Backend in turn lasts.
func (p *pick) settled() pick {
	return pick{
		frontend: p.frontend, choice: p.choice, clock: p.clock,
		list: []netip.AddrPort{p.backend()}, places: []int{p.places[p.at]},
	}
}
