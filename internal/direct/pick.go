package direct

import (
	"net/netip"
	"slices"
	"time"

	"usher/balancer"
	"usher/registry"
)

// A pick is what was chosen for one connection. The zero value has nothing, and
// counts nowhere.
type pick struct {
	fixed []netip.AddrPort // where it is to go if not to Backends, the best first

	// The following is there where connections go to Backends: those to the
	// proxy it counts itself, and a nameserver is no Backend.
	frontend *frontend
	choice   balancer.Choice
	places   []int // those of choice that are to be tried; nil: all
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
		return pick{fixed: s.proxyOf(key)}
	}
	p := pick{frontend: f, clock: s.started}
	p.choice = f.Pick(localhost, p.now())
	return p
}

// len returns how many addresses there are to try.
func (p *pick) len() int {
	switch {
	case p.frontend == nil:
		return len(p.fixed)
	case p.places != nil:
		return len(p.places)
	}
	return p.choice.Len()
}

// address returns the one to try after i others.
func (p *pick) address(i int) netip.AddrPort {
	if p.frontend == nil {
		return p.fixed[i]
	}
	return p.choice.At(p.place(i)).Address
}

func (p *pick) place(i int) int {
	if p.places == nil {
		return i
	}
	return p.places[i]
}

func (p *pick) now() int64 { return int64(time.Since(p.clock)) }

// only leaves the addresses that may be used. Without any it is released.
func (p *pick) only(may func(netip.Addr) bool) {
	all := true
	for i := range p.len() {
		all = all && may(p.address(i).Addr())
	}
	if all { // as most often
		return
	}
	if p.frontend == nil {
		p.fixed = slices.DeleteFunc(p.fixed, func(a netip.AddrPort) bool { return !may(a.Addr()) })
		return
	}
	var kept []int
	for i := range p.len() {
		if may(p.address(i).Addr()) {
			kept = append(kept, i)
		}
	}
	switch len(kept) {
	case 0:
		p.choice.Release(0)
		*p = pick{}
	default:
		p.choice.Move(0, kept[0])
		p.places = kept
	}
}

// backend returns the Backend in turn.
func (p *pick) backend() netip.AddrPort { return p.address(p.at) }

// try says that it is the turn of the Backend at i.
func (p *pick) try(i int) {
	if p.frontend != nil {
		p.choice.Move(p.place(p.at), p.place(i))
	}
	p.at = i
}

// failed says that the Backend in turn did not answer.
func (p *pick) failed(err error) {
	if p.frontend != nil {
		p.choice.Failed(p.place(p.at), err, p.now())
		p.errors = append(p.errors, p.at)
	}
}

// lost reports whether the last that was tried has failed.
func (p *pick) lost() bool { return len(p.errors) > 0 && p.errors[len(p.errors)-1] == p.at }

// succeeded says that the Backend in turn has answered.
func (p *pick) succeeded() {
	p.choice.Succeeded(p.place(p.at))
	if p.at > 0 {
		p.choice.Pin(p.place(p.at), localhost, p.now())
	}
}

// release says that the connection has ended, or that there is none.
func (p *pick) release() {
	if p.frontend != nil {
		p.choice.Release(p.place(p.at))
	}
}
