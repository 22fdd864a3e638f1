package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// portable is the engine of goroutines and the net package. It runs on every
// system that Go runs on.
type portable struct {
	limits  Limits
	dialer  dialer
	log     *slog.Logger
	started time.Time

	descriptors *budget
	short       episode      // of too few descriptors
	scarce      atomic.Int64 // nothing is accepted until then, in ns

	ctx  context.Context // done when connections are to be aborted
	stop context.CancelFunc
	wg   sync.WaitGroup // every goroutine of the engine

	mu    sync.Mutex // guards the following
	pipes map[*pipe]struct{}
	udp   map[*udpListener]struct{} // that are open
}

func newPortable(o engineOptions) *portable {
	e := &portable{
		limits: o.Limits, log: o.log, started: time.Now(), descriptors: newBudget(o.MaxDescriptors),
		pipes: make(map[*pipe]struct{}), udp: make(map[*udpListener]struct{}),
		dialer: dialer{hedge: o.Hedge, timeout: o.DialTimeout, own: o.own, transparent: o.transparent, log: o.log},
	}
	e.dialer.clock = e.clock
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// listen implements engine.
func (e *portable) listen(f *frontend, at ListenAddr) (listener, error) {
	if f.now.Load().Protocol == corev1.ProtocolUDP {
		return e.listenUDP(f, at)
	}
	return e.listenTCP(f, at)
}

// shards implements engine: the goroutines share one part.
func (e *portable) shards() int { return 1 }

// tidy implements engine.
func (e *portable) tidy(f *frontend) { f.parts[0].tidy() }

// clock implements engine: it is the time since the engine was made.
func (e *portable) clock() int64 { return int64(time.Since(e.started)) }

// sweepInterval is how often connections that do not move are looked at.
const sweepInterval = time.Second

// run implements engine.
func (e *portable) run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.sweep()
		case <-ctx.Done():
			e.stop()
			e.wg.Wait()
			return nil
		}
	}
}

// sweep ends the connections that do not move.
func (e *portable) sweep() {
	e.mu.Lock()
	var overdue []*pipe
	for p := range e.pipes {
		if p.overdue() {
			overdue = append(overdue, p)
		}
	}
	e.mu.Unlock()
	for _, p := range overdue {
		p.fail()
	}
}

// pauseAfterLack is how long nothing is accepted after a dial has failed for a
// lack of descriptors or memory.
const pauseAfterLack = 100 * time.Millisecond

// dial finds a Backend for a client. When this host lacks what that takes, it
// tries again: the client would see a reset, and has done nothing wrong.
func (e *portable) dial(f *frontend, client netip.Addr) (*net.TCPConn, picked, error) {
	end := time.Now().Add(e.limits.DialTimeout)
	for retry := minAcceptRetry; ; retry = min(2*retry, maxAcceptRetry) {
		conn, h, err := e.dialer.dial(e.ctx, f, client)
		if err == nil || !isLocal(err) {
			return conn, h, err
		}
		e.scarce.Store(time.Now().Add(pauseAfterLack).UnixNano())
		e.lack("dial a backend", err)
		if time.Now().Add(retry).After(end) {
			return nil, picked{}, err
		}
		select {
		case <-time.After(retry):
		case <-e.ctx.Done():
			return nil, picked{}, err
		}
	}
}

// lack logs that something cannot be done for a lack of descriptors or the
// like.
func (e *portable) lack(what string, err error) {
	if e.short.begins() {
		e.log.Warn("cannot go on as fast as clients ask", "action", what, "error", err)
	}
}

// join runs a pipe until it ends.
func (e *portable) join(p *pipe) error {
	p.prepare()
	e.track(p)
	defer e.untrack(p)
	p.cut() // the Backend may have been removed since it was picked
	return p.run(e.ctx)
}

func (e *portable) track(p *pipe) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pipes[p] = struct{}{}
}

func (e *portable) untrack(p *pipe) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pipes, p)
}

// keep enters a UDP listener among those that are open, or takes it out.
func (e *portable) keep(l *udpListener, open bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if open {
		e.udp[l] = struct{}{}
	} else {
		delete(e.udp, l)
	}
}
