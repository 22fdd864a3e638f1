package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"usher/registry"
)

// Back-off of Accept, as in net/http: it fails when descriptors run out, and
// must neither spin nor end the listener then.
const (
	minAcceptRetry = 5 * time.Millisecond
	maxAcceptRetry = time.Second
)

var errShort = errors.New("all descriptors that the proxy may have are in use")

// A tcpListener accepts the connections of a Frontend at one address. While
// the Frontend has no Backends it is paused: connections are refused, as
// kube-proxy's REJECT rule does, and nobody else can take the port.
type tcpListener struct {
	engine   *portable
	frontend *frontend
	at       ListenAddr
	done     chan struct{} // closed with the listener

	mu      sync.Mutex // guards the following
	ln      *net.TCPListener
	paused  bool
	closed  bool
	changed chan struct{} // closed when paused or closed changes
}

func (e *portable) listenTCP(f *frontend, at ListenAddr) (listener, error) {
	l := &tcpListener{engine: e, frontend: f, at: at, done: make(chan struct{}), changed: make(chan struct{})}
	if err := l.openSocket(); err != nil {
		return nil, err
	}
	if err := l.update(f.now.Load()); err != nil {
		l.ln.Close()
		return nil, err
	}
	e.descriptors.add(1)
	e.wg.Go(l.accept)
	return l, nil
}

func (l *tcpListener) openSocket() error {
	ln, err := l.at.ListenTCP()
	if err != nil {
		return fmt.Errorf("listen on %s: %w", l.at.AddrPort, err)
	}
	l.ln = ln
	return nil
}

// update implements listener.
func (l *tcpListener) update(f *registry.Frontend) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := len(f.Backends) == 0
	if pause == l.paused || l.closed {
		return nil
	}
	change, what := l.resumeSocket, "resume"
	if pause {
		change, what = l.pauseSocket, "pause"
	}
	if err := change(); err != nil {
		return fmt.Errorf("%s the listener on %s: %w", what, l.at.AddrPort, err)
	}
	l.paused = pause
	l.signal()
	return nil
}

// close implements listener.
func (l *tcpListener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.done)
	l.ln.Close()
	l.engine.descriptors.add(-1)
	l.signal()
}

// signal wakes those who wait for a change. The caller must hold mu.
func (l *tcpListener) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// state returns the socket and what may have changed about it.
func (l *tcpListener) state() (ln *net.TCPListener, paused, closed bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ln, l.paused, l.closed, l.changed
}

// accept accepts connections until the listener is closed.
func (l *tcpListener) accept() {
	retry := minAcceptRetry
	for {
		ln, paused, closed, changed := l.state()
		if closed {
			return
		}
		if paused {
			<-changed
			continue
		}
		if wait := time.Until(time.Unix(0, l.engine.scarce.Load())); wait > 0 {
			select {
			case <-time.After(wait):
			case <-changed:
			}
			continue
		}
		conn, err := ln.AcceptTCP()
		if err == nil {
			retry = minAcceptRetry
			l.admit(conn)
			continue
		}
		if _, paused, closed, _ := l.state(); paused || closed || errors.Is(err, net.ErrClosed) {
			continue
		}
		l.engine.lack("accept a connection", err)
		select {
		case <-time.After(retry):
			retry = min(2*retry, maxAcceptRetry)
		case <-changed:
		}
	}
}

// admit starts to serve a client when there are descriptors for it. Until then
// nobody else is accepted: they wait in the kernel's queue.
func (l *tcpListener) admit(client *net.TCPConn) {
	b := l.engine.descriptors
	if !b.take(perConnection) {
		l.engine.lack("accept a connection", errShort)
		if !b.wait(perConnection, l.done) {
			reset(client)
			return
		}
	}
	l.engine.wg.Go(func() {
		defer b.add(-perConnection)
		l.serve(client)
	})
}

// serve finds a Backend for a client and moves their bytes.
func (l *tcpListener) serve(client *net.TCPConn) {
	t := &l.frontend.parts[0]
	t.connections.Add(1)
	t.active.Add(1)
	defer t.active.Add(-1)
	var backend *net.TCPConn
	defer func() {
		if r := recover(); r != nil {
			l.engine.log.Error("panic in a connection", "panic", r, "stack", string(debug.Stack()))
			reset(client)
			if backend != nil {
				reset(backend)
			}
		}
	}()
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort()
	backend, h, err := l.engine.dial(l.frontend, from.Addr().Unmap())
	if err == nil {
		if err = l.introduce(client, backend); err != nil {
			reset(backend)
			h.release()
		}
	}
	if err != nil {
		t.unserved.Add(1)
		reset(client)
		l.engine.log.Debug("no backend answers", "frontend", l.frontend.now.Load().FrontendKey, "client", client.RemoteAddr(), "error", err)
		return
	}
	defer h.release()
	address := h.backend().Address
	c := t.count(address, func(c *counters) {
		c.connections.Add(1)
		c.active.Add(1)
	})
	defer func() {
		c.active.Add(-1)
		t.leave(address, c)
	}()
	p := &pipe{
		frontend: l.frontend, to: *h.backend(), at: l.at.AddrPort, started: time.Now(),
		client: client, backend: backend, idle: l.engine.limits.Idle, halfIdle: l.engine.limits.HalfIdle,
		up: direction{bytes: &c.bytesUp}, down: direction{bytes: &c.bytesDown},
	}
	if err := l.engine.join(p); err != nil {
		c.resets.Add(1)
		l.engine.log.Debug("connection reset", "frontend", l.frontend.now.Load().FrontendKey, "client", client.RemoteAddr(), "error", err)
	}
}

// introduce tells the Backend who the client is, where the Frontend wants that.
func (l *tcpListener) introduce(client, backend *net.TCPConn) error {
	way := l.frontend.now.Load().ClientAddress
	if !way.HasHeader() {
		return nil
	}
	unmapped := func(a net.Addr) netip.AddrPort {
		ap := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	_, err := backend.Write(header(way, unmapped(client.RemoteAddr()), unmapped(client.LocalAddr())))
	return err
}

// remoteOf returns the address of the other end.
func remoteOf(c *net.TCPConn) netip.AddrPort {
	a := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// reset closes a connection so that its peer sees a reset, not an end.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
