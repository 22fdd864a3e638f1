//go:build amd64 || arm64

package direct

import (
	"cmp"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/vip"
)

// A Program is one or more processes that are one to others. It may have an
// address of its own, which it need not know of: where it means to listen on
// every address, or on localhost, it listens there.
type Program struct {
	translator *Translator
	address    netip.Addr // not valid: it listens where it says

	mu    sync.Mutex // guards the following
	given map[port]uint16
}

// A port is one that a program has named in bind(2).
type port struct {
	protocol corev1.Protocol
	number   uint16
}

// Program returns one that has an address of its own, IPv4 and local to this
// machine, or none if that is the zero Addr.
func (t *Translator) Program(address netip.Addr) *Program {
	return &Program{translator: t, address: address, given: make(map[port]uint16)}
}

// Enter makes what the calling thread starts from now on processes of p. The
// goroutine must be locked to its thread, which is of no other use any more,
// and end without unlocking it; as the parent of a process it has to live as
// long.
func (p *Program) Enter() error {
	fd, err := install(program(p.address.IsValid()))
	if err != nil {
		return err
	}
	t := p.translator
	s := &supervisor{listener: listener(fd), Translator: t, program: p}
	s.wakeInPlace()
	t.mu.Lock()
	t.supervisors[s] = true
	t.mu.Unlock()
	// It ends with the last process, where the kernel says so, and else with us.
	go func() {
		s.run()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.supervisors, s)
		unix.Close(fd)
	}()
	return nil
}

// Given returns the port that the program has been given when it named a port:
// another one where that takes a privilege.
func (p *Program) Given(protocol corev1.Protocol, named uint16) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.given[port{protocol, named}], named)
}

// Named is the reverse of Given.
func (p *Program) Named(protocol corev1.Protocol, given uint16) uint16 {
	if given > vip.PortOffset && p.Given(protocol, given-vip.PortOffset) == given {
		return given - vip.PortOffset
	}
	return given
}

// calls reports whether the program, which has an address of its own, calls
// itself by ip.
func (p *Program) calls(ip netip.Addr) bool {
	return p.address.IsValid() && (ip == localhost || ip == netip.IPv6Loopback() || ip == p.address)
}

// bind answers bind(2).
func (r *receiver) bind(n *notification) reply {
	if !r.program.address.IsValid() { // of socketcall(2), of which the filter sees less
		return proceed
	}
	to, rep, ok := r.target(n, n.Args[1], n.Args[2])
	if !ok {
		return rep
	}
	if to.family == unix.AF_UNSPEC || !to.ip.IsValid() || !to.ip.Addr().IsUnspecified() && !r.program.calls(to.ip.Addr()) {
		return proceed
	}
	if to.ip.Port() == 0 { // a client's: the kernel chooses
		return proceed
	}
	fd, rep, ok := r.duplicate(n)
	if !ok {
		return rep
	}
	defer unix.Close(fd)
	if rep, ok := r.elsewhere(n, fd); ok {
		return rep
	}
	protocol, ok := protocolOf(fd)
	if !ok {
		return proceed
	}
	if only, err := unix.GetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY); to.family == unix.AF_INET6 && err == nil && only != 0 {
		// A Pod has no such address: the socket gets a port that nobody knows, and
		// is in the way of no other replica.
		return failed(errnoOf(unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})))
	}
	return failed(r.program.bind(fd, to, protocol))
}

// protocolOf returns what a socket speaks, or false if that has no ports.
func protocolOf(fd int) (corev1.Protocol, bool) {
	switch protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case err != nil:
		return "", false
	case protocol == unix.IPPROTO_TCP, protocol == unix.IPPROTO_MPTCP:
		return corev1.ProtocolTCP, true
	case protocol == unix.IPPROTO_UDP:
		return corev1.ProtocolUDP, true
	}
	return "", false
}

// bind gives a socket the address of the program, with the port that it has
// named or, where that takes a privilege, a higher one.
func (p *Program) bind(fd int, to address, protocol corev1.Protocol) unix.Errno {
	number := to.ip.Port()
	errno := errnoOf(unix.Bind(fd, to.sockaddr(netip.AddrPortFrom(p.address, number))))
	if errno == unix.EACCES {
		number += vip.PortOffset
		errno = errnoOf(unix.Bind(fd, to.sockaddr(netip.AddrPortFrom(p.address, number))))
	}
	if errno == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.given[port{protocol, to.ip.Port()}] = number
	}
	return errno
}

// listensAt reports whether an address is one where the program has meant to
// listen.
func (p *Program) listensAt(to netip.AddrPort) bool {
	if !p.calls(to.Addr()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[port{corev1.ProtocolTCP, to.Port()}] != 0 || p.given[port{corev1.ProtocolUDP, to.Port()}] != 0
}

// own returns where the program listens instead of at an address that it calls
// itself by, and that, should it listen no longer; nothing if it never did.
func (p *Program) own(to netip.AddrPort, protocol corev1.Protocol) []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	number, ok := p.given[port{protocol, to.Port()}]
	if !ok || !p.calls(to.Addr()) {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(p.address, number), to}
}
