package balancer

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// A turn is the position of a round robin in one list. It is exact: among n
// Backends of one weight, n picks in a row choose each once, however many
// goroutines make them. The next list goes on behind the address that was
// picked last, be that in it or not.
type turn struct {
	last  netip.AddrPort // picked last from the lists before; the zero value for none
	first uint64         // position of the first pick
	_     [64]byte       // what all read is on another cache line than what all write
	next  atomic.Uint64  // first, plus a count of picks; the position of the next one modulo the cycle
}

// replaced is the bit of next that says that there is another list: what is
// picked from then on is not counted there.
const replaced = 1 << 63

// inTurn returns the place of the next Backend in l, or in what l has been
// replaced by.
func (l *list) inTurn() (*list, int32) {
	for l.choosable > 0 {
		n := l.next.Add(1) - 1
		if n&replaced != 0 {
			if now := l.picker.list.Load(); now != l {
				l = now
				continue
			}
			// The change is still under way. Its position does not know of this
			// pick, but who picks does not wait.
		}
		return l, l.position(n &^ replaced)
	}
	return nil, 0
}

// position returns the place at a position of the cycle.
func (l *list) position(n uint64) int32 {
	if l.cycle != nil {
		return l.cycle[n%uint64(len(l.cycle))]
	}
	return int32(n % uint64(l.choosable))
}

// goOnAfter sets the position to that behind the last pick from old.
func (l *list) goOnAfter(old *list) {
	if old != nil {
		l.last = old.last
		picks := old.next.Or(replaced)
		if picks != old.first {
			l.last = old.at(old.position(picks - 1)).Address
		}
		switch {
		case l.cycle != nil && slices.Equal(l.cycle, old.cycle) && slices.Equal(l.order, old.order) && sameBackends(l.backends, old.backends):
			l.first = picks % uint64(len(l.cycle))
		case l.last.IsValid() && l.choosable > 0:
			l.first = uint64(l.after(l.last))
			if l.cycle != nil {
				l.first = uint64(slices.Index(l.cycle, int32(l.first)))
			}
		}
	}
	l.next.Store(l.first)
}
