package proxy

import (
	"net/netip"
	"slices"

	"usher/registry"
)

// Stats are the counters of a Frontend since it appeared.
type Stats struct {
	Frontend *registry.Frontend
	Counts

	Unserved uint64 // connections reset because no Backend answered

	// Backends has those that are, and those that are gone and still have
	// something open from before, ordered by address. What a Backend has had that
	// is gone stays in the Frontend's counts; when it comes back its own begin
	// anew. A dial that was under way as it went counts for the Frontend alone.
	Backends []BackendStats
}

// BackendStats are the counters of one Backend of a Frontend.
type BackendStats struct {
	Address netip.AddrPort
	Gone    bool // it is no Backend any more
	Counts
}

// Counts are of a Frontend, of what came to it, or of a Backend, of what came
// to that. So a connection that no Backend answers is one of the Frontend alone,
// and a flow that moves is one of each Backend that it is with.
type Counts struct {
	Connections uint64 // TCP connections
	Active      int64  // of those, open now
	BytesUp     uint64 // from clients to Backends, UDP payloads included
	BytesDown   uint64
	DialErrors  uint64 // dials that failed, each Backend counted
	Retries     uint64 // dials because another Backend had failed or was silent
	Resets      uint64 // connections that ended in a reset or a time-out
	Flows       uint64 // UDP flows
	ActiveFlows int64
	Dropped     uint64 // datagrams that could not be passed on
}

// Plus returns the sum of both.
func (n Counts) Plus(m Counts) Counts {
	n.Connections += m.Connections
	n.Active += m.Active
	n.BytesUp += m.BytesUp
	n.BytesDown += m.BytesDown
	n.DialErrors += m.DialErrors
	n.Retries += m.Retries
	n.Resets += m.Resets
	n.Flows += m.Flows
	n.ActiveFlows += m.ActiveFlows
	n.Dropped += m.Dropped
	return n
}

// add adds what belongs to no Backend, or to one.
func (n *Counts) add(c *counters) {
	n.Connections += c.connections.Load()
	n.Active += c.active.Load()
	n.Flows += c.flows.Load()
	n.ActiveFlows += c.activeFlows.Load()
	n.addRest(c)
}

// addRest adds what a Frontend has counted at its Backends alone.
func (n *Counts) addRest(c *counters) {
	n.BytesUp += c.bytesUp.Load()
	n.BytesDown += c.bytesDown.Load()
	n.DialErrors += c.dialErrors.Load()
	n.Retries += c.retries.Load()
	n.Resets += c.resets.Load()
	n.Dropped += c.dropped.Load()
}

// stats adds up the counters of a Frontend.
func (f *frontend) stats() Stats {
	s := Stats{Frontend: f.now.Load()}
	of := make(map[netip.AddrPort]*BackendStats)
	for _, b := range s.Frontend.Backends {
		of[b.Address] = &BackendStats{Address: b.Address}
	}
	for i := range f.parts {
		f.parts[i].addTo(&s, of)
	}
	for _, b := range of {
		s.Backends = append(s.Backends, *b)
	}
	slices.SortFunc(s.Backends, func(a, b BackendStats) int {
		return a.Address.Compare(b.Address)
	})
	return s
}

func (t *tally) addTo(s *Stats, of map[netip.AddrPort]*BackendStats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.add(&t.counters)
	s.Unserved += t.unserved.Load()
	if t.gone != nil {
		s.addRest(t.gone)
	}
	for address, c := range t.backends {
		s.addRest(c)
		if of[address] == nil {
			of[address] = &BackendStats{Address: address, Gone: s.Frontend.Serving(address) == nil}
		}
		of[address].add(c)
	}
}
