package balancer

import (
	"iter"
	"slices"
	"sync/atomic"

	"usher/registry"
)

// A RoundRobin picks its Backends in turn, in the order of their addresses.
// It is exact: among n Backends, n picks in a row choose each once, however
// many goroutines make them. After an Update it goes on behind the Backend
// that was picked last. The zero value has no Backends.
type RoundRobin struct {
	turn atomic.Pointer[turn]
}

// A turn is the position in one list of Backends.
type turn struct {
	backends []registry.Backend
	next     atomic.Uint64 // counts picks; the index of the next one modulo the length
}

// Pick implements Picker.
func (r *RoundRobin) Pick() iter.Seq[registry.Backend] {
	t := r.turn.Load()
	if t == nil || len(t.backends) == 0 {
		return func(func(registry.Backend) bool) {}
	}
	n := len(t.backends)
	first := int((t.next.Add(1) - 1) % uint64(n))
	return func(yield func(registry.Backend) bool) {
		for i := range n {
			if !yield(t.backends[(first+i)%n]) {
				return
			}
		}
	}
}

// Update implements Picker.
func (r *RoundRobin) Update(backends []registry.Backend) {
	t := &turn{backends: backends}
	if old := r.turn.Load(); old != nil && len(old.backends) > 0 {
		picks := old.next.Load()
		n := uint64(len(old.backends))
		last := old.backends[(picks+n-1)%n]
		if picks > 0 {
			t.next.Store(uint64(after(backends, last)))
		}
	}
	r.turn.Store(t)
}

// after returns the index of the first of backends whose address is greater
// than that of last, or 0 when there is none.
func after(backends []registry.Backend, last registry.Backend) int {
	i, found := slices.BinarySearchFunc(backends, last, func(a, b registry.Backend) int {
		return a.Address.Compare(b.Address)
	})
	if found {
		i++
	}
	if i >= len(backends) {
		return 0
	}
	return i
}
