package proxy

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"usher/registry"
)

// maxDatagram is the size of the buffers: no datagram is cut.
const maxDatagram = 65535

// buffers has buffers of maxDatagram bytes. A flow has one only while it moves
// a datagram.
var buffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// A udpListener has the flows of a Frontend at one address. It is closed while
// the Frontend has no Backends: the kernel refuses the datagrams then.
type udpListener struct {
	engine   *portable
	frontend *frontend
	tally    *tally
	at       netip.AddrPort
	conn     *net.UDPConn
	done     chan struct{} // closed with the listener

	mu       sync.Mutex // guards the following
	closed   bool
	flows    map[netip.AddrPort]*flow
	oneWay   list.List // of *flow without an answer, the longest idle first
	answered list.List // of *flow, the same within noteInterval
}

func (e *portable) listenUDP(f *frontend, at ListenAddr) (listener, error) {
	conn, err := at.ListenUDP()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at.AddrPort, err)
	}
	l := &udpListener{
		engine: e, frontend: f, tally: &f.parts[0], at: at.AddrPort, conn: conn, done: make(chan struct{}),
		flows: make(map[netip.AddrPort]*flow),
	}
	e.descriptors.add(1)
	e.keep(l, true)
	e.wg.Go(l.receive)
	return l, nil
}

// update implements listener: the flows of a Backend that no longer serves end
// at once, so that the client's next datagram goes to one that does. Those of
// a Backend that terminates and still serves go on.
func (l *udpListener) update(f *registry.Frontend) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fl := range l.flows {
		if f.Serving(fl.picked.backend().Address) == nil {
			l.end(fl)
		}
	}
	return nil
}

// close implements listener.
func (l *udpListener) close() {
	l.engine.keep(l, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.done)
	l.conn.Close()
	l.engine.descriptors.add(-1)
	for _, fl := range l.flows {
		l.end(fl)
	}
}

// receive passes the clients' datagrams on until the listener is closed. An
// error may be about an earlier answer of ours; one that stays must not make
// it spin.
func (l *udpListener) receive() {
	var buf [maxDatagram]byte
	retry := time.Duration(0)
	for {
		n, client, err := l.conn.ReadFromUDPAddrPort(buf[:])
		if err == nil {
			retry = 0
			l.pass(netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), buf[:n])
			continue
		}
		select {
		case <-time.After(retry):
			retry = min(max(2*retry, minAcceptRetry), maxAcceptRetry)
		case <-l.done:
			return
		}
	}
}

// pass sends a client's datagram to the Backend of its flow.
func (l *udpListener) pass(client netip.AddrPort, datagram []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	// A datagram from one of our own addresses is a forgery that would make
	// two Services talk to each other for ever (CVE-2024-2169).
	if client.Port() == 0 || l.engine.dialer.own.contains(client) {
		l.tally.dropped.Add(1)
		return
	}
	fl := l.flows[client]
	if fl == nil {
		if fl = l.open(client); fl == nil {
			l.tally.dropped.Add(1)
			return
		}
	}
	fl.heard.Store(time.Now().UnixNano())
	fl.queue().MoveToBack(fl.element)
	if fl.last == nil {
		fl.last = make([]byte, 0, len(datagram)) // not nil, even for an empty one
	}
	fl.last = append(fl.last[:0], datagram...)
	fl.large.Store(cap(fl.last) > keptDatagram)
	l.send(fl)
}

// send sends the last datagram of a flow, and to another Backend when the
// present one refuses. The caller must hold mu.
func (l *udpListener) send(fl *flow) {
	for {
		_, err := fl.conn.Write(fl.last)
		if errors.Is(err, syscall.ECONNREFUSED) {
			// The error is that of an earlier datagram. This one was not sent.
			if l.repick(fl) {
				continue
			}
			l.end(fl)
		}
		if err != nil {
			fl.counters.dropped.Add(1)
			return
		}
		fl.up += uint64(len(fl.last))
		fl.counters.bytesUp.Add(uint64(len(fl.last)))
		return
	}
}

// open makes a flow for a client. It returns nil when there is no Backend, or
// no descriptor. The caller must hold mu.
func (l *udpListener) open(client netip.AddrPort) *flow {
	for len(l.flows) >= l.engine.limits.MaxFlows || !l.engine.descriptors.take(perFlow) {
		oldest := l.oneWay.Front()
		if oldest == nil {
			oldest = l.answered.Front()
		}
		if oldest == nil {
			l.engine.lack("open a flow", errShort)
			return nil
		}
		l.end(oldest.Value.(*flow))
	}
	fl := &flow{listener: l, client: client, started: time.Now()}
	fl.heard.Store(time.Now().UnixNano())
	if !l.repick(fl) {
		fl.picked.release()
		l.engine.descriptors.add(-perFlow)
		return nil
	}
	fl.element = l.oneWay.PushBack(fl)
	l.flows[client] = fl
	l.tally.flows.Add(1)
	l.tally.activeFlows.Add(1)
	return fl
}

// repick gives a flow a Backend that has not refused it, and a socket to it.
// The caller must hold mu.
func (l *udpListener) repick(fl *flow) bool {
	if fl.conn != nil {
		fl.conn.Close()
		fl.conn = nil
		fl.refused = append(fl.refused, fl.picked.backend().Address)
		fl.picked.choice.Failed(fl.picked.place, syscall.ECONNREFUSED, l.engine.clock())
		fl.counters.dialErrors.Add(1)
		l.leave(fl)
		fl.picked.release()
	}
	choice := l.frontend.picker.Pick(fl.client.Addr(), l.engine.clock())
	fl.picked, fl.proven = picked{choice, 0}, false
	for i := range choice.Len() {
		b := choice.At(i)
		if slices.Contains(fl.refused, b.Address) || l.engine.dialer.own.contains(b.Address) {
			continue
		}
		c, err := connect(l.engine.ctx, new(net.Dialer), "udp", b.Address)
		if err != nil {
			l.engine.log.Debug("open a flow", "backend", b.Address, "error", err)
			if isLocal(err) {
				l.engine.lack("open a flow", err)
				return false
			}
			l.tally.count(b.Address, func(c *counters) { c.dialErrors.Add(1) })
			continue
		}
		conn := c.(*net.UDPConn)
		counters := l.tally.count(b.Address, func(c *counters) {
			c.flows.Add(1)
			c.activeFlows.Add(1)
			if i > 0 || len(fl.refused) > 0 {
				c.retries.Add(1)
			}
		})
		choice.Move(0, i)
		fl.conn, fl.picked.place, fl.counters = conn, i, counters
		l.engine.wg.Go(func() { fl.answer(conn, counters) })
		return true
	}
	return false
}

// leave notes that a flow has left its Backend. The caller must hold mu.
func (l *udpListener) leave(fl *flow) {
	fl.counters.activeFlows.Add(-1)
	l.tally.leave(fl.picked.backend().Address, fl.counters)
}

// end ends a flow. The caller must hold mu.
func (l *udpListener) end(fl *flow) {
	if l.flows[fl.client] != fl {
		return
	}
	delete(l.flows, fl.client)
	fl.queue().Remove(fl.element)
	if fl.conn != nil {
		fl.conn.Close()
		l.leave(fl)
	}
	fl.picked.release()
	l.engine.descriptors.add(-perFlow)
	l.tally.activeFlows.Add(-1)
}
