//go:build linux

package main

import (
	"fmt"
	"io"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What makes the load shares the machine with the proxy, so it has to cost
// little: one thread with an epoll, calls that cannot block without a word to
// Go's scheduler, and nothing copied that nobody looks at.

// A loop is an epoll and the descriptors in it.
type loop struct {
	fd     int
	open   map[int]bool // to be closed at the end
	events [256]unix.EpollEvent
	limit  unix.Timespec
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	return &loop{fd: fd, open: map[int]bool{}}, nil
}

// close closes the epoll and every socket in it.
func (l *loop) close() {
	for fd := range l.open {
		unix.Close(fd)
	}
	unix.Close(l.fd)
}

func (l *loop) add(fd int, events uint32) error {
	l.open[fd] = true
	return unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (l *loop) remove(fd int) {
	delete(l.open, fd)
	unix.Close(fd)
}

// wait returns what is ready, within d. Below a millisecond only epoll_pwait2
// will do (Linux 5.11).
func (l *loop) wait(d time.Duration) []unix.EpollEvent {
	l.limit = unix.NsecToTimespec(max(0, int64(d)))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])),
		uintptr(len(l.events)), uintptr(unsafe.Pointer(&l.limit)), 0, 0)
	if errno != 0 {
		return nil // a signal
	}
	return l.events[:n]
}

// read and write are for sockets that do not block.
func read(fd int, buf []byte) (int, error) {
	n, err := transfer(unix.SYS_RECVFROM, fd, buf, 0)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func write(fd int, buf []byte) (int, error) {
	return transfer(unix.SYS_SENDTO, fd, buf, unix.MSG_NOSIGNAL)
}

// discard takes up to size bytes of a TCP stream without copying them (tcp(7)).
func discard(fd, size int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(size), unix.MSG_TRUNC, 0, 0)
	switch {
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}

func transfer(call uintptr, fd int, buf []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// isAgain reports whether a call would have had to wait.
func isAgain(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }

func sockaddr(addr netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
}

func newSocket(kind int) (int, error) {
	return unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// A table has a value for each descriptor.
type table[T any] struct{ rows []T }

func (t *table[T]) at(fd int) *T {
	for fd >= len(t.rows) {
		var zero T
		t.rows = append(t.rows, zero)
	}
	return &t.rows[fd]
}

// A dialer makes sockets that are connected to an address, or will be. Each
// comes from the next of a few source addresses, so that the ports of none of
// them run out.
type dialer struct {
	to      unix.Sockaddr
	kind    int // SOCK_STREAM or SOCK_DGRAM
	sources []unix.Sockaddr
	next    int
}

func newDialer(to netip.AddrPort, kind int) *dialer {
	d := &dialer{to: sockaddr(to), kind: kind}
	for i := range 64 {
		d.sources = append(d.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 1, 0, byte(i + 1)}})
	}
	return d
}

func (d *dialer) dial() (fd int, err error) {
	if fd, err = newSocket(d.kind); err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	// The port is chosen by connect, which may take one that is in use for
	// another destination (ip(7)).
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, d.sources[d.next]); err != nil {
		return -1, err
	}
	d.next = (d.next + 1) % len(d.sources)
	if err := unix.Connect(fd, d.to); err != nil && err != unix.EINPROGRESS {
		return -1, err
	}
	return fd, nil
}

// dialTCP opens n connections, puts them into the loop and waits until they
// are there.
func (l *loop) dialTCP(to netip.AddrPort, n int, events uint32) ([]int, error) {
	d := newDialer(to, unix.SOCK_STREAM)
	fds := make([]int, 0, n)
	for range n {
		fd, err := d.dial()
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", to, err)
		}
		fds = append(fds, fd)
		if err := l.add(fd, events); err != nil {
			return nil, err
		}
		if err := awaitConnected(fd); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", to, err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

func awaitConnected(fd int) error {
	if err := awaitReady(fd, unix.POLLOUT); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// awaitReady waits a few seconds until a socket is ready.
func awaitReady(fd int, events int16) error {
	const patience = 5 * time.Second
	for end := time.Now().Add(patience); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(patience.Milliseconds()))
		if n > 0 || err != nil && err != unix.EINTR {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("no answer in %s", patience)
		}
	}
}
