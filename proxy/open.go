package proxy

import (
	"net/netip"

	"usher/registry"
)

// Open returns how many connections and flows of a Frontend are open to each
// Backend. It returns nil if there are none.
func (p *Proxy) Open(key registry.FrontendKey) map[netip.AddrPort]int64 {
	p.mu.Lock()
	f := p.frontends[key]
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	var open map[netip.AddrPort]int64
	for i := range f.parts {
		f.parts[i].addOpen(&open)
	}
	return open
}

// Elsewhere says how many connections others have open to the Backends of a
// Frontend: the policies by load count them. What was said before no longer
// holds.
func (p *Proxy) Elsewhere(key registry.FrontendKey, open map[netip.AddrPort]int64) {
	p.mu.Lock()
	f := p.frontends[key]
	p.mu.Unlock()
	if f != nil {
		f.picker.Elsewhere(open)
	}
}

func (t *tally) addOpen(open *map[netip.AddrPort]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for address, c := range t.backends {
		if n := c.active.Load() + c.activeFlows.Load(); n != 0 {
			if *open == nil {
				*open = make(map[netip.AddrPort]int64)
			}
			(*open)[address] += n
		}
	}
}
