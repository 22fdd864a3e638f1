//go:build amd64 || arm64

package direct

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

const (
	// maxSockets bounds the UDP sockets that are remembered: nobody tells us
	// when one is closed. The one that was not used for longest is forgotten.
	maxSockets = 4096

	// maxFlows bounds the addresses that are remembered of one socket.
	maxFlows = 256

	// flowIdle is how long an unconnected socket keeps its Backend without a
	// datagram to it, as in the proxy.
	flowIdle = 120 * time.Second
)

// datagrams are the UDP sockets that reach Services or the nameserver.
type datagrams struct {
	mu      sync.Mutex // guards the following
	sockets map[uint64]*udpSocket
}

// A udpSocket is what is remembered of a socket, by its cookie (SO_COOKIE).
type udpSocket struct {
	used time.Time

	peer   netip.AddrPort // that connect named last, if it is one of a Service
	places []place        // where the socket is, the last one last

	flows   map[netip.AddrPort]udpFlow
	sources map[netip.AddrPort]netip.AddrPort // of answers, to what the program has named
}

// A place is a descriptor of a process.
type place struct{ pid, number int }

// maxPlaces bounds what is remembered of the copies of one socket (dup(2)).
const maxPlaces = 4

// A udpFlow is where datagrams to one address of a Service go.
type udpFlow struct {
	backend netip.AddrPort
	used    time.Time
}

// flowOf returns where a datagram of a socket to an address is to go: always
// to the same Backend, while that serves. It remembers whose answer that will
// be. It returns false if nobody serves the address.
func (s *supervisor) flowOf(cookie uint64, to address) (netip.AddrPort, bool) {
	d := &s.datagrams
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	socket := d.socket(cookie, now)
	socket.used = now
	flow, ok := socket.flows[to.ip]
	if !ok || now.Sub(flow.used) > flowIdle {
		if flow.backend, ok = s.server(to); !ok {
			return netip.AddrPort{}, false
		}
	}
	flow.used = now
	socket.remember(to.ip, flow)
	return flow.backend, true
}

// server returns a Backend, or the nameserver, for UDP to an address.
func (s *supervisor) server(to address) (netip.AddrPort, bool) {
	p := s.backends(to, corev1.ProtocolUDP)
	if p.len() == 0 {
		return netip.AddrPort{}, false
	}
	p.release() // nobody sees a flow end
	return p.address(0), true
}

// socket returns what is remembered of a socket. The caller must hold mu.
func (d *datagrams) socket(cookie uint64, now time.Time) *udpSocket {
	if socket, ok := d.sockets[cookie]; ok {
		return socket
	}
	if d.sockets == nil {
		d.sockets = make(map[uint64]*udpSocket)
	}
	if len(d.sockets) >= maxSockets {
		oldest, at := uint64(0), now
		for c, socket := range d.sockets {
			if !socket.used.After(at) {
				oldest, at = c, socket.used
			}
		}
		delete(d.sockets, oldest)
	}
	socket := &udpSocket{flows: make(map[netip.AddrPort]udpFlow), sources: make(map[netip.AddrPort]netip.AddrPort)}
	d.sockets[cookie] = socket
	return socket
}

// remember takes a flow over. A socket that has had too many begins anew: its
// answers under way then come from Backends.
func (s *udpSocket) remember(to netip.AddrPort, flow udpFlow) {
	if len(s.flows) >= maxFlows {
		if _, ok := s.flows[to]; !ok {
			clear(s.flows)
		}
	}
	if len(s.sources) >= maxFlows {
		if _, ok := s.sources[flow.backend]; !ok {
			clear(s.sources)
		}
	}
	s.flows[to], s.sources[flow.backend] = flow, to
}

// connected notes that a descriptor of a process was connected to an address of
// a Service.
func (d *datagrams) connected(cookie uint64, peer netip.AddrPort, pid, number int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if socket, ok := d.sockets[cookie]; ok {
		socket.peer, socket.places = peer, []place{{pid, number}}
	}
}

// copied notes that a process has, or will have, a socket on another descriptor
// as well. The first may be closed after that, as shells do.
func (d *datagrams) copied(cookie uint64, pid, number int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if socket, ok := d.sockets[cookie]; ok && socket.peer.IsValid() {
		socket.places = append(socket.places, place{pid, number})
		socket.places = socket.places[max(0, len(socket.places)-maxPlaces):]
	}
}

// named returns how the sources of a socket's answers are to be given, or
// false if as they are.
func (d *datagrams) named(cookie uint64) (func(netip.AddrPort) netip.AddrPort, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	socket, ok := d.sockets[cookie]
	if !ok {
		return nil, false
	}
	socket.used = time.Now()
	return func(source netip.AddrPort) netip.AddrPort {
		d.mu.Lock()
		defer d.mu.Unlock()
		if name, ok := socket.sources[source]; ok {
			return name
		}
		return source
	}, true
}

// repin moves the flows to an address off Backends that no longer serve. One
// that is connected is connected again, even while its program waits for an
// answer; another one's next datagram goes elsewhere. Where there is no other
// Backend a flow stays.
func (s *supervisor) repin(key registry.FrontendKey, serves func(netip.AddrPort) bool) {
	if key.Protocol != corev1.ProtocolUDP {
		return
	}
	d := &s.datagrams
	d.mu.Lock()
	defer d.mu.Unlock()
	named := key.AddrPort()
	for cookie, socket := range d.sockets {
		flow, ok := socket.flows[named]
		if !ok || serves(flow.backend) {
			continue
		}
		if socket.peer != named {
			delete(socket.flows, named)
			continue
		}
		backend, ok := s.server(address{family: unix.AF_INET6, ip: named})
		if !ok {
			continue
		}
		if !socket.reconnect(cookie, flow.backend, backend) {
			delete(d.sockets, cookie)
			continue
		}
		socket.remember(named, udpFlow{backend, flow.used})
	}
}

// find returns a duplicate of a socket, or false if it is in none of its places.
func (s *udpSocket) find(cookie uint64) (fd int, ok bool) {
	for _, p := range slices.Backward(s.places) {
		if fd, ok := p.find(cookie); ok {
			return fd, true
		}
	}
	return -1, false
}

// find returns a duplicate of a socket, or false if that is not there.
func (p place) find(cookie uint64) (fd int, ok bool) {
	fd, err := p.duplicate()
	if err != nil {
		return -1, false
	}
	if c, err := cookieOf(fd); err != nil || c != cookie {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// duplicate returns a duplicate of what is there now.
func (p place) duplicate() (int, error) {
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, p.number, 0)
}

// reconnect connects a socket that is connected to one Backend to another. It
// returns false if the socket is not where it was, or not what it was.
func (s *udpSocket) reconnect(cookie uint64, old, backend netip.AddrPort) bool {
	fd, ok := s.find(cookie)
	if !ok {
		return false
	}
	defer unix.Close(fd)
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return false
	}
	family, peer := addrPortOf(sa)
	to := address{family: family}
	if peer != old || !to.reaches(backend.Addr()) {
		return false
	}
	if unix.Connect(fd, to.sockaddr(backend)) == nil {
		return true
	}
	// The source address is another one there: then the port is, too.
	disconnect(fd)
	return unix.Connect(fd, to.sockaddr(backend)) == nil
}

// disconnect makes a UDP socket one that has no peer.
func disconnect(fd int) {
	_ = rawConnect(fd, noPeer)
}

// cookieOf returns what tells a socket from all others that there ever were.
func cookieOf(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}
