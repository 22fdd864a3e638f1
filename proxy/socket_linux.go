package proxy

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindToDevice returns what binds a new socket to a device, or nil for none.
func bindToDevice(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			return os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(fd, device))
		})
	}
}

// pauseSocket makes the kernel refuse connections while the port stays taken:
// shutdown(2) of a listening socket leaves it bound. SO_REUSEADDR, which Go
// sets, would let others listen beside a socket that does not. The caller must
// hold mu.
func (l *tcpListener) pauseSocket() error {
	return l.control(func(fd int) error {
		if err := reuseAddr(fd, 0); err != nil {
			return err
		}
		return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_RD))
	})
}

// resumeSocket undoes pauseSocket. Without SO_REUSEADDR the connections that
// ended lately would stand in the way of listen(2). The caller must hold mu.
func (l *tcpListener) resumeSocket() error {
	return l.control(func(fd int) error {
		if err := reuseAddr(fd, 1); err != nil {
			return err
		}
		return os.NewSyscallError("listen", unix.Listen(fd, unix.SOMAXCONN))
	})
}

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

// tcpClose is the state of a socket whose connection is over (tcp(7)).
const tcpClose = 7

// isDead reports whether the peer of c has reset the connection, or vanished.
func isDead(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	dead := false
	err = control(raw, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		dead = err == nil && info.State == tcpClose
		return err
	})
	return dead || err != nil
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
