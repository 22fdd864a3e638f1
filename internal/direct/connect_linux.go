//go:build amd64 || arm64

package direct

import (
	"net/netip"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// tcpClose is the state of a TCP socket that has not been connected yet, or no
// longer is (TCP_CLOSE).
const tcpClose = 7

// connect answers connect(2).
func (r *receiver) connect(n *notification) reply {
	to, rep, ok := r.target(n, n.Args[1], n.Args[2])
	if !ok {
		return rep
	}
	if r.names.hides(to.path) {
		return failed(unix.ENOENT)
	}
	if to.family == unix.AF_UNSPEC || !r.translates(to) {
		return proceed
	}
	if !r.state.isListed() {
		return r.whenListed(n, (*receiver).connect)
	}
	fd, rep, ok := r.duplicate(n)
	if !ok {
		return rep
	}
	if rep, ok := r.elsewhere(n, fd, to); ok {
		unix.Close(fd)
		return rep
	}
	var protocol int32
	switch ok := rawOption(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL, &protocol); {
	case !ok: // no socket
		unix.Close(fd)
		return proceed
	case protocol == unix.IPPROTO_TCP, protocol == unix.IPPROTO_MPTCP:
		return r.connectTCP(n, fd, to, protocol)
	case protocol == unix.IPPROTO_UDP:
		defer unix.Close(fd)
		return r.connectUDP(n, fd, to)
	}
	unix.Close(fd)
	if !r.state.contains(to.ip.Addr()) {
		return proceed
	}
	return failed(unix.ECONNREFUSED)
}

// translates reports whether an address must not be left to the kernel: one of
// the service range, the nameserver that the program has, or where it listens
// itself.
func (s *supervisor) translates(to address) bool {
	return to.ip.IsValid() && (s.state.contains(to.ip.Addr()) || s.names.answers(to.ip) || s.program.listensAt(to.ip))
}

// backends returns where a connection or a flow to an address is to go.
func (s *supervisor) backends(to address, protocol corev1.Protocol) pick {
	p := s.state.choose(registry.FrontendKey{Address: to.ip.Addr(), Port: to.ip.Port(), Protocol: protocol})
	if p.len() == 0 {
		p = pick{fixed: s.program.own(to.ip, protocol)}
	}
	p.only(to.reaches)
	if p.len() == 0 && s.names.answers(to.ip) {
		p = pick{fixed: []netip.AddrPort{s.names.address(to.ip)}}
	}
	return p
}

// connectUDP connects the program's socket, of which fd is a duplicate.
func (r *receiver) connectUDP(n *notification, fd int, to address) reply {
	cookie, err := cookieOf(fd)
	if err != nil {
		return failed(errnoOf(err))
	}
	backend, ok := r.flowOf(cookie, to)
	if !ok {
		return failed(unix.ECONNREFUSED)
	}
	if err := unix.Connect(fd, to.sockaddr(backend)); err != nil {
		return failed(errnoOf(err))
	}
	if !r.names.owns(backend) {
		pid, err := r.process(n.TID)
		if err != nil {
			return later
		}
		r.datagrams.connected(cookie, to.ip, pid, int(int32(n.Args[0])))
	}
	return reply{}
}

// connectTCP connects the program's socket, of which fd is a duplicate, and
// closes fd.
func (r *receiver) connectTCP(n *notification, fd int, to address, protocol int32) reply {
	d := dial{fd: fd, to: to, protocol: protocol}
	if err := d.begin(); err != nil {
		unix.Close(fd)
		return proceed
	}
	var errno unix.Errno
	var state uint8 // the first byte of a struct tcp_info
	if rawOption(fd, unix.SOL_TCP, unix.TCP_INFO, &state) && state != tcpClose {
		// Asked again: the kernel does not look at the address, and no Backend
		// has its turn.
		errno = d.connect(to.ip)
	} else {
		d.pick = r.backends(to, corev1.ProtocolTCP)
		if errno = unix.ECONNREFUSED; d.left() {
			errno = d.advance()
		}
	}
	if d.blocking && (errno == unix.EINPROGRESS || errno == unix.EALREADY) {
		asked, waits, began := *n, d, errno
		go func() {
			r.answer(&asked, r.await(&asked, &waits, began))
			r.ledger.notes.identify()
		}()
		return later
	}
	r.ledger.note(n, &d, errno)
	d.end()
	return failed(errno)
}

// A dial connects one socket to the first Backend that accepts.
type dial struct {
	fd       int     // a duplicate of the program's
	flags    int     // of the description, which the program shares
	to       address // that the program has named
	protocol int32
	blocking bool
	pick     pick
	tried    int            // how many of pick
	current  netip.AddrPort // tried last
	answered bool           // by that
}

// begin makes the socket one that does not block while we use it. The program
// waits in connect, and its other threads see that at most for a moment.
func (d *dial) begin() (err error) {
	if d.flags, err = unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0); err != nil {
		return err
	}
	if d.blocking = d.flags&unix.O_NONBLOCK == 0; d.blocking {
		rawSetFlags(d.fd, d.flags|unix.O_NONBLOCK)
	}
	return nil
}

// end gives the socket back.
func (d *dial) end() {
	if d.blocking {
		rawSetFlags(d.fd, d.flags)
	}
	unix.Close(d.fd)
}

func (d *dial) connect(to netip.AddrPort) unix.Errno {
	d.current = to
	var sa [unix.SizeofSockaddrInet6]byte
	return rawConnect(d.fd, fillSockaddr(&sa, d.to.family, to))
}

// left reports whether there is another Backend to try.
func (d *dial) left() bool { return d.tried < d.pick.len() }

// advance tries the Backends that are left until one does not fail at once,
// and returns what the program is to see. A Backend on this machine has
// answered by the time connect returns, which shows in poll.
func (d *dial) advance() unix.Errno {
	for {
		to := d.pick.address(d.tried)
		d.pick.try(d.tried)
		d.tried++
		errno := d.connect(to)
		if errno == unix.EINPROGRESS {
			switch d.poll(0) {
			case unix.POLLOUT: // connected
				d.answered = true
				if d.blocking {
					return d.settle()
				}
				return errno
			case unix.POLLERR:
				// Of the last one the program itself finds the error, as it
				// would have without us.
				if !d.left() && !d.blocking {
					d.pick.failed(unix.ECONNREFUSED)
					return errno
				}
				errno = d.settle()
			default:
				return errno
			}
		} else if errno != unix.ENETUNREACH && errno != unix.EHOSTUNREACH {
			return errno // also how an attempt before this one has ended, and TCP Fast Open begins
		}
		if !failsOver(errno) {
			return errno
		}
		d.pick.failed(errno)
		if !d.left() {
			return errno
		}
	}
}

// poll waits for the outcome of connect: POLLOUT or POLLERR, or 0 after the
// time, in ms.
func (d *dial) poll(timeout int) int16 {
	return poll(d.fd, unix.POLLOUT, timeout)
}

// settle takes the outcome of connect and returns it. That is done by another
// connect, which also makes the socket one that is connected, or that can be
// connected again; SO_ERROR would leave it in between (ECONNABORTED).
func (d *dial) settle() unix.Errno { return d.connect(d.current) }

// failsOver reports whether another Backend may do after an error.
func failsOver(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.ETIMEDOUT, unix.ENETUNREACH, unix.EHOSTUNREACH:
		return true
	}
	return false
}

// await waits for a connect in which the program blocks, as the kernel would,
// and returns the answer to it: began if the program does not wait any longer.
func (s *supervisor) await(n *notification, d *dial, began unix.Errno) reply {
	defer d.end()
	deadline := deadlineOf(d.fd, unix.SO_SNDTIMEO)
	for {
		events, rep, ok := s.block(n, d.fd, unix.POLLOUT, deadline, began)
		if !ok {
			s.ledger.note(n, d, unix.EINPROGRESS)
			return rep
		}
		errno := d.again(events)
		if errno != unix.EINPROGRESS {
			s.ledger.note(n, d, errno)
			return failed(errno)
		}
	}
}

// again takes the outcome of a connect after an event, and goes on to the next
// Backend after a failure.
func (d *dial) again(events int16) unix.Errno {
	errno := d.settle()
	switch {
	case events != unix.POLLERR:
		d.answered = errno == 0
	case failsOver(errno) && d.pick.len() > 0:
		d.pick.failed(errno)
		if d.left() {
			return d.advance()
		}
	}
	return errno
}
