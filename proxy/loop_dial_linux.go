package proxy

import (
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"usher/registry"
)

// A dial is a connection to another Backend beside the first, which has not
// answered for a while.
type dial struct {
	fd      int32
	attempt uint8 // 0: there is none
}

const maxBeside = 2

// A dialQueue has the connections that were accepted lately, in that order.
// Each is looked at once, after the hedge delay: nearly all have been answered
// by then.
type dialQueue struct {
	ring  []dialing
	head  int
	count int
}

type dialing struct {
	connRef
	due int64
}

func (q *dialQueue) push(d dialing) {
	if q.count == len(q.ring) {
		grown := make([]dialing, max(64, 2*len(q.ring)))
		for i := range q.count {
			grown[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.count)%len(q.ring)] = d
	q.count++
}

func (q *dialQueue) first() (dialing, bool) {
	if q.count == 0 {
		return dialing{}, false
	}
	return q.ring[q.head], true
}

func (q *dialQueue) pop() {
	q.head = (q.head + 1) % len(q.ring)
	q.count--
}

// target returns the Backend that an attempt is about. Attempts are numbered
// from 1 in the order of the conn's choice.
func (c *conn) target(attempt uint8) *registry.Backend { return c.choice.At(int(attempt) - 1) }

// nextDial begins a connection to the next Backend that was not tried yet and
// still serves, and watches it. It returns no attempt when there is none, or when
// this host has no means for it, which is no Backend's fault.
func (l *loop) nextDial(c *conn, events uint32) dial {
	for int(c.tried) < min(c.choice.Len(), maxAttempt) {
		c.tried++
		b := c.target(c.tried)
		if c.tried > 1 && !c.acceptor.frontend.serves(b) { // it has left since
			continue
		}
		if l.engine.own.contains(b.Address) {
			l.engine.noteLoop(c.acceptor.frontend, b)
			continue
		}
		fd, errno := l.connect(c, b)
		if errno == 0 {
			errno = l.watch(unix.EPOLL_CTL_ADD, fd, c, int(c.tried), events)
		}
		switch {
		case errno == 0:
			if c.tried > 1 {
				c.acceptor.tally.of(b.Address).retries.Add(1)
			}
			return dial{fd, c.tried}
		case isLocalErrno(errno):
			c.tried-- // it may be dialled beside the others yet
			c.acceptor.tally.dialErrors.Add(1)
			l.engine.noteLocal(errno)
			return dial{}
		case errno != unix.EADDRNOTAVAIL: // no port to reach this one from
			l.failed(c, c.tried, errno)
		}
	}
	return dial{}
}

// connect begins a connection. On loopback it is over by the time that the call
// returns, and the kernel does not say so: it is found out by using it.
func (l *loop) connect(c *conn, b *registry.Backend) (int32, syscall.Errno) {
	if f := c.acceptor.frontend.now.Load(); f.ClientAddress == registry.Transparent && l.engine.transparent {
		client := l.endOf(unix.SYS_GETPEERNAME, c.client.fd).Addr()
		if !client.IsValid() { // it is gone
			return -1, unix.EADDRNOTAVAIL
		}
		if from := source(f, client, b.Address.Addr()); from.IsValid() {
			l.source.set(netip.AddrPortFrom(from, 0))
			l.address.set(b.Address)
			return l.connectFrom(b, &l.source, true)
		}
	}
	l.address.set(b.Address)
	fd, errno := l.connectFrom(b, nil, false)
	if errno != unix.EADDRNOTAVAIL || !b.Address.Addr().Is4() || !b.Address.Addr().IsLoopback() {
		return fd, errno
	}
	// Every port from the usual source to this Backend is in use, most by
	// connections that have ended. There are other sources on loopback.
	for i := range moreSources {
		l.source.set(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + (l.sourceTurn+i)%moreSources)}), 0))
		if fd, errno = l.connectFrom(b, &l.source, false); errno != unix.EADDRNOTAVAIL {
			l.sourceTurn += i
			return fd, errno
		}
	}
	return -1, errno
}

// moreSources is how many addresses there are to connect from besides 127.0.0.1.
const moreSources = 32

// connectFrom begins a connection to l.address. The port of a source is chosen
// by connect(2), which needs it to be free for that destination alone. A source
// that need not be of this host's is transparent.
func (l *loop) connectFrom(b *registry.Backend, source *sockaddr, transparent bool) (int32, syscall.Errno) {
	fd, errno := rawSocket(family(b.Address.Addr()), unix.SOCK_STREAM)
	if errno != 0 {
		return -1, errno
	}
	l.opts.set(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if transparent {
		level, name := transparentOption(b.Address.Addr())
		l.opts.set(fd, level, name, 1)
	}
	if source != nil {
		l.opts.set(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if errno = rawBind(fd, source); errno != 0 {
			rawClose(fd)
			return -1, errno
		}
	}
	errno = rawConnect(fd, &l.address)
	if errno == 0 || errno == unix.EINPROGRESS {
		return fd, 0
	}
	rawClose(fd)
	return -1, errno
}

// isLocalErrno reports whether a dial failed for a reason of this host's own.
func isLocalErrno(errno syscall.Errno) bool { return slices.Contains(localErrnos, errno) }

// startDial dials the first Backend for a new conn. It reports false when c has
// ended.
func (l *loop) startDial(c *conn) bool {
	d := l.nextDial(c, 0)
	if d.attempt == 0 {
		l.unserved(c)
		return false
	}
	c.backend.fd, c.attempt = d.fd, d.attempt
	l.dialing.push(dialing{c.ref(), l.now + int64(l.engine.limits.Hedge)})
	return true
}

// unserved resets a client that no Backend answers.
func (l *loop) unserved(c *conn) {
	c.acceptor.tally.unserved.Add(1)
	l.resetBoth(c)
}

// dialEvent acts on an event of the connection to a Backend that has not
// answered yet. It reports false when there is nothing else to do about it.
func (l *loop) dialEvent(c *conn, events uint32) bool {
	if events&unix.EPOLLERR != 0 {
		l.dialFailed(c, l.opts.takeError(c.backend.fd))
		return false
	}
	l.answer(c)
	return true
}

// answer notes that the Backend of the present attempt has answered.
func (l *loop) answer(c *conn) {
	c.answered = true
	l.closeBeside(c)
	c.counters = c.acceptor.tally.of(c.target(c.attempt).Address)
	c.counters.connections.Add(1)
	c.counters.active.Add(1)
	c.counters.bytesUp.Add(c.client.moved)
	l.settle(c)
	if !c.keeps() { // the Backend was removed after it was picked
		ref := c.ref()
		l.post(func() {
			if c := l.conns.get(ref); c != nil {
				l.cutOne(c)
			}
		})
	}
}

// dialFailed goes on to a dial beside the one that failed, or to the next
// Backend at once.
func (l *loop) dialFailed(c *conn, errno syscall.Errno) {
	l.failed(c, c.attempt, errno)
	rawClose(c.backend.fd)
	c.backend.fd = -1
	for i := range c.beside {
		if d := c.beside[i]; d.attempt != 0 {
			c.beside[i] = dial{}
			l.use(c, d, true)
			return
		}
	}
	d := l.nextDial(c, 0)
	if d.attempt == 0 {
		l.unserved(c)
		return
	}
	l.use(c, d, false)
}

// use makes d the connection to the Backend, and offers it what the client has
// sent. notified says that the kernel will tell when d takes more.
func (l *loop) use(c *conn, d dial, notified bool) {
	c.backend.fd, c.attempt = d.fd, d.attempt
	c.backend.blocked, c.backend.notified, c.backend.closing, c.backend.shut = false, notified, false, false
	l.pump(c, &c.client)
}

// firstDialing returns the first of the connections that have not been answered
// yet. Nearly all have been by now, and nobody need wake up for them.
func (l *loop) firstDialing() (dialing, bool) {
	for {
		d, ok := l.dialing.first()
		if !ok {
			return d, false
		}
		if c := l.conns.get(d.connRef); c != nil && !c.answered {
			return d, true
		}
		l.dialing.pop()
	}
}

// checkDialing looks at the connections that have waited for the hedge delay.
func (l *loop) checkDialing() {
	for d, ok := l.firstDialing(); ok && d.due <= l.now; d, ok = l.firstDialing() {
		l.dialing.pop()
		c := l.conns.get(d.connRef)
		if l.opts.tcpState(c.backend.fd) == tcpEstablished {
			l.answer(c) // nobody has said anything yet
			continue
		}
		// From now on the kernel tells when it does answer.
		c.backend.notified = true
		l.watch(unix.EPOLL_CTL_MOD, c.backend.fd, c, int(c.attempt), unix.EPOLLOUT)
		l.dialBeside(c)
		l.hedging = append(l.hedging, d.connRef)
	}
}

// States of a connection that is open, and of one that is being dialled
// (tcp_states.h).
const (
	tcpEstablished = 1
	tcpSynSent     = 2
)

// dialBeside dials one more Backend beside the one that is silent.
func (l *loop) dialBeside(c *conn) {
	c.hedged++
	for i := range c.beside {
		if c.beside[i].attempt == 0 {
			c.beside[i] = l.nextDial(c, unix.EPOLLOUT)
			return
		}
	}
}

// besideEvent acts on an event of a dial beside the first: the one that is
// answered takes its place, and one that is refused is followed by the next.
func (l *loop) besideEvent(c *conn, role int, events uint32) {
	for i := range c.beside {
		d := c.beside[i]
		if d.attempt == 0 || int(d.attempt) != role {
			continue
		}
		c.beside[i] = dial{}
		if events&unix.EPOLLERR != 0 {
			l.failed(c, d.attempt, l.opts.takeError(d.fd))
			rawClose(d.fd)
			c.beside[i] = l.nextDial(c, unix.EPOLLOUT)
			return
		}
		l.beaten(c, d.attempt)
		rawClose(c.backend.fd)
		c.attempt = d.attempt
		l.answer(c)
		ref := c.ref()
		l.use(c, d, true)
		if l.conns.get(ref) != nil {
			l.connEvent(c, role, events)
		}
		return
	}
}

// beaten notes that the Backends that were dialled before an attempt, which has
// been answered, or those of all attempts, have been silent for too long.
func (l *loop) beaten(c *conn, attempt uint8) {
	l.failed(c, c.attempt, unix.ETIMEDOUT)
	for _, d := range c.beside {
		if d.attempt != 0 && d.attempt < attempt {
			l.failed(c, d.attempt, unix.ETIMEDOUT)
		}
	}
}

// checkHedging dials a third Backend when the first two stay silent, and gives
// up at the end of the dial time-out.
func (l *loop) checkHedging() {
	kept := l.hedging[:0]
	for _, ref := range l.hedging {
		c := l.conns.get(ref)
		if c == nil || c.answered {
			continue
		}
		waited := l.now - c.started
		if waited >= int64(l.engine.limits.DialTimeout) {
			l.beaten(c, maxAttempt)
			l.unserved(c)
			continue
		}
		if c.hedged < maxBeside && waited >= int64(l.engine.limits.Hedge)*5/2 {
			l.dialBeside(c)
		}
		kept = append(kept, ref)
	}
	l.hedging = kept
}

// closeBeside gives up the dials beside the first.
func (l *loop) closeBeside(c *conn) {
	for i := range c.beside {
		if d := &c.beside[i]; d.attempt != 0 {
			rawClose(d.fd)
			*d = dial{}
		}
	}
}
