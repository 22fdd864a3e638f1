package balancer

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"usher/registry"
)

// A RoundRobin picks its Backends in turn, in the order of their addresses.
// It is exact: among n Backends, n picks in a row choose each once, however
// many goroutines make them. After an Update it goes on behind the address
// that was picked last, be that in the list or not. The zero value has no
// Backends.
type RoundRobin struct {
	turn atomic.Pointer[turn]
}

// A turn is the position in one list of Backends.
type turn struct {
	backends []registry.Backend
	last     netip.AddrPort // picked last from the lists before; the zero value for none
	first    uint64         // index of the first pick
	next     atomic.Uint64  // first, plus a count of picks; the index of the next one modulo the length
}

// replaced is the bit of next that says that there is another turn: what is
// picked from then on is not counted there.
const replaced = 1 << 63

// Pick implements Picker.
func (r *RoundRobin) Pick() Choice { return r.pick(r.turn.Load()) }

// pick picks from t, or from what it has been replaced by.
func (r *RoundRobin) pick(t *turn) Choice {
	for t != nil && len(t.backends) > 0 {
		n := t.next.Add(1) - 1
		if n&replaced != 0 {
			if now := r.turn.Load(); now != t {
				t = now
				continue
			}
			// The Update is still under way. Its position does not know of this
			// pick, but who picks does not wait.
		}
		return Choice{t.backends, int((n &^ replaced) % uint64(len(t.backends)))}
	}
	return Choice{}
}

// Update implements Picker.
func (r *RoundRobin) Update(backends []registry.Backend) {
	t := &turn{backends: backends}
	if old := r.turn.Load(); old != nil {
		t.last = old.last
		if picks := old.next.Or(replaced); picks != old.first {
			t.last = old.backends[(picks-1)%uint64(len(old.backends))].Address
		}
		if t.last.IsValid() {
			t.first = uint64(after(backends, t.last))
		}
	}
	t.next.Store(t.first)
	r.turn.Store(t)
}

// after returns the index of the first of backends whose address is greater
// than last, or 0 when there is none.
func after(backends []registry.Backend, last netip.AddrPort) int {
	i, found := slices.BinarySearchFunc(backends, last, func(b registry.Backend, last netip.AddrPort) int {
		return b.Address.Compare(last)
	})
	if found {
		i++
	}
	if i >= len(backends) {
		return 0
	}
	return i
}
