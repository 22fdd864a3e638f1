package proxy

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A flow is the conversation of one client with one Backend: a socket that is
// connected to the Backend, so that the kernel drops what others send, and
// tells of a refusal.
type flow struct {
	listener *udpListener
	client   netip.AddrPort
	started  time.Time
	heard    atomic.Int64 // time of the last datagram in either direction, in ns
	down     atomic.Uint64
	large    atomic.Bool // last is more than what a flow may keep for long

	// The following are guarded by the listener's mu.
	picked   picked    // its Backend
	proven   bool      // that has answered
	counters *counters // of the Backend
	up       uint64    // bytes
	conn     *net.UDPConn
	element  *list.Element    // in the queue
	answered bool             // the Backend has answered
	refused  []netip.AddrPort // Backends that refused since the last answer
	last     []byte           // the client's last datagram, to be sent again; nil when there is no need
}

// keptDatagram is the largest datagram that a flow keeps after an answer.
const keptDatagram = 2048

// noteInterval is how often an answer moves its flow away from those that make
// room for others. That takes the lock of the listener.
const noteInterval = 250 * time.Millisecond

// queue returns the list that the flow is in.
func (f *flow) queue() *list.List {
	if f.answered {
		return &f.listener.answered
	}
	return &f.listener.oneWay
}

// answer passes the Backend's datagrams on to the client until the flow ends,
// moves to another Backend, or has been idle for too long.
func (f *flow) answer(conn *net.UDPConn, c *counters) {
	limit := f.listener.engine.limits.FlowUnanswered
	var noted time.Time
	for {
		idle := time.Since(time.Unix(0, f.heard.Load()))
		if idle >= limit {
			f.finish(conn)
			return
		}
		conn.SetReadDeadline(time.Now().Add(limit - idle))
		n, err := f.relay(conn, c, func() {
			if now := time.Now(); now.Sub(noted) >= noteInterval || f.large.Load() {
				noted = now
				f.noteAnswer(conn)
			}
		})
		switch {
		case err == nil:
			f.heard.Store(time.Now().UnixNano())
			f.down.Add(uint64(n))
			c.bytesDown.Add(uint64(n))
			limit = f.listener.engine.limits.FlowIdle
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, syscall.ECONNREFUSED):
			f.moveOn(conn)
			return
		default:
			f.finish(conn)
			return
		}
	}
}

// relay waits for one datagram and sends it to the client, after note: who has an
// answer may count on what it says of its Backend. It takes a buffer only when
// there is a datagram.
func (f *flow) relay(conn *net.UDPConn, c *counters, note func()) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := (*[maxDatagram]byte)(nil)
	defer func() {
		if buf != nil {
			buffers.Put(buf)
		}
	}()
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		if buf == nil {
			buf = buffers.Get().(*[maxDatagram]byte)
		}
		for {
			n, readErr = syscall.Read(int(fd), buf[:])
			if readErr != syscall.EINTR {
				break
			}
		}
		if readErr == syscall.EAGAIN {
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if err == nil {
		err = readErr
	}
	if err != nil {
		return 0, err
	}
	note()
	if _, err := f.listener.conn.WriteToUDPAddrPort(buf[:n], f.client); err != nil {
		c.dropped.Add(1) // the client is gone, or its buffer full
	}
	return n, nil
}

// noteAnswer notes that the Backend answers.
func (f *flow) noteAnswer(conn *net.UDPConn) {
	l := f.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.conn != conn || l.flows[f.client] != f {
		return
	}
	f.refused = nil
	if !f.proven {
		f.proven = true
		l.engine.dialer.settle(f.picked, nil, f.client.Addr())
	}
	if f.large.Swap(false) {
		f.last = nil
	}
	f.queue().Remove(f.element)
	f.answered = true
	f.element = f.queue().PushBack(f)
}

// moveOn gives the flow another Backend after the present one refused, and
// sends the last datagram again: the kernel says that it was not delivered.
func (f *flow) moveOn(conn *net.UDPConn) {
	l := f.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.conn != conn || l.flows[f.client] != f {
		return
	}
	if !l.repick(f) {
		l.end(f)
		return
	}
	if f.last != nil {
		l.send(f)
	}
}

// finish ends the flow, unless it has another socket by now.
func (f *flow) finish(conn *net.UDPConn) {
	l := f.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.conn == conn {
		l.end(f)
	}
}
