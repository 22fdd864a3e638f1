package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// chunk bounds one splice, so that byte counts and idle checks stay live
// without a wrapper around the connection, which would disable splice(2).
const chunk = 1 << 20

// When a pipe fails, what was received before is still delivered, as long as
// it moves: flushIdle is how long it may stand still, flushLimit how long it
// may take.
const (
	flushIdle  = time.Second
	flushLimit = 5 * time.Second
)

// A pipe joins a client's connection to its Backend's.
type pipe struct {
	client, backend *net.TCPConn

	idle     time.Duration // without progress while both directions are open
	halfIdle time.Duration // the same once one direction has ended

	half   atomic.Bool  // one direction has ended
	failed atomic.Bool  // it is to end in a reset
	active atomic.Int64 // time of the last progress in either direction, in ns

	up, down direction // from the client to the Backend, and back
}

// A direction is one of the two of a pipe.
type direction struct {
	dst, src *net.TCPConn
	bytes    *atomic.Uint64
	halted   atomic.Bool // nothing is to be read any more
}

// halt ends the direction, unless it is writing what it has read.
func (d *direction) halt() {
	d.halted.Store(true)
	d.src.SetReadDeadline(past)
}

// past is a deadline that ends a call at once.
var past = time.Unix(1, 0)

// run copies both ways until both directions have ended in order. When one
// fails, or ctx is done, or nothing moves for too long, both peers see a
// reset, after what was received from the other. It closes both connections.
func (p *pipe) run(ctx context.Context) error {
	p.up.dst, p.up.src = p.backend, p.client
	p.down.dst, p.down.src = p.client, p.backend
	stop := context.AfterFunc(ctx, p.fail)
	defer stop()
	p.touch()
	var wg sync.WaitGroup
	var errDown error
	wg.Go(func() { errDown = p.copy(&p.down, &p.up) })
	errUp := p.copy(&p.up, &p.down)
	wg.Wait()
	if errUp == nil && errDown == nil {
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
	return errors.Join(errUp, errDown)
}

// copy moves the bytes of one direction. At the end of the stream it passes on
// the half close. On any other error it makes the other direction end too.
func (p *pipe) copy(d, other *direction) error {
	for {
		d.src.SetReadDeadline(p.deadline())
		if d.halted.Load() { // its deadline may have been overwritten just now
			return os.ErrDeadlineExceeded
		}
		n, err := d.dst.ReadFrom(&io.LimitedReader{R: d.src, N: chunk})
		if n > 0 {
			d.bytes.Add(uint64(n))
			p.touch()
		}
		switch {
		case err == nil && n == chunk:
			continue
		case err == nil:
			p.touch()
			p.half.Store(true)
			d.dst.SetReadDeadline(p.deadline()) // wake the other direction to the shorter limit
			if err = d.dst.CloseWrite(); err == nil {
				return nil
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && !p.failed.Load() && !p.stale():
			continue
		}
		p.broken(d, other)
		return err
	}
}

// broken makes the other direction end after d failed. When the end that d
// writes to is dead, the other direction still reads what that sent before,
// and ends by itself. Otherwise nobody is left to take what it reads.
func (p *pipe) broken(d, other *direction) {
	p.failed.Store(true)
	if !isDead(d.dst) {
		other.halt()
	}
	other.dst.SetWriteDeadline(time.Now().Add(flushLimit))
}

// fail ends both directions now. It may be called at any time.
func (p *pipe) fail() {
	p.failed.Store(true)
	p.up.halt()
	p.down.halt()
	p.client.SetWriteDeadline(past)
	p.backend.SetWriteDeadline(past)
}

// drain waits until the peer of c has taken what was written to it, or stopped
// taking, and resets the connection. A reset throws away what has not been
// sent.
func (p *pipe) drain(ctx context.Context, c *net.TCPConn) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	left, moved := unsent(c), time.Now()
	for end := moved.Add(flushLimit); left > 0 && time.Now().Before(end) && time.Since(moved) < flushIdle; {
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

// deadline is a quarter of the limit away: a busy direction reports its
// progress well before the other could take the pipe for stale.
func (p *pipe) deadline() time.Time { return time.Now().Add(p.limit() / 4) }
