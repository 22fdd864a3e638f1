package proxy

import (
	"context"
	"maps"
	"slices"

	"usher/registry"
)

// connections implements engine.
func (e *portable) connections(ctx context.Context, q *query) error {
	e.mu.Lock()
	pipes := slices.Collect(maps.Keys(e.pipes))
	listeners := slices.Collect(maps.Keys(e.udp))
	e.mu.Unlock()
	for _, p := range pipes {
		if f := p.frontend.now.Load(); q.want(f) {
			q.add([]Connection{p.describe(f)})
		}
	}
	for _, l := range listeners {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f := l.frontend.now.Load(); q.want(f) {
			q.add(l.describe(f))
		}
	}
	return nil
}

func (p *pipe) describe(f *registry.Frontend) Connection {
	d := Connection{
		Frontend: f, Client: remoteOf(p.client), Listener: p.at, Backend: p.to,
		Started: p.started, State: Established, BytesUp: p.up.moved.Load(), BytesDown: p.down.moved.Load(),
	}
	switch {
	case p.failed.Load():
		d.State = Closing
	case p.half.Load():
		d.State = HalfClosed
	}
	return d
}

// describe returns the flows of a listener.
func (l *udpListener) describe(f *registry.Frontend) []Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Connection
	for _, fl := range l.flows {
		d := Connection{
			Frontend: f, Client: fl.client, Listener: l.at, Backend: *fl.picked.backend(),
			Started: fl.started, State: Unanswered, BytesUp: fl.up, BytesDown: fl.down.Load(),
		}
		if fl.down.Load() > 0 || fl.answered {
			d.State = Answered
		}
		list = append(list, d)
	}
	return list
}
