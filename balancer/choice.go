package balancer

import (
	"net/netip"

	"usher/registry"
)

// A Choice is the Backend to use, and after it, for when it fails, the others
// in the order in which to try them: each Backend once. It is empty when the
// Frontend has none.
type Choice struct {
	list  *list
	first int32 // place of the one to use
	probe int32 // place of an ejected one that is to be tried before it; 0: none, since the first place is never of one
}

// Len returns how many Backends there are.
func (c Choice) Len() int {
	if c.list == nil {
		return 0
	}
	return len(c.list.order)
}

// At returns the Backend to try after i others. It must not be changed.
func (c Choice) At(i int) *registry.Backend { return &c.list.backends[c.index(i)] }

// index returns the index of the Backend to try after i others.
func (c Choice) index(i int) int32 {
	l := c.list
	if c.probe != 0 {
		if i == 0 {
			return l.order[c.probe]
		}
		if i--; i >= int(c.probe) {
			i++
		}
	}
	if i < l.choosable {
		if i += int(c.first); i >= l.choosable {
			i -= l.choosable
		}
	}
	return l.order[i]
}

// Succeeded says that the Backend to try after i others has answered a dial.
func (c Choice) Succeeded(i int) {
	if e := c.list.ends[c.index(i)]; e.fails.Load() != 0 {
		c.list.picker.restore(c.At(i).Address, e)
	}
}

// Failed says that it has not: it refused, or was silent for too long. A fault
// of this host's own is no failure of a Backend.
func (c Choice) Failed(i int, err error, now int64) {
	if e := c.list.ends[c.index(i)]; e.fails.Add(1) >= ejectAfter {
		c.list.picker.eject(c.At(i).Address, e, err, now)
	}
}

// Affine reports whether the Choice is subject to session affinity.
func (c Choice) Affine() bool { return c.list != nil && c.list.pins != nil }

// Pin makes the Backend to try after i others that of client, as the one that
// has answered.
func (c Choice) Pin(i int, client netip.Addr, now int64) {
	if c.Affine() && client.IsValid() {
		c.list.pins.pin(client, c.At(i).Address, now)
	}
}

// Move says that what was to go to the Backend after i others goes to the one
// after j. It counts where it is for the policies by load.
func (c Choice) Move(i, j int) {
	if c.list != nil && c.list.counts && i != j {
		c.list.ends[c.index(i)].load.Add(-1)
		c.list.ends[c.index(j)].load.Add(1)
	}
}

// Release says that what went to the Backend after i others has ended. It is
// called once for each Choice.
func (c Choice) Release(i int) {
	if c.list != nil && c.list.counts {
		c.list.ends[c.index(i)].load.Add(-1)
	}
}
