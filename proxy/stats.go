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

type counters struct {
	connections, bytesUp, bytesDown, dialErrors, unserved, resets, flows, dropped atomic.Uint64

	active, activeFlows atomic.Int64
}

func (c *counters) stats(f *registry.Frontend) Stats {
	return Stats{
		Frontend:    f,
		Connections: c.connections.Load(), Active: c.active.Load(),
		BytesUp: c.bytesUp.Load(), BytesDown: c.bytesDown.Load(),
		DialErrors: c.dialErrors.Load(), Unserved: c.unserved.Load(), Resets: c.resets.Load(),
		Flows: c.flows.Load(), ActiveFlows: c.activeFlows.Load(), Dropped: c.dropped.Load(),
	}
}
