package proxy

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// listed is how many places of its tables a loop looks at before it moves bytes
// again: a fraction of a millisecond.
const listed = slabSize

// A page is what a loop is asked for at once, and the memory for it: a loop
// makes none grow.
type page struct {
	q    *query
	list []Connection
	more int
	at   int32 // the next place
	end  bool
}

// connections implements engine. Each loop looks into its own tables, page by
// page; what is opened or closed meanwhile may be left out.
func (e *loops) connections(ctx context.Context, q *query) error {
	p := &page{q: q, list: make([]Connection, 0, listed)}
	for _, l := range e.all {
		for _, look := range []func(*page){l.listConns, l.listFlows} {
			for p.at, p.end = 0, false; !p.end; q.add(p.list) {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				p.list, p.more = p.list[:0], 0
				if !l.do(func() { look(p) }) {
					return nil // the loop has ended, and all that it had
				}
				q.more += p.more
			}
		}
	}
	return nil
}

// wants notes that there is one more of a Frontend, and reports whether there is
// anything to say about it.
func (p *page) wants(f *frontend) bool {
	switch {
	case !p.q.want(f.now.Load()):
		return false
	case p.q.full():
		p.more++
		return false
	}
	return true
}

func (l *loop) listConns(p *page) {
	last := int32(len(l.conns.slabs) * slabSize)
	for end := min(p.at+listed, last); p.at < end; p.at++ {
		if c := l.conns.at(p.at); c.open && p.wants(c.acceptor.frontend) {
			p.list = append(p.list, l.describe(c))
		}
	}
	p.end = p.at == last
}

// describe asks the kernel for the client's address: an idle connection is not
// to cost the memory for it.
func (l *loop) describe(c *conn) Connection {
	d := Connection{
		Frontend: c.acceptor.frontend.now.Load(), Client: l.endOf(unix.SYS_GETPEERNAME, c.client.fd), Listener: c.acceptor.listener.at.AddrPort,
		Started: l.engine.started.Add(time.Duration(c.started)), BytesUp: c.client.moved, BytesDown: c.backend.moved,
	}
	if c.answered {
		d.Backend = *c.target(c.attempt)
	}
	switch {
	case !c.answered:
		d.State = Connecting
	case c.client.gone || c.backend.gone:
		d.State = Closing
	case c.half:
		d.State = HalfClosed
	default:
		d.State = Established
	}
	return d
}

func (l *loop) listFlows(p *page) {
	last := int32(len(l.flows.slabs) * slabSize)
	for end := min(p.at+listed, last); p.at < end; p.at++ {
		f := l.flows.at(p.at)
		if f.backend == nil || !p.wants(f.front.frontend) {
			continue
		}
		state := Answered
		if f.stage == oneWay {
			state = Unanswered
		}
		p.list = append(p.list, Connection{
			Frontend: f.front.frontend.now.Load(), Client: f.client.addrPort(), Listener: f.front.at.AddrPort, Backend: *f.backend,
			Started: l.engine.started.Add(time.Duration(f.started)), State: state, BytesUp: f.up, BytesDown: f.down,
		})
	}
	p.end = p.at == last
}
