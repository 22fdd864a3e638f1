package proxy

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// clientOf returns the address of a client, where the choice of f depends on
// it.
func (l *loop) clientOf(f *frontend, fd int32) netip.Addr {
	if !f.picker.ByClient() {
		return netip.Addr{}
	}
	return l.endOf(unix.SYS_GETPEERNAME, fd).Addr()
}

// endOf returns an end of a connection, or none when it was reset.
func (l *loop) endOf(call uintptr, fd int32) netip.AddrPort {
	if rawName(call, fd, &l.address) != 0 {
		return netip.AddrPort{}
	}
	return l.address.addrPort()
}

// introduce has the Backend told who the client is, where the Frontend wants
// that: as what the client has sent before anything else. It reports false when
// c has ended.
func (l *loop) introduce(c *conn) bool {
	way := c.acceptor.frontend.now.Load().ClientAddress
	if !way.HasHeader() {
		return true
	}
	client, vip := l.endOf(unix.SYS_GETPEERNAME, c.client.fd), l.endOf(unix.SYS_GETSOCKNAME, c.client.fd)
	if !client.IsValid() || !vip.IsValid() {
		l.unserved(c)
		return false
	}
	l.keep(&c.client, header(way, client, vip))
	return true
}

// failed notes that the Backend of an attempt could not be reached.
func (l *loop) failed(c *conn, attempt uint8, errno syscall.Errno) {
	c.acceptor.failed(c.target(attempt), errno)
	if !isLocalErrno(errno) {
		c.choice.Failed(int(attempt)-1, errno, l.now)
	}
}

// settle tells the Picker which Backend has answered.
func (l *loop) settle(c *conn) {
	i := int(c.attempt) - 1
	c.choice.Succeeded(i)
	if i == 0 {
		return
	}
	c.choice.Move(0, i)
	if c.choice.Affine() {
		c.choice.Pin(i, l.endOf(unix.SYS_GETPEERNAME, c.client.fd).Addr(), l.now)
	}
}

// release tells the Picker that c has ended.
func (c *conn) release() {
	if c.answered {
		c.choice.Release(int(c.attempt) - 1)
	} else {
		c.choice.Release(0)
	}
}

// settleFlow tells the Picker that the Backend of f has answered.
func (l *loop) settleFlow(f *loopFlow) {
	f.choice.Succeeded(int(f.place))
	if f.place > 0 {
		f.choice.Pin(int(f.place), f.client.addrPort().Addr(), l.now)
	}
}

// moved tells the Picker that f has gone on to the Backend that it tried
// last.
func (f *loopFlow) moved() {
	f.choice.Move(int(f.place), int(f.tried)-1)
	f.place = f.tried - 1
}

// flowFailed notes that the Backend that f tried last refuses.
func (l *loop) flowFailed(f *loopFlow, errno syscall.Errno) {
	if !isLocalErrno(errno) && errno != unix.EADDRNOTAVAIL {
		f.choice.Failed(int(f.tried)-1, errno, l.now)
	}
}
