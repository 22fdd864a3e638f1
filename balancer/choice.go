package balancer

import "usher/registry"

// A Choice is the Backend to use, and after it, for when it fails, the others
// in the order in which to try them: each Backend once. It is empty when the
// Frontend has none.
type Choice struct {
	backends []registry.Backend
	first    int
}

// Len returns how many Backends there are.
func (c Choice) Len() int { return len(c.backends) }

// At returns the Backend to try after i others. It must not be changed.
func (c Choice) At(i int) *registry.Backend {
	i += c.first
	if i >= len(c.backends) {
		i -= len(c.backends)
	}
	return &c.backends[i]
}
