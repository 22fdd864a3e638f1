package balancer

import "net/netip"

// load is what a place has to do, as a fraction: connections and flows for its
// weight.
func (l *list) load(place int32) (load, weight uint64) {
	i := l.order[place]
	e := l.ends[i]
	return uint64(max(e.load.Load()+e.elsewhere.Load(), 0)), weightOf(&l.backends[i])
}

// Elsewhere says how many connections and flows others have open to Backends,
// who choose by Pickers of their own. The policies by load count them with those
// of p. What was said before no longer holds.
func (p *Picker) Elsewhere(open map[netip.AddrPort]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.elsewhere = open
	for address, e := range p.ends {
		e.elsewhere.Store(open[address])
	}
}

// lighter reports whether a has less to do than b.
func (l *list) lighter(a, b int32) bool {
	la, wa := l.load(a)
	lb, wb := l.load(b)
	return la*wb < lb*wa
}

// leastLoaded returns the place that has the least to do. Those that have as
// little take turns, by weight.
func (l *list) leastLoaded() int32 {
	best := l.position((l.next.Add(1) - 1) &^ replaced)
	for i, place := 1, best; i < l.choosable; i++ {
		if place++; int(place) == l.choosable {
			place = 0
		}
		if l.lighter(place, best) {
			best = place
		}
		if load, _ := l.load(best); load == 0 {
			break
		}
	}
	return best
}

// lessLoaded returns the place of two at random that has less to do.
func (l *list) lessLoaded() int32 {
	a, b := l.atRandom(), l.atRandom()
	if a == b { // the next one is as good as any
		if b++; int(b) == l.choosable {
			b = 0
		}
	}
	if l.lighter(b, a) {
		return b
	}
	return a
}
