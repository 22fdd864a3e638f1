package proxy

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/balancer"
)

// A conn is a Pipe of the event loops: a client's connection and that to its
// Backend, without a goroutine. It lives in the connTable of one loop.
type conn struct {
	client, backend side

	acceptor   *acceptor
	choice     balancer.Choice
	counters   *counters // of the Backend that has answered; nil before
	id         int32     // in the connTable
	generation uint32    // of 24 bits; changes when the place is used again
	next       int32     // in the list of free places
	active     int64     // when something was last moved, as loop.now

	open     bool
	answered bool  // the Backend has: no other is tried any more
	half     bool  // one direction has ended
	warm     bool  // it has lived long enough for keepalive to be worth a system call
	drains   bool  // it ends in a reset of the side that is left
	attempt  uint8 // number of the present connection to a Backend; its role in events
	tried    uint8 // Backends of choice that were dialled
	hedged   uint8 // dials beside the first
	beside   [maxBeside]dial
	unsent   int32 // while it drains: what its peer has not taken
	started  int64 // when it was accepted
}

// A side is one of the two connections of a conn, and what was read from it
// and is not written to the other yet.
type side struct {
	fd       int32
	readable bool // there may be something to read
	blocked  bool // it took less than there was; the kernel will say when it takes more
	notified bool // the kernel has been asked to say so
	closing  bool // there is an end (EPOLLRDHUP), of whatever kind
	fin      bool // the end is known to be one in order
	ended    bool // nothing more comes from it
	shut     bool // its peer has been told that nothing more comes
	gone     bool // it was reset, or its peer is gone: it takes nothing more
	cut      bool // that was before its end: what came from it is not complete
	queued   bool // in loop.again
	full     uint8
	inPipe   int32
	pipe     *kernelPipe
	pending  *remainder
	moved    uint64 // bytes read from it and passed on
}

// A connRef names a conn that may have ended.
type connRef struct {
	id         int32
	generation uint32
}

// A connSide names a side of a conn that may have ended.
type connSide struct {
	connRef
	backend bool
}

func (c *conn) ref() connRef { return connRef{c.id, c.generation} }

func (c *conn) side(backend bool) *side {
	if backend {
		return &c.backend
	}
	return &c.client
}

// other returns the side that s writes to.
func (c *conn) other(s *side) *side {
	if s == &c.client {
		return &c.backend
	}
	return &c.client
}

// A connTable has the conns of a loop in slabs, which the garbage collector
// finds without following a pointer a conn.
type connTable struct {
	slabs []*[slabSize]conn
	free  int32 // the first free place plus 1, 0: none
	used  int
}

const (
	slabSize = 256
	slabBits = 8
	genMask  = 1<<24 - 1
)

// at returns the place with that id.
func (t *connTable) at(id int32) *conn { return &t.slabs[id>>slabBits][id&(slabSize-1)] }

// get returns the conn that ref names, or nil when it has ended.
func (t *connTable) get(ref connRef) *conn {
	c := t.at(ref.id)
	if c.generation != ref.generation {
		return nil
	}
	return c
}

// take returns a free place.
func (t *connTable) take() *conn {
	if t.free == 0 {
		slab := new([slabSize]conn)
		base := int32(len(t.slabs)) * slabSize
		t.slabs = append(t.slabs, slab)
		for i := slabSize - 1; i >= 0; i-- {
			slab[i].id, slab[i].next = base+int32(i), t.free
			t.free = base + int32(i) + 1
		}
	}
	c := t.at(t.free - 1)
	t.free = c.next
	t.used++
	*c = conn{id: c.id, generation: c.generation, open: true}
	return c
}

// put gives a place back. Events that wait for it are void from now on.
func (t *connTable) put(c *conn) {
	generation := (c.generation + 1) & genMask
	*c = conn{id: c.id, generation: generation, next: t.free}
	t.free = c.id + 1
	t.used--
}

// each calls f for every conn. f may end the conn it is given.
func (t *connTable) each(f func(*conn)) {
	for _, slab := range t.slabs {
		for i := range slab {
			if slab[i].open {
				f(&slab[i])
			}
		}
	}
}

// connEvent acts on an event of a socket of c.
func (l *loop) connEvent(c *conn, role int, events uint32) {
	s := &c.client
	if role != roleClient {
		if role != int(c.attempt) {
			l.besideEvent(c, role, events)
			return
		}
		s = &c.backend
		if !c.answered && !l.dialEvent(c, events) {
			return
		}
	}
	if c.drains {
		if events&unix.EPOLLERR != 0 && !s.gone {
			l.close(c)
		}
		return
	}
	if events&unix.EPOLLERR != 0 {
		// What came before the reset is still there to be read.
		l.broken(c, s, l.opts.takeError(s.fd))
		return
	}
	if events&unix.EPOLLHUP != 0 { // both directions have ended
		events |= unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP
	}
	if events&unix.EPOLLRDHUP != 0 {
		s.closing = true
		s.fin = s.fin || events&unix.EPOLLHUP == 0
	}
	ref := c.ref()
	if events&unix.EPOLLOUT != 0 && s.blocked {
		s.blocked = false
		l.pump(c, c.other(s))
		if l.conns.get(ref) == nil {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		s.readable = true
		l.pump(c, s)
	}
}

// broken notes that s was reset, or that its peer is gone. What it sent before
// is still passed on. Then the other side is reset too, so that a truncated
// stream never looks complete, unless s had ended in order by then: the pending
// error of a socket that was reset after that is EPIPE. What was on its way to s
// has nowhere to go.
func (l *loop) broken(c *conn, s *side, errno syscall.Errno) {
	if !c.answered {
		if s == &c.backend {
			l.dialFailed(c, errno)
		} else {
			l.abort(c) // there is nobody to answer, and no Backend has seen anything
		}
		return
	}
	if s.gone {
		return
	}
	s.gone, s.cut = true, errno != unix.EPIPE && !s.fin && !s.ended
	other := c.other(s)
	if other.gone { // nobody is left on either side
		l.abort(c)
		return
	}
	l.dropUnwritten(other)
	other.readable = false
	s.blocked = false
	s.readable = true
	c.active, c.unsent = l.now, -1
	l.draining = append(l.draining, c.ref())
	l.pump(c, s)
}

// finish acts on the end of s, all of which has been written to d.
func (l *loop) finish(c *conn, s, d *side) {
	switch {
	case s.gone:
		l.drain(c, s, d)
	case d.gone: // the other direction ends c
	case d.ended && d.pending == nil && d.inPipe == 0:
		l.close(c)
	case !d.shut:
		l.shut(c, d)
	}
}

// shut tells the peer of d that nothing more comes.
func (l *loop) shut(c *conn, d *side) {
	if d == &c.backend && !c.answered && l.opts.tcpState(d.fd) == tcpSynSent {
		l.block(c, d) // shutdown(2) would end the dial
		return
	}
	d.shut, c.half = true, true
	if errno := rawShutdown(d.fd, unix.SHUT_WR); errno != 0 {
		l.broken(c, d, unix.ECONNRESET)
	}
}

// drain ends c, of which s is gone, once the peer of d has taken what was
// written to it: a reset throws away what has not been sent, and so does a
// close when there is something that was not read.
func (l *loop) drain(c *conn, s, d *side) {
	if !s.cut && !d.shut {
		d.shut = true
		rawShutdown(d.fd, unix.SHUT_WR)
	}
	c.drains, c.active, c.unsent = true, l.now, l.opts.unsent(d.fd)
	if c.unsent == 0 {
		l.drained(c)
	}
}

// drained ends c, whose peer has taken everything or does not move any more.
func (l *loop) drained(c *conn) {
	if c.client.cut || c.backend.cut {
		l.abort(c)
		return
	}
	l.close(c)
}

// stillIdle is as flushIdle, of a peer that was sent a whole stream.
const stillIdle = 30 * time.Second

// checkDraining looks at the conns with a side that is gone.
func (l *loop) checkDraining() {
	kept := l.draining[:0]
	for _, ref := range l.draining {
		c := l.conns.get(ref)
		if c == nil {
			continue
		}
		d, limit := &c.client, stillIdle
		if d.gone {
			d = &c.backend
		}
		if c.other(d).cut {
			limit = flushIdle
		}
		if left := l.opts.unsent(d.fd); left != c.unsent { // it takes something, if slowly
			c.unsent, c.active = left, l.now
		}
		if c.drains && c.unsent == 0 || l.now-c.active > int64(limit) {
			l.drained(c)
			continue
		}
		kept = append(kept, ref)
	}
	l.draining = kept
}

// abort resets both sides now.
func (l *loop) abort(c *conn) {
	if c.counters != nil {
		c.counters.resets.Add(1)
	} else {
		c.acceptor.tally.resets.Add(1)
	}
	l.resetBoth(c)
}

func (l *loop) resetBoth(c *conn) {
	l.opts.resetOnClose(c.client.fd)
	if c.backend.fd >= 0 {
		l.opts.resetOnClose(c.backend.fd)
	}
	l.close(c)
}

// close closes both sides, and ends c.
func (l *loop) close(c *conn) {
	l.closeBeside(c)
	for _, s := range [...]*side{&c.client, &c.backend} {
		l.dropUnwritten(s)
		if s.fd >= 0 {
			rawClose(s.fd)
		}
	}
	c.release()
	c.acceptor.tally.active.Add(-1)
	if c.counters != nil {
		c.counters.active.Add(-1)
		c.acceptor.tally.leave(c.target(c.attempt).Address, c.counters)
	}
	l.engine.budget.add(-perConnection)
	l.conns.put(c)
	l.load.Add(-1)
}

// abortAll ends everything that the loop has.
func (l *loop) abortAll() {
	l.conns.each(l.abort)
	for p := l.pipes; p != nil; p = p.next {
		p.close()
	}
	l.pipes = nil
}

// warmAfter is when a connection gets the socket options that only matter for
// those that live on. The others are spared the system calls.
const warmAfter = 5 * time.Second

// sweep ends the connections that have not moved for too long.
func (l *loop) sweep() {
	limits := &l.engine.limits
	l.conns.each(func(c *conn) {
		limit := limits.Idle
		if c.half {
			limit = limits.HalfIdle
		}
		switch {
		case l.now-c.active >= int64(limit):
			l.abort(c)
		case !c.warm && c.answered && l.now-c.started >= int64(warmAfter):
			c.warm = true
			l.keepAlive(c.backend.fd)
			if !c.target(c.attempt).Address.Addr().IsLoopback() {
				l.opts.set(c.backend.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int32(userTimeout/time.Millisecond))
			}
		}
	})
}

// pressureIdle is how long a connection must have been idle to be closed because
// others need its descriptors.
const pressureIdle = time.Minute

// relieve closes the longest idle connections while descriptors are scarce. An
// idle connection can be made again; one that is refused is lost.
func (l *loop) relieve() {
	excess := l.engine.budget.excess() / perConnection / len(l.engine.all)
	if excess <= 0 {
		return
	}
	var idle []*conn
	l.conns.each(func(c *conn) {
		if l.now-c.active >= int64(pressureIdle) {
			idle = append(idle, c)
		}
	})
	slices.SortFunc(idle, func(a, b *conn) int { return cmp.Compare(a.active, b.active) })
	for _, c := range idle[:min(excess, len(idle))] {
		l.abort(c)
	}
}

// keepAlive makes the kernel look after a silent peer.
func (l *loop) keepAlive(fd int32) syscall.Errno {
	l.opts.set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int32(keepAlive.Idle/time.Second))
	l.opts.set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int32(keepAlive.Interval/time.Second))
	l.opts.set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int32(keepAlive.Count))
	return l.opts.set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}

// userTimeout is how long what was written to a Backend on another machine may
// stay unacknowledged. A peer on this machine does not vanish without a word;
// it may be stopped in a debugger, which would count.
const userTimeout = 30 * time.Second
