//go:build amd64 || arm64

package direct

import (
	"strconv"
	"time"

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
	if !r.translates(to) {
		return proceed
	}
	fd, rep, ok := r.socket(n)
	if !ok {
		return rep
	}
	switch protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case err != nil: // no socket
		unix.Close(fd)
		return proceed
	case protocol == unix.IPPROTO_TCP, protocol == unix.IPPROTO_MPTCP:
		return r.connectTCP(n, fd, to)
	}
	unix.Close(fd)
	return failed(unix.ECONNREFUSED)
}

// translates reports whether an address must not be left to the kernel.
func (s *supervisor) translates(to address) bool {
	return to.ip.IsValid() && s.state.contains(to.ip.Addr())
}

// backends returns where a connection to an address is to go, the best first.
func (s *supervisor) backends(to address, protocol corev1.Protocol) []unix.Sockaddr {
	var list []unix.Sockaddr
	choice := s.state.pick(registry.FrontendKey{Address: to.ip.Addr(), Port: to.ip.Port(), Protocol: protocol})
	for i := range choice.Len() {
		b := choice.At(i)
		if to.reaches(b.Address.Addr()) {
			list = append(list, to.sockaddr(b.Address))
		}
	}
	return list
}

// connectTCP connects the program's socket, of which fd is a duplicate, and
// closes fd.
func (r *receiver) connectTCP(n *notification, fd int, to address) reply {
	d := &dial{fd: fd}
	if err := d.begin(); err != nil {
		unix.Close(fd)
		return proceed
	}
	var errno unix.Errno
	if info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err == nil && info.State != tcpClose {
		// Asked again: the kernel does not look at the address, and no Backend
		// has its turn.
		errno = d.connect(to.sockaddr(to.ip))
	} else if d.rest = r.backends(to, corev1.ProtocolTCP); len(d.rest) == 0 {
		errno = unix.ECONNREFUSED
	} else {
		errno = d.advance()
	}
	if d.blocking && (errno == unix.EINPROGRESS || errno == unix.EALREADY) {
		asked := *n
		go func() { r.answer(&asked, r.await(&asked, d, errno)) }()
		return later
	}
	d.end()
	return failed(errno)
}

// A dial connects one socket to the first Backend that accepts.
type dial struct {
	fd       int // a duplicate of the program's
	flags    int // of the description, which the program shares
	blocking bool
	current  unix.Sockaddr // tried last
	rest     []unix.Sockaddr
}

// begin makes the socket one that does not block while we use it. The program
// waits in connect, and its other threads see that at most for a moment.
func (d *dial) begin() (err error) {
	if d.flags, err = unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0); err != nil {
		return err
	}
	if d.blocking = d.flags&unix.O_NONBLOCK == 0; d.blocking {
		_, err = unix.FcntlInt(uintptr(d.fd), unix.F_SETFL, d.flags|unix.O_NONBLOCK)
	}
	return err
}

// end gives the socket back.
func (d *dial) end() {
	if d.blocking {
		_, _ = unix.FcntlInt(uintptr(d.fd), unix.F_SETFL, d.flags)
	}
	unix.Close(d.fd)
}

func (d *dial) connect(to unix.Sockaddr) unix.Errno {
	d.current = to
	err := unix.Connect(d.fd, to)
	if err == nil {
		return 0
	}
	errno, ok := err.(unix.Errno)
	if !ok {
		return unix.EINVAL
	}
	return errno
}

// advance tries the Backends that are left until one does not fail at once,
// and returns what the program is to see. A Backend on this machine has
// answered by the time connect returns, which shows in poll.
func (d *dial) advance() unix.Errno {
	for {
		to := d.rest[0]
		d.rest = d.rest[1:]
		errno := d.connect(to)
		if errno == unix.EINPROGRESS {
			switch d.poll(0) {
			case unix.POLLOUT: // connected
				if d.blocking {
					return d.settle()
				}
				return errno
			case unix.POLLERR:
				// Of the last one the program itself finds the error, as it
				// would have without us.
				if len(d.rest) == 0 && !d.blocking {
					return errno
				}
				errno = d.settle()
			default:
				return errno
			}
		} else if errno != unix.ENETUNREACH && errno != unix.EHOSTUNREACH {
			return errno // also how an attempt before this one has ended
		}
		if len(d.rest) == 0 || !failsOver(errno) {
			return errno
		}
	}
}

// poll waits for the outcome of connect: POLLOUT or POLLERR, or 0 after the
// time, in ms.
func (d *dial) poll(timeout int) int16 {
	p := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, timeout); n == 0 || err != nil {
		return 0
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
		return unix.POLLERR
	}
	return unix.POLLOUT
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

// lookEvery is how often a call that waits is looked at: its caller may have
// been killed, or be wanted by a signal. In ms.
const lookEvery = 100

// await waits for a connect in which the program blocks, as the kernel would,
// and returns the answer to it: began if the program does not wait any longer.
func (s *supervisor) await(n *notification, d *dial, began unix.Errno) reply {
	defer d.end()
	var deadline <-chan time.Time
	if tv, err := unix.GetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO); err == nil && tv.Nano() > 0 {
		timer := time.NewTimer(time.Duration(tv.Nano()))
		defer timer.Stop()
		deadline = timer.C
	}
	for {
		switch d.poll(lookEvery) {
		case unix.POLLOUT:
			return failed(d.settle())
		case unix.POLLERR:
			errno := d.settle()
			if len(d.rest) > 0 && failsOver(errno) {
				errno = d.advance()
			}
			if errno != unix.EINPROGRESS {
				return failed(errno)
			}
			continue
		}
		select {
		case <-deadline:
			return failed(began)
		default:
		}
		if !s.waits(n) {
			return later
		}
		if interrupted(n.TID) {
			return failed(unix.EINTR)
		}
	}
}

// interrupted reports whether a signal for which there is a handler waits for
// a thread. It is kept from it while we have not answered.
func interrupted(tid uint32) bool {
	set := func(fields map[string]string, name string) uint64 {
		v, _ := strconv.ParseUint(fields[name], 16, 64)
		return v
	}
	f := statusOf(tid)
	return (set(f, "SigPnd")|set(f, "ShdPnd"))&^set(f, "SigBlk")&set(f, "SigCgt") != 0
}
