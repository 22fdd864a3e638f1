package proxy

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/registry"
)

// acceptBatch is how many connections are accepted before others get their
// turn. The listener is level-triggered: the kernel tells again of the rest.
const acceptBatch = 32

// An acceptor is the part of a listener that one loop has.
type acceptor struct {
	listener *loopListener
	frontend *frontend
	tally    *tally // of this loop alone
	fd       int32
	id       int32 // in loop.listeners
}

// count counts bytes that were read from a side of c. What a client says before
// a Backend answers is counted then.
func (c *conn) count(s *side, n int) {
	switch {
	case c.counters == nil:
	case s == &c.client:
		c.counters.bytesUp.Add(uint64(n))
	default:
		c.counters.bytesDown.Add(uint64(n))
	}
}

// failed notes that a Backend could not be reached.
func (a *acceptor) failed(b *registry.Backend, errno syscall.Errno) {
	a.tally.of(b.Address).dialErrors.Add(1)
}

// accept accepts connections and dials a Backend for each. Where there are no
// descriptors for one it rests after that: those who come meanwhile are turned
// away together, and the loop is not woken for each.
func (l *loop) accept(a *acceptor) {
	rest := false
accepting:
	for range acceptBatch {
		fd, errno := rawAccept(a.fd)
		switch errno {
		case 0:
			if l.engine.budget.take(perConnection) {
				l.place(a, fd)
			} else {
				l.turnAway(a, fd)
				rest = true
			}
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			if errno := l.engine.shed(a, errno); errno != 0 {
				rest = rest || errno != unix.EAGAIN
				break accepting
			}
		case unix.ECONNABORTED, unix.EINTR:
			// That one is gone; there may be others.
		default:
			break accepting // EAGAIN; EINVAL while it is paused
		}
	}
	if rest {
		l.rest(a)
	}
}

// turnAway resets a connection for which there are no descriptors.
func (l *loop) turnAway(a *acceptor, fd int32) {
	a.tally.connections.Add(1)
	a.tally.unserved.Add(1)
	l.engine.noteLocal(unix.EMFILE)
	l.opts.resetOnClose(fd)
	rawClose(fd)
}

// begin makes a conn of an accepted connection, which l.load and the budget
// count already.
func (l *loop) begin(a *acceptor, fd int32) {
	a.tally.connections.Add(1)
	a.tally.active.Add(1)
	c := l.conns.take()
	c.acceptor = a
	c.client.fd, c.backend.fd = fd, -1
	c.started, c.active = l.now, l.now
	c.choice = a.frontend.picker.Pick(l.clientOf(a.frontend, fd), l.now)
	if l.watch(unix.EPOLL_CTL_ADD, fd, c, roleClient, 0) != 0 {
		l.unserved(c)
		return
	}
	if !l.introduce(c) || !l.startDial(c) {
		return
	}
	// Most clients have sent their request by now.
	c.client.readable = true
	l.pump(c, &c.client)
}

// A loopListener accepts the connections of a Frontend at one address, in
// every loop. While the Frontend has no Backends it is paused: connections are
// refused, and nobody else can take the port.
type loopListener struct {
	engine    *loops
	frontend  *frontend
	at        ListenAddr
	fd        int
	paused    bool
	acceptors []*acceptor
}

func (e *loops) listenTCP(f *frontend, at ListenAddr) (listener, error) {
	fd, err := openListener(at)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at.AddrPort, err)
	}
	e.budget.add(1)
	ln := &loopListener{engine: e, frontend: f, at: at, fd: fd, paused: true}
	for i := range e.all {
		ln.acceptors = append(ln.acceptors, &acceptor{
			listener: ln, frontend: f, tally: &f.parts[i], fd: int32(fd), id: -1,
		})
	}
	err = reuseAddr(fd, 0) // as long as it is paused
	if err == nil {
		err = ln.update(f.now.Load())
	}
	if err != nil {
		ln.close()
		return nil, fmt.Errorf("listen on %s: %w", at.AddrPort, err)
	}
	return ln, nil
}

// openListener opens a bound socket that does not listen yet.
func openListener(at ListenAddr) (fd int, err error) {
	return at.bind(unix.SOCK_STREAM, func(fd int) error {
		options := []struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
			// The accepted connections inherit these.
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAlive.Count},
		}
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				return fmt.Errorf("set a socket option: %w", err)
			}
		}
		return nil
	})
}

// update implements listener.
func (ln *loopListener) update(f *registry.Frontend) error {
	pause := len(f.Backends) == 0
	switch {
	case pause == ln.paused:
		return nil
	case pause:
		return ln.pause()
	}
	return ln.resume()
}

func (ln *loopListener) pause() error {
	if err := pauseListener(ln.fd); err != nil {
		return err
	}
	ln.paused = true
	ln.each(func(l *loop, a *acceptor) { l.removeAcceptor(a) })
	return nil
}

func (ln *loopListener) resume() error {
	if err := resumeListener(ln.fd); err != nil {
		return err
	}
	ln.paused = false
	ln.each(func(l *loop, a *acceptor) { l.addAcceptor(a) })
	return nil
}

// each leaves a command for every loop.
func (ln *loopListener) each(f func(*loop, *acceptor)) {
	for i, l := range ln.engine.all {
		a := ln.acceptors[i]
		l.post(func() { f(l, a) })
	}
}

// close implements listener. The loops must be done with the descriptor before
// it can be another one's.
func (ln *loopListener) close() {
	unix.Shutdown(ln.fd, unix.SHUT_RD) // refuses from now on
	done := make(chan struct{})
	var left atomic.Int32
	left.Store(int32(len(ln.engine.all)))
	finished := func() {
		if left.Add(-1) == 0 {
			close(done)
		}
	}
	for i, l := range ln.engine.all {
		a := ln.acceptors[i]
		if !l.post(func() {
			l.removeAcceptor(a)
			finished()
		}) {
			finished()
		}
	}
	<-done
	unix.Close(ln.fd)
	ln.engine.budget.add(-1)
}

// addAcceptor begins to accept, after a rest when the kernel has no means to
// tell of connections. One loop is woken for a new connection.
func (l *loop) addAcceptor(a *acceptor) {
	if n := len(l.freeListeners); n > 0 {
		a.id = l.freeListeners[n-1]
		l.freeListeners = l.freeListeners[:n-1]
		l.listeners[a.id] = a
	} else {
		a.id = int32(len(l.listeners))
		l.listeners = append(l.listeners, a)
	}
	if errno := l.watchSocket(unix.EPOLL_CTL_ADD, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, a.id, roleAcceptor); errno != 0 {
		if l.engine.unwatched.begins() {
			l.log.Error("watch a listener", "address", a.listener.at.AddrPort, "error", errno)
		}
		l.rest(a)
	}
}

// removeAcceptor stops accepting. It may be called again.
func (l *loop) removeAcceptor(a *acceptor) {
	l.forget(a)
	if a.id < 0 {
		return
	}
	unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(a.fd), nil)
	l.listeners[a.id] = nil
	l.freeListeners = append(l.freeListeners, a.id)
	a.id = -1
}
