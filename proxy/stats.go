package proxy

import (
	"sync/atomic"

	"usher/registry"
)

// Stats are the counters of a Frontend since it appeared.
type Stats struct {
	Frontend *registry.Frontend

	Connections uint64 // TCP connections accepted
	Active      int64  // of those, open now
	BytesUp     uint64 // from clients to Backends, UDP payloads included
	BytesDown   uint64
	DialErrors  uint64 // dials that failed, each Backend counted
	Unserved    uint64 // connections reset because no Backend answered
	Resets      uint64 // connections that ended in a reset or a time-out
	Flows       uint64 // UDP flows opened
	ActiveFlows int64
	Dropped     uint64 // datagrams that could not be passed on
}

// counters are those of one part of an engine, such as a loop: nobody else
// writes to their cache lines.
type counters struct {
	connections, bytesUp, bytesDown, dialErrors, unserved, resets, flows, dropped atomic.Uint64

	active, activeFlows atomic.Int64

	_ [48]byte // up to two cache lines
}

// stats adds up the counters of a Frontend.
func (f *frontend) stats() Stats {
	s := Stats{Frontend: f.now.Load()}
	add := func(c *counters) {
		s.Connections += c.connections.Load()
		s.Active += c.active.Load()
		s.BytesUp += c.bytesUp.Load()
		s.BytesDown += c.bytesDown.Load()
		s.DialErrors += c.dialErrors.Load()
		s.Unserved += c.unserved.Load()
		s.Resets += c.resets.Load()
		s.Flows += c.flows.Load()
		s.ActiveFlows += c.activeFlows.Load()
		s.Dropped += c.dropped.Load()
	}
	add(&f.counters)
	for i := range f.parts {
		add(&f.parts[i])
	}
	return s
}
