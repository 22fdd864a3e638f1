package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The pause after a failed accept grows from the first to the second: file
// descriptors come back in their own time.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// A listener accepts a bounded number of connections and knows them, so that
// Serve can end those that would hold it up. Where accept fails for a moment,
// out of file descriptors say, it waits: cmux tries again at once, and would
// take a whole CPU.
type listener struct {
	net.Listener
	log    *slog.Logger
	admit  func(net.Conn) error // says why a peer is not let in; nil: all are
	slots  chan struct{}        // has an element for each open connection
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex // guards the following
	conns map[*conn]bool
}

func newListener(l net.Listener, admit func(net.Conn) error, log *slog.Logger) *listener {
	return &listener{
		Listener: l, admit: admit, log: log,
		slots: make(chan struct{}, maxConns), closed: make(chan struct{}), conns: make(map[*conn]bool),
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if l.admit != nil {
			if err := l.admit(c); err != nil {
				l.log.Warn("connection refused", "listener", l.Addr(), "err", err)
				c.Close()
				continue
			}
		}
		if c := l.track(c); c != nil {
			return c, nil
		}
		<-l.slots
		return nil, net.ErrClosed
	}
}

// accept retries for as long as the error is a passing one.
func (l *listener) accept() (net.Conn, error) {
	pause := minAcceptPause
	for {
		c, err := l.Listener.Accept()
		var passing interface{ Temporary() bool }
		if err == nil || !errors.As(err, &passing) || !passing.Temporary() {
			return c, err
		}
		if pause == minAcceptPause {
			l.log.Warn("accept failed, trying again", "listener", l.Addr(), "err", err)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxAcceptPause)
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. It closes no connection, and may be called
// again.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener %s: %w", l.Addr(), err)
	}
	return nil
}

// closeConns closes the connections that have not said anything yet, or all.
func (l *listener) closeConns(all bool) {
	l.mu.Lock()
	var list []*conn
	for c := range l.conns {
		if all || !c.heard.Load() {
			list = append(list, c)
		}
	}
	l.mu.Unlock()
	for _, c := range list {
		c.Close()
	}
}

// track returns nc as a connection that l knows, or nil if l has been closed
// meanwhile: closeConns would not find it any more.
func (l *listener) track(nc net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		nc.Close()
		return nil
	default:
	}
	c := &conn{Conn: nc, of: l}
	l.conns[c] = true
	return c
}

// A conn is a connection that its listener knows.
type conn struct {
	net.Conn
	of    *listener
	heard atomic.Bool // a byte has been read from it
	once  sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.conns, c)
		c.of.mu.Unlock()
		<-c.of.slots
	})
	return err
}
