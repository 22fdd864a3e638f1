package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"usher/registry"
)

// chunk bounds one splice, so that byte counts stay live without a wrapper
// around the connection, which would disable splice(2).
const chunk = 1 << 20

// flushIdle is how long what was received before a failure may stand still on
// its way to the other peer. As long as it moves it is delivered, however slow
// the reader is: it is no more than the sockets hold.
const flushIdle = time.Second

// A pipe joins a client's connection to its Backend's.
type pipe struct {
	client, backend *net.TCPConn

	frontend *frontend
	to       registry.Backend
	at       netip.AddrPort // where the client has come to
	started  time.Time

	idle     time.Duration // without progress while both directions are open
	halfIdle time.Duration // the same once one direction has ended

	half   atomic.Bool  // one direction has ended
	told   atomic.Bool  // both were, by closeReads
	failed atomic.Bool  // it is to end in a reset
	active atomic.Int64 // time of the last progress in either direction, in ns

	acked uint64 // what both peers had acknowledged at the last look; belongs to the sweep

	up, down direction // from the client to the Backend, and back
}

// A direction is one of the two of a pipe.
type direction struct {
	dst, src *net.TCPConn
	bytes    *atomic.Uint64 // of all pipes to the Backend
	moved    atomic.Uint64  // bytes of this connection

	writing atomic.Bool // it moves bytes, or tries to
	err     error
}

// halt ends the direction, unless it is writing what it has read. Nothing else
// sets a read deadline.
func (d *direction) halt() { d.src.SetReadDeadline(past) }

// past is a deadline that ends a call at once.
var past = time.Unix(1, 0)

// prepare makes p ready to run, and to be looked at by sweep.
func (p *pipe) prepare() {
	p.up.dst, p.up.src = p.backend, p.client
	p.down.dst, p.down.src = p.client, p.backend
	p.touch()
}

// run copies both ways until both directions have ended in order. When one
// fails, or ctx is done, or nothing moves for too long, both peers see a
// reset, after what was received from the other. It closes both connections.
func (p *pipe) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.fail)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(&p.down, &p.up) })
	p.copy(&p.up, &p.down)
	wg.Wait()
	if p.up.err == nil && p.down.err == nil {
		p.client.Close()
		p.backend.Close()
		return nil
	}
	wg.Go(func() { p.drain(ctx, p.client) })
	p.drain(ctx, p.backend)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(p.up.err, p.down.err)
}

// copy moves the bytes of one direction. At the end of the stream it passes on
// the half close. On any error it makes the other direction end too.
func (p *pipe) copy(d, other *direction) {
	d.err = p.move(d)
	switch {
	case d.err != nil:
	case !p.told.Load() && d.wasReset():
		d.err = os.NewSyscallError("splice", syscall.ECONNRESET)
	default:
		p.touch()
		p.half.Store(true)
		d.err = d.dst.CloseWrite()
	}
	if d.err != nil {
		p.broken(d, other)
	}
}

// move moves bytes until the stream ends. It waits for them before it splices:
// the kernel pipe that splice(2) needs is taken by then.
func (p *pipe) move(d *direction) error {
	w, err := newWaiter(d.src)
	if err != nil {
		return err
	}
	for {
		there, err := w.wait()
		if err != nil || there == 0 {
			return err
		}
		d.writing.Store(true)
		n, err := d.dst.ReadFrom(&io.LimitedReader{R: d.src, N: int64(min(there, chunk))})
		d.writing.Store(false)
		if n > 0 {
			d.bytes.Add(uint64(n))
			d.moved.Add(uint64(n))
			p.touch()
		}
		if err != nil {
			return err
		}
	}
}

// wasReset reports whether the end of the stream is in truth a reset. The
// kernel tells of one once, and may have told the other direction, or a
// splice(2) that kept it to itself because it had written something: then a
// read finds an end. An end in order has a place of its own behind the bytes.
func (d *direction) wasReset() bool {
	got, known := received(d.src)
	return known && got == d.moved.Load()
}

// broken makes the other direction end after d failed. When the end that d
// writes to is dead, the other direction still reads what that sent before,
// and ends by itself. Otherwise nobody is left to take what it reads.
func (p *pipe) broken(d, other *direction) {
	p.failed.Store(true)
	if !isClosed(d.dst) {
		other.halt()
	}
}

// fail ends both directions now. It may be called at any time.
func (p *pipe) fail() {
	p.failed.Store(true)
	p.up.halt()
	p.down.halt()
	p.client.SetWriteDeadline(past)
	p.backend.SetWriteDeadline(past)
}

// closeReads ends both directions in order, after what has been received. It may
// be called at any time.
func (p *pipe) closeReads() {
	p.told.Store(true)
	p.client.CloseRead()
	p.backend.CloseRead()
}

// overdue reports whether the pipe is to be given up: because nothing has
// moved within the limit, or because one end is dead and what it sent does not
// move on. Nobody reads a dead end while the other takes no more bytes, and so
// nobody notices.
func (p *pipe) overdue() bool {
	if p.stale() {
		return true
	}
	if p.quiet() < flushIdle || !p.up.writing.Load() && !p.down.writing.Load() {
		return false
	}
	if !p.failed.Load() && !isFailed(p.client) && !isFailed(p.backend) {
		return false
	}
	before := p.acked
	p.acked = acknowledged(p.client) + acknowledged(p.backend)
	return p.acked == before
}

// drain waits until the peer of c has taken what was written to it, or stopped
// taking, and resets the connection. A reset throws away what has not been
// sent.
func (p *pipe) drain(ctx context.Context, c *net.TCPConn) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for left, moved := unsent(c), time.Now(); left > 0 && time.Since(moved) < flushIdle; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			reset(c)
			return
		}
		if now := unsent(c); now < left {
			left, moved = now, time.Now()
		}
	}
	reset(c)
}

func (p *pipe) touch() { p.active.Store(time.Now().UnixNano()) }

// quiet returns how long nothing has moved.
func (p *pipe) quiet() time.Duration { return time.Since(time.Unix(0, p.active.Load())) }

func (p *pipe) limit() time.Duration {
	if p.half.Load() {
		return p.halfIdle
	}
	return p.idle
}

// stale reports whether neither direction has moved within the limit.
func (p *pipe) stale() bool { return p.quiet() >= p.limit() }
