//go:build amd64 || arm64

package direct

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSockaddr is the size of the longest address (struct sockaddr_storage).
const maxSockaddr = 128

// read fills b from the memory of the caller. Every call that is asked about
// pays for it: it makes no garbage.
func (n *notification) read(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	to, from := unix.Iovec{Base: &b[0]}, unix.RemoteIovec{Base: uintptr(addr), Len: len(b)}
	to.SetLen(len(b))
	moved, _, errno := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(n.TID),
		uintptr(unsafe.Pointer(&to)), 1, uintptr(unsafe.Pointer(&from)), 1, 0)
	switch {
	case errno != 0:
		return errno
	case int(moved) < len(b):
		return unix.EFAULT
	}
	return nil
}

// An address is what a program says it wants to reach.
type address struct {
	family uint16
	ip     netip.AddrPort // of AF_INET, AF_INET6 and AF_UNSPEC; IPv4-mapped ones as IPv4
	path   string         // of AF_UNIX; "" for one without a name
}

// parseAddress reads a struct sockaddr. AF_UNSPEC is as AF_INET: so it is where
// a message is sent to (udp_sendmsg), though not to connect(2). One of another
// family, or that is too short for its own, has neither ip nor path: it is for
// the kernel to judge.
func parseAddress(b []byte) address {
	if len(b) < 2 {
		return address{}
	}
	a := address{family: binary.NativeEndian.Uint16(b)}
	switch {
	case (a.family == unix.AF_INET || a.family == unix.AF_UNSPEC) && len(b) >= unix.SizeofSockaddrInet4:
		a.ip = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	case a.family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6-4: // sin6_scope_id may be missing
		a.ip = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:]))
	case a.family == unix.AF_UNIX:
		path, _, _ := bytes.Cut(b[2:], []byte{0})
		a.path = string(path)
	}
	return a
}

// sockaddr returns ip as an address of the family in which the program spoke.
func (a address) sockaddr(ip netip.AddrPort) unix.Sockaddr {
	if a.family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: ip.Addr().As16(), Port: int(ip.Port())}
	}
	return &unix.SockaddrInet4{Addr: ip.Addr().As4(), Port: int(ip.Port())}
}

// sockaddrBytes returns ip as bytes of an address (struct sockaddr) of a family. A
// zone has to be the number of an interface.
func sockaddrBytes(family uint16, ip netip.AddrPort) []byte {
	return fillSockaddr(new([unix.SizeofSockaddrInet6]byte), family, ip)
}

// fillSockaddr is sockaddrBytes in b, which is zero.
func fillSockaddr(b *[unix.SizeofSockaddrInet6]byte, family uint16, ip netip.AddrPort) []byte {
	binary.NativeEndian.PutUint16(b[:], family)
	binary.BigEndian.PutUint16(b[2:], ip.Port())
	if family == unix.AF_INET {
		a := ip.Addr().As4()
		copy(b[4:], a[:])
		return b[:unix.SizeofSockaddrInet4]
	}
	a := ip.Addr().As16()
	copy(b[8:], a[:])
	if ip.Addr().Zone() == "" {
		return b[:]
	}
	zone, _ := strconv.ParseUint(ip.Addr().Zone(), 10, 32)
	binary.NativeEndian.PutUint32(b[24:], uint32(zone))
	return b[:]
}

// addrPortOf returns what came from the kernel, an IPv4-mapped address as IPv4.
func addrPortOf(sa unix.Sockaddr) (family uint16, ip netip.AddrPort) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return unix.AF_INET, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return unix.AF_INET6, netip.AddrPortFrom(addr, uint16(sa.Port))
	}
	return 0, netip.AddrPort{}
}

// errnoOf returns the error of a call of package unix.
func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return unix.EINVAL
}

// reaches reports whether ip has an address in the family of a.
func (a address) reaches(ip netip.Addr) bool { return ip.Is4() || a.family == unix.AF_INET6 }

// write puts b into the memory of the caller. What is not writable there is
// EFAULT.
func (n *notification) write(addr uint64, b []byte) error {
	return n.scatter([]segment{{addr, uint64(len(b))}}, b)
}

// A segment is a part of the memory of a program (struct iovec).
type segment struct{ base, length uint64 }

// total returns the length of all segments together, at most limit.
func total(segments []segment, limit uint64) uint64 {
	var sum uint64
	for _, s := range segments {
		sum += min(s.length, limit)
	}
	return min(sum, limit)
}

// remote returns the first size bytes of segments as the kernel wants them.
func remote(segments []segment, size int) []unix.RemoteIovec {
	list := make([]unix.RemoteIovec, 0, len(segments))
	for _, s := range segments {
		length := int(min(s.length, uint64(size)))
		if length > 0 {
			list = append(list, unix.RemoteIovec{Base: uintptr(s.base), Len: length})
			size -= length
		}
	}
	return list
}

// gather fills b from segments of the memory of the caller.
func (n *notification) gather(segments []segment, b []byte) error {
	return move(unix.ProcessVMReadv, n.TID, segments, b)
}

// scatter writes b into segments of the memory of the caller.
func (n *notification) scatter(segments []segment, b []byte) error {
	return move(unix.ProcessVMWritev, n.TID, segments, b)
}

// move copies all of b from or to the segments of a program.
func move(copy func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error), tid uint32, segments []segment, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	moved, err := copy(int(tid), local, remote(segments, len(b)), 0)
	if err == nil && moved < len(b) {
		return unix.EFAULT
	}
	return err
}
