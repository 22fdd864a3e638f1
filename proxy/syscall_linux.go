package proxy

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the event loops go to the kernel without telling Go's
// scheduler, which would otherwise look after the thread before and after
// each of them. None of them can block: the sockets are non-blocking. What the
// kernel reads or writes must be on the heap.

func rawCall(number, a, b, c, d, e, f uintptr) (int, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(number, a, b, c, d, e, f)
	return int(r), errno
}

func rawAccept(fd int32) (int32, syscall.Errno) {
	n, errno := rawCall(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), errno
}

// rawSocket opens a non-blocking socket. Protocol 0 is plain TCP or UDP, never
// MPTCP.
func rawSocket(family, kind int) (int32, syscall.Errno) {
	n, errno := rawCall(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), 0, 0, 0, 0)
	return int32(n), errno
}

func rawConnect(fd int32, to *sockaddr) syscall.Errno {
	_, errno := rawCall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to.raw)), uintptr(to.size), 0, 0, 0)
	return errno
}

func rawBind(fd int32, at *sockaddr) syscall.Errno {
	_, errno := rawCall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&at.raw)), uintptr(at.size), 0, 0, 0)
	return errno
}

// rawName asks for an end of a connection: SYS_GETSOCKNAME or SYS_GETPEERNAME.
func rawName(call uintptr, fd int32, to *sockaddr) syscall.Errno {
	to.size = uint32(unsafe.Sizeof(to.raw))
	_, errno := rawCall(call, uintptr(fd), uintptr(unsafe.Pointer(&to.raw)), uintptr(unsafe.Pointer(&to.size)), 0, 0, 0)
	return errno
}

func rawRecv(fd int32, buf []byte) (int, syscall.Errno) {
	return rawCall(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0, 0)
}

func rawSend(fd int32, buf []byte) (int, syscall.Errno) {
	return rawCall(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), unix.MSG_NOSIGNAL, 0, 0)
}

func rawSplice(from, to int32, n int) (int, syscall.Errno) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	return rawCall(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), flags)
}

func rawShutdown(fd int32, how int) syscall.Errno {
	_, errno := rawCall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0, 0, 0, 0)
	return errno
}

func rawClose(fd int32) { rawCall(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0) }

// sockopts has the memory of the socket options that a loop sets and reads.
type sockopts struct {
	number int32
	size   uint32
	linger unix.Linger
	info   unix.TCPInfo
}

func (o *sockopts) set(fd int32, level, name int, value int32) syscall.Errno {
	o.number = value
	_, errno := rawCall(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&o.number)), 4, 0)
	return errno
}

// resetOnClose makes close(2) send a reset instead of an orderly end.
func (o *sockopts) resetOnClose(fd int32) {
	o.linger = unix.Linger{Onoff: 1}
	rawCall(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&o.linger)), unsafe.Sizeof(o.linger), 0)
}

// takeError returns and clears the pending error of a socket.
func (o *sockopts) takeError(fd int32) syscall.Errno {
	o.number, o.size = 0, 4
	rawCall(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&o.number)), uintptr(unsafe.Pointer(&o.size)), 0)
	return syscall.Errno(o.number)
}

// tcpState returns the state of a socket's connection (tcp_states.h), or 0.
func (o *sockopts) tcpState(fd int32) uint8 {
	o.size = 1 // the state comes first
	_, errno := rawCall(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&o.info)), uintptr(unsafe.Pointer(&o.size)), 0)
	if errno != 0 {
		return 0
	}
	return o.info.State
}

// unsent returns how many bytes written to a socket its peer has not
// acknowledged.
func (o *sockopts) unsent(fd int32) int32 {
	o.number = 0
	rawCall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&o.number)), 0, 0, 0)
	return o.number
}

// A sockaddr is an address as the kernel takes it.
type sockaddr struct {
	raw  unix.RawSockaddrInet6 // the larger of the two
	size uint32
}

func (s *sockaddr) set(addr netip.AddrPort) {
	port := addr.Port()<<8 | addr.Port()>>8 // network byte order, on a little-endian or big-endian machine
	if !nativeLittleEndian {
		port = addr.Port()
	}
	if addr.Addr().Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: addr.Addr().As4()}
		s.size = unix.SizeofSockaddrInet4
		return
	}
	s.raw = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: addr.Addr().As16()}
	s.size = unix.SizeofSockaddrInet6
}

// port returns the port.
func (s *sockaddr) port() uint16 {
	if nativeLittleEndian {
		return s.raw.Port<<8 | s.raw.Port>>8
	}
	return s.raw.Port
}

// addrPort is the reverse of set.
func (s *sockaddr) addrPort() netip.AddrPort {
	if s.raw.Family == unix.AF_INET {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), s.port())
	}
	return netip.AddrPortFrom(netip.AddrFrom16(s.raw.Addr).Unmap(), s.port())
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

var nativeLittleEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}()
