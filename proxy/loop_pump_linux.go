package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// turnBytes is what a side moves before others get their turn.
	turnBytes = 1 << 20

	// bulkAfter full reads in a row say that there is much to move: then it is
	// spliced, which copies nothing and costs more system calls.
	bulkAfter = 2

	pipeBytes = 1 << 20

	// What is kept for use again.
	maxRemainders = 64
	keptPipes     = 8
)

// A remainder has what was read from a side and is not written to the other yet. A
// side has one at most: nothing is read from it as long as it does.
type remainder struct {
	bytes    [bufferSize]byte
	from, to int
	next     *remainder // among those that are free
}

// A kernelPipe is where the kernel keeps what is spliced from one socket to
// another.
type kernelPipe struct {
	reads, writes int32
	size          int32
	next          *kernelPipe // among those that are free
}

func (p *kernelPipe) close() {
	rawClose(p.reads)
	rawClose(p.writes)
}

// pump moves what there is from s to the other side, until there is no more,
// the other takes no more, or it is the turn of others. c may have ended when
// it returns.
func (l *loop) pump(c *conn, s *side) {
	d := c.other(s)
	moved := 0
	for !d.blocked && !c.drains {
		switch {
		case d.gone: // nobody takes it
			return
		case s.pending != nil:
			if !l.flushPending(c, s, d) {
				return
			}
		case s.inPipe > 0:
			if !l.flushPipe(c, s, d) {
				return
			}
		case s.ended:
			l.finish(c, s, d)
			return
		case !s.readable:
			return
		case moved >= turnBytes:
			if !s.queued {
				s.queued = true
				l.again = append(l.again, connSide{c.ref(), s == &c.backend})
			}
			return
		case s.pipe != nil || s.full >= bulkAfter:
			n, ok := l.splice(c, s, d)
			if !ok {
				return
			}
			moved += n
		default:
			n, ok := l.copyOnce(c, s, d)
			if !ok {
				return
			}
			moved += n
		}
	}
}

// copyOnce reads from s and writes that to d. It reports false when c may have
// ended, or there is nothing more to do.
func (l *loop) copyOnce(c *conn, s, d *side) (int, bool) {
	n, errno := rawRecv(s.fd, l.buf)
	switch {
	case errno == unix.EAGAIN:
		s.readable = false
		return 0, false
	case errno != 0:
		l.readFailed(c, s, errno)
		return 0, false
	case n == 0:
		return 0, l.readEnd(c, s)
	case n == len(l.buf):
		s.full = min(s.full+1, bulkAfter)
	default:
		// A short read has taken all there was. What comes later is told, and so
		// is the end, unless it was told before.
		s.full = 0
		s.readable = s.closing || s.gone
	}
	c.active = l.now
	s.moved += uint64(n)
	c.count(s, n)
	sent, errno := rawSend(d.fd, l.buf[:n])
	if errno != 0 {
		if errno != unix.EAGAIN {
			if d == &c.backend && !c.answered {
				l.keep(s, l.buf[:n]) // for the next Backend
				l.dialFailed(c, errno)
				return 0, false
			}
			l.broken(c, d, unix.ECONNRESET)
			return 0, false
		}
		sent = 0
	} else if !c.answered {
		l.answer(c)
	}
	if sent < n {
		l.keep(s, l.buf[sent:n])
		l.block(c, d)
		return n, false
	}
	return n, true
}

// readEnd acts on the end of s. It reports false when that is in truth a reset:
// the kernel tells of one once, and splice(2) keeps that to itself when it has
// written something before. Then a read finds an end.
func (l *loop) readEnd(c *conn, s *side) bool {
	if !s.fin && !s.shut && !s.gone && l.opts.tcpState(s.fd) == tcpClose {
		l.broken(c, s, unix.ECONNRESET)
		return false
	}
	s.ended = true
	return true
}

// readFailed acts on an error of reading from s: all that was sent before it
// has been read.
func (l *loop) readFailed(c *conn, s *side, errno syscall.Errno) {
	if s.gone {
		s.ended = true
		l.finish(c, s, c.other(s))
		return
	}
	l.broken(c, s, errno) // reads on, to the end
}

// keep puts bytes aside that the other side does not take now.
func (l *loop) keep(s *side, bytes []byte) {
	k := l.remainders
	if k != nil {
		l.remainders = k.next
		l.nremainders--
	} else {
		k = new(remainder)
	}
	k.from, k.to = 0, copy(k.bytes[:], bytes)
	s.pending = k
}

func (l *loop) freeRemainder(s *side) {
	k := s.pending
	s.pending = nil
	if l.nremainders < maxRemainders {
		k.next = l.remainders
		l.remainders = k
		l.nremainders++
	}
}

// block waits until the kernel says that d takes more.
func (l *loop) block(c *conn, d *side) {
	d.blocked = true
	if d.notified {
		return
	}
	d.notified = true
	role := roleClient
	if d == &c.backend {
		role = int(c.attempt)
	}
	l.watch(unix.EPOLL_CTL_MOD, d.fd, c, role, unix.EPOLLOUT)
}

// flushPending writes what was kept of s. It reports false when not all of it
// was taken.
func (l *loop) flushPending(c *conn, s, d *side) bool {
	k := s.pending
	n, errno := rawSend(d.fd, k.bytes[k.from:k.to])
	if errno != 0 {
		l.writeFailed(c, d, errno)
		return false
	}
	if !c.answered {
		l.answer(c)
	}
	c.active = l.now
	if k.from += n; k.from < k.to {
		l.block(c, d)
		return false
	}
	l.freeRemainder(s)
	return true
}

// writeFailed acts on an error of writing to d.
func (l *loop) writeFailed(c *conn, d *side, errno syscall.Errno) {
	switch {
	case errno == unix.EAGAIN:
		l.block(c, d)
	case d == &c.backend && !c.answered:
		l.dialFailed(c, errno)
	default:
		l.broken(c, d, unix.ECONNRESET)
	}
}

// flushPipe writes what is in the pipe of s. It reports false when not all of it
// was taken.
func (l *loop) flushPipe(c *conn, s, d *side) bool {
	for s.inPipe > 0 {
		n, errno := rawSplice(s.pipe.reads, d.fd, int(s.inPipe))
		if errno == 0 && n == 0 {
			errno = unix.EPIPE // cannot be: the pipe has bytes
		}
		if errno != 0 {
			l.writeFailed(c, d, errno)
			return false
		}
		c.active = l.now
		s.inPipe -= int32(n)
	}
	return true
}

// splice moves from s to d inside the kernel. It reports false when there is
// nothing more to do.
func (l *loop) splice(c *conn, s, d *side) (int, bool) {
	if s.pipe == nil && !l.takePipe(s) {
		s.full = 0
		return 0, true
	}
	n, errno := rawSplice(s.fd, s.pipe.writes, int(s.pipe.size))
	switch {
	case errno == unix.EAGAIN:
		s.readable = false
		s.full = 0 // the next event chooses anew
		l.freePipe(s)
		return 0, false
	case errno != 0:
		l.freePipe(s)
		l.readFailed(c, s, errno)
		return 0, false
	case n == 0:
		l.freePipe(s)
		return 0, l.readEnd(c, s)
	}
	s.inPipe = int32(n)
	s.moved += uint64(n)
	c.active = l.now
	c.count(s, n)
	return n, l.flushPipe(c, s, d)
}

// takePipe gives s a pipe, and reports false when there is none to be had.
func (l *loop) takePipe(s *side) bool {
	if p := l.pipes; p != nil {
		l.pipes = p.next
		l.npipes--
		s.pipe = p
		return true
	}
	if !l.engine.takePipe() {
		return false
	}
	_, errno := rawCall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&l.pipeEnds)), unix.O_NONBLOCK|unix.O_CLOEXEC, 0, 0, 0, 0)
	if errno != 0 {
		l.engine.releasePipe()
		return false
	}
	p := &kernelPipe{reads: l.pipeEnds[0], writes: l.pipeEnds[1]}
	// An ordinary user has 64 MiB of pipes, and small ones after that, which
	// are slower than copying.
	size, errno := rawCall(unix.SYS_FCNTL, uintptr(p.writes), unix.F_SETPIPE_SZ, pipeBytes, 0, 0, 0)
	if errno != 0 || size < bufferSize {
		p.close()
		l.engine.releasePipe()
		return false
	}
	p.size = int32(size)
	s.pipe = p
	return true
}

// freePipe takes the pipe of s, which is empty, for others to use.
func (l *loop) freePipe(s *side) {
	p := s.pipe
	s.pipe = nil
	if l.npipes >= keptPipes {
		p.close()
		l.engine.releasePipe()
		return
	}
	p.next = l.pipes
	l.pipes = p
	l.npipes++
}

// dropUnwritten throws away what was read from s and is not written.
func (l *loop) dropUnwritten(s *side) {
	if s.pending != nil {
		l.freeRemainder(s)
	}
	if s.pipe == nil {
		return
	}
	if s.inPipe > 0 { // it cannot be used again
		s.pipe.close()
		s.pipe, s.inPipe = nil, 0
		l.engine.releasePipe()
		return
	}
	l.freePipe(s)
}
