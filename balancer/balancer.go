// Package balancer chooses Backends. It is pure: it does no I/O, starts no
// goroutine and knows no clock.
//
// It does not dial, and does not know whether a Backend answers: who uses a
// Picker asks for the next one when the first fails.
package balancer

import "usher/registry"

// A Picker chooses the Backends of one Frontend. It is safe for concurrent
// use.
type Picker interface {
	// Pick chooses for a new connection or flow. It allocates nothing, and waits
	// for nobody.
	Pick() Choice

	// Update replaces the Backends, which are ordered by address and must not
	// be changed afterwards. It is called by one goroutine at a time.
	Update([]registry.Backend)
}
