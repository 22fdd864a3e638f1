package proxy

import (
	"context"
	"net/netip"
	"time"

	"usher/registry"
)

// A Connection is a TCP connection or a UDP flow that is open.
type Connection struct {
	Frontend *registry.Frontend // as it is, or was last
	Client   netip.AddrPort
	Listener netip.AddrPort   // where the client has come to
	Backend  registry.Backend // the zero value as long as none has answered
	Started  time.Time
	State    State

	BytesUp, BytesDown uint64
}

// A State says how far a connection or a flow has come.
type State string

// The states of connections, and of flows.
const (
	Connecting  State = "Connecting"  // no Backend has answered yet
	Established State = "Established" // both directions are open
	HalfClosed  State = "HalfClosed"  // one direction has ended
	Closing     State = "Closing"     // one end is gone, and what it sent is on its way

	Unanswered State = "Unanswered" // the Backend has not said anything
	Answered   State = "Answered"   // it has
)

// A query is what Connections asks of an engine.
type query struct {
	want  func(*registry.Frontend) bool
	limit int

	found []Connection
	more  int // that are wanted and beyond the limit
}

// full reports whether there are as many as may be.
func (q *query) full() bool { return len(q.found) >= q.limit }

// add adds what was found, up to the limit.
func (q *query) add(list []Connection) {
	n := min(len(list), q.limit-len(q.found))
	q.found = append(q.found, list[:n]...)
	q.more += len(list) - n
}

// Connections returns connections and flows that are open, limit of them at
// most, and how many more there are. Only those of Frontends that want says yes
// to count; it is called on the data path and must not wait. A Service that was
// deleted may have some. The portable engine leaves out those that are still
// connecting.
func (p *Proxy) Connections(ctx context.Context, limit int, want func(*registry.Frontend) bool) (found []Connection, more int, err error) {
	select {
	case <-p.synced:
	default:
		return nil, 0, nil // nothing is open yet
	}
	q := &query{want: want, limit: limit}
	err = p.engine.connections(ctx, q)
	return q.found, q.more, err
}
