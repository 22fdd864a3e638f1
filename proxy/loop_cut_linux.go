package proxy

import (
	"golang.org/x/sys/unix"

	"usher/registry"
)

// cut implements engine. A loop looks through its connections when it has some
// to a Backend that was removed.
func (e *loops) cut(f *frontend) {
	for i, l := range e.all {
		if f.parts[i].anyRemoved(f.now.Load()) {
			l.post(func() { l.cut(f) })
		}
	}
}

// cut ends the connections of f to Backends that have been removed.
func (l *loop) cut(f *frontend) {
	l.conns.each(func(c *conn) {
		if c.answered && c.acceptor.frontend == f {
			l.cutOne(c)
		}
	})
}

// keeps reports whether c may stay with the Backend that has answered.
func (c *conn) keeps() bool {
	return c.acceptor.frontend.now.Load().Keeps(c.target(c.attempt).Address)
}

// cutOne ends c if its Backend has been removed and the Frontend wants that. To
// be closed, both sides are made to read an end behind what they have received:
// that is an event like any other end.
func (l *loop) cutOne(c *conn) {
	switch {
	case c.keeps() || c.client.gone || c.backend.gone: // or it ends already
	case c.acceptor.frontend.now.Load().Removed == registry.RemovedReset:
		l.abort(c)
	default:
		rawShutdown(c.client.fd, unix.SHUT_RD)
		rawShutdown(c.backend.fd, unix.SHUT_RD)
	}
}
