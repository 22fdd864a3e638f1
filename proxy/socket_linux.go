package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepare returns what is done to a new socket before it is bound to at, or
// nil for nothing. An IPv6 address that is local by a route alone can be bound
// to with IPV6_FREEBIND only.
func prepare(at ListenAddr) func(network, address string, c syscall.RawConn) error {
	if at.Device == "" && at.Addr().Is4() {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if at.Addr().Is6() {
				if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1); err != nil {
					return os.NewSyscallError("setsockopt IPV6_FREEBIND", err)
				}
			}
			if at.Device == "" {
				return nil
			}
			return os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(fd, at.Device))
		})
	}
}

// bind returns a new socket that is bound to the address. What it is for is set
// before.
func (at ListenAddr) bind(kind int, set func(fd int) error) (fd int, err error) {
	fd, err = at.socket(kind)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := set(fd); err != nil {
		return -1, err
	}
	if control := prepare(at); control != nil {
		if err := control("", "", rawFD(fd)); err != nil {
			return -1, err
		}
	}
	var to sockaddr
	to.set(at.AddrPort)
	if errno := rawBind(int32(fd), &to); errno != 0 {
		return -1, fmt.Errorf("bind: %w", errno)
	}
	return fd, nil
}

// rawFD is a file descriptor as a syscall.RawConn.
type rawFD int

func (fd rawFD) Control(f func(uintptr)) error {
	f(uintptr(fd))
	return nil
}
func (rawFD) Read(func(uintptr) bool) error  { return syscall.ENOTSUP }
func (rawFD) Write(func(uintptr) bool) error { return syscall.ENOTSUP }

// listenElsewhere listens in another network namespace.
func listenElsewhere(at ListenAddr) (*net.TCPListener, error) {
	fd, err := openListener(at)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// receiveElsewhere opens a socket for datagrams in another network namespace.
func receiveElsewhere(at ListenAddr) (*net.UDPConn, error) {
	fd, err := at.bind(unix.SOCK_DGRAM, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// socket returns a new socket in the network namespace of the address.
func (at ListenAddr) socket(kind int) (fd int, err error) {
	if at.Sockets != nil {
		return at.Sockets.Socket(family(at.Addr()), kind)
	}
	return unix.Socket(family(at.Addr()), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// pauseSocket makes the kernel refuse connections while the port stays taken.
// The caller must hold mu.
func (l *tcpListener) pauseSocket() error { return l.control(pauseListener) }

// resumeSocket undoes pauseSocket. The caller must hold mu.
func (l *tcpListener) resumeSocket() error { return l.control(resumeListener) }

// pauseListener makes the kernel refuse connections while the port stays taken:
// shutdown(2) of a listening socket leaves it bound. SO_REUSEADDR would let
// others listen beside a socket that does not.
func pauseListener(fd int) error {
	if err := reuseAddr(fd, 0); err != nil {
		return err
	}
	err := unix.Shutdown(fd, unix.SHUT_RD)
	if errors.Is(err, unix.ENOTCONN) { // it does not listen
		return nil
	}
	return os.NewSyscallError("shutdown", err)
}

// resumeListener listens. Without SO_REUSEADDR the connections that ended lately
// would stand in the way of listen(2).
func resumeListener(fd int) error {
	if err := reuseAddr(fd, 1); err != nil {
		return err
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// backlog is how many connections wait to be accepted; the kernel's own limit
// is net.core.somaxconn.
const backlog = 4096

func reuseAddr(fd, value int) error {
	return os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, value))
}

func (l *tcpListener) control(do func(fd int) error) error {
	c, err := l.ln.SyscallConn()
	if err != nil {
		return err
	}
	return control(c, do)
}

func control(c syscall.RawConn, do func(fd int) error) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// A waiter waits until a connection can be read.
type waiter struct {
	raw   syscall.RawConn
	look  func(fd uintptr) bool // reports whether there is something
	there int
	err   error
	peek  [1]byte
}

func newWaiter(c *net.TCPConn) (*waiter, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &waiter{raw: raw}
	w.look = func(fd uintptr) bool {
		if w.there, w.err = unix.IoctlGetInt(int(fd), unix.SIOCINQ); w.err != nil || w.there > 0 {
			return true
		}
		// Nothing, or the end, or an error.
		for {
			if w.there, _, w.err = syscall.Recvfrom(int(fd), w.peek[:], syscall.MSG_PEEK); w.err != syscall.EINTR {
				return w.err != syscall.EAGAIN
			}
		}
	}
	return w, nil
}

// wait returns how many bytes there are, 0 at the end of the stream.
func (w *waiter) wait() (int, error) {
	if err := w.raw.Read(w.look); err != nil {
		return 0, err
	}
	return w.there, os.NewSyscallError("recvfrom", w.err)
}

// tcpClose is the state of a socket whose connection is over (tcp(7)).
const tcpClose = 7

// isClosed reports whether the connection of c is over: both ends have ended
// it, or the peer has reset it, or vanished.
func isClosed(c *net.TCPConn) bool {
	info, err := tcpInfo(c)
	return err != nil || info.State == tcpClose
}

// acknowledged returns how many bytes the peer of c has acknowledged.
func acknowledged(c *net.TCPConn) uint64 {
	info, err := tcpInfo(c)
	if err != nil {
		return 0
	}
	return info.Bytes_acked
}

// received returns how much c has received in order: its bytes, and one for the
// end of the stream.
func received(c *net.TCPConn) (n uint64, known bool) {
	info, err := tcpInfo(c)
	if err != nil {
		return 0, false
	}
	return info.Bytes_received, true
}

func tcpInfo(c *net.TCPConn) (info *unix.TCPInfo, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = control(raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info, err
}

// isFailed reports whether the peer of c has reset the connection, or
// vanished, and no call on c has returned that yet. A connection that both
// ends have ended in order does not count, though what was received may still
// have to be read.
func isFailed(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	fds := []unix.PollFd{{}}
	err = control(raw, func(fd int) error {
		fds[0].Fd = int32(fd)
		_, err := unix.Poll(fds, 0)
		return err
	})
	return err == nil && fds[0].Revents&unix.POLLERR != 0
}

// unsent returns how many bytes written to c its peer has not acknowledged.
func unsent(c *net.TCPConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	err = control(raw, func(fd int) error {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	if err != nil {
		return 0
	}
	return n
}
