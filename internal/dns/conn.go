package dns

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// acceptPause is how long no connection is accepted after the process ran out
// of descriptors or memory for one. UDP is served meanwhile.
const acceptPause = 50 * time.Millisecond

// A connListener accepts a bounded number of TCP connections.
type connListener struct {
	*net.TCPListener
	done  <-chan struct{} // ends a pause
	slots chan struct{}   // one taken by each open connection
	log   *slog.Logger
	short bool // of descriptors; used by Accept alone
}

// Accept implements net.Listener.
func (l *connListener) Accept() (net.Conn, error) {
	for {
		c, err := l.TCPListener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			if !l.short {
				l.short = true
				l.log.Warn("accept DNS connection", "err", err)
			}
			select {
			case <-time.After(acceptPause):
				continue
			case <-l.done:
				return nil, err
			}
		}
		l.short = false
		select {
		case l.slots <- struct{}{}:
			return &conn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

// idle returns how long a connection may wait for its next query.
func (l *connListener) idle() time.Duration {
	if len(l.slots) > cap(l.slots)/2 {
		return tcpCrowded
	}
	return tcpIdle
}

// A conn is a TCP connection that gives its client a bounded time to take an
// answer: one that asks and does not read must not hold us.
type conn struct {
	net.Conn
	release func()
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(tcpWrite)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
