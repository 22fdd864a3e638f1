package balancer

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"usher/registry"
)

// A list is what a Picker chooses from between two changes. All but its atomic
// fields is immutable.
type list struct {
	picker   *Picker
	policy   registry.Policy
	byTurn   bool               // the policy is round robin
	counts   bool               // the policy asks how many connections a Backend has
	backends []registry.Backend // ordered by address
	ends     []*end             // what is known of each
	pins     *pins              // nil: no session affinity

	// order has the indices of the Backends: first those to choose from, by
	// address, then those that are ejected. A place is an index of order.
	order     []int32
	choosable int

	cycle []int32  // of places, by weight; nil when all weigh the same
	sums  []uint64 // of the weights up to each place; nil when all weigh the same
	table []int32  // Maglev's, of indices of backends
	place []int32  // Maglev's, of each index in order

	due atomic.Int64 // when an ejected Backend may be tried again

	turn
}

// choose chooses by the policy. Now and then it puts an ejected Backend first,
// to find out whether it is back.
func (l *list) choose(client netip.Addr, now int64) Choice {
	c := Choice{list: l}
	if !l.byTurn {
		c.first = l.byPolicy(client)
	} else if c.list, c.first = l.inTurn(); c.list == nil {
		return Choice{}
	}
	if now >= c.list.due.Load() {
		c.probe = c.list.probe(now)
	}
	return c
}

// byPolicy returns the place of the Backend to use by any policy but the
// default.
func (l *list) byPolicy(client netip.Addr) int32 {
	switch l.policy {
	case registry.Random:
		return l.atRandom()
	case registry.LeastConnections:
		return l.leastLoaded()
	case registry.P2C:
		return l.lessLoaded()
	}
	return l.hashed(client)
}

// arrange puts the Backends into order. The caller must hold the Picker's mu.
func (l *list) arrange() {
	l.order = make([]int32, 0, len(l.backends))
	for i, e := range l.ends {
		if !e.ejected {
			l.order = append(l.order, int32(i))
		}
	}
	l.choosable = len(l.order)
	for i, e := range l.ends {
		if e.ejected {
			l.order = append(l.order, int32(i))
		}
	}
	if l.choosable == 0 && len(l.order) > 0 { // those that were choosable have left
		for _, e := range l.ends {
			e.restore()
		}
		l.choosable = len(l.order)
	}
	if l.policy == registry.Maglev {
		l.place = make([]int32, len(l.order))
		for place, i := range l.order {
			l.place[i] = int32(place)
		}
	}
}

// after returns the first place to choose from whose address is greater than
// last, or 0 when there is none.
func (l *list) after(last netip.AddrPort) int {
	i, found := l.search(last)
	if found {
		i++
	}
	if i >= l.choosable {
		return 0
	}
	return i
}

// search looks for an address among those to choose from.
func (l *list) search(address netip.AddrPort) (place int, found bool) {
	return slices.BinarySearchFunc(l.order[:l.choosable], address, func(i int32, address netip.AddrPort) int {
		return l.backends[i].Address.Compare(address)
	})
}

// at returns the Backend at a place.
func (l *list) at(place int32) *registry.Backend { return &l.backends[l.order[place]] }

// sameBackends reports whether two lists have the same addresses and weights.
func sameBackends(a, b []registry.Backend) bool {
	return slices.EqualFunc(a, b, func(x, y registry.Backend) bool {
		return x.Address == y.Address && weightOf(&x) == weightOf(&y)
	})
}
