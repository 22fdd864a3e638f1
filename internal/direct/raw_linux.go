//go:build amd64 || arm64

package direct

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that do not wait, each of which every connection pays for: without a
// word to Go's scheduler, and without garbage.

// rawOption reads an option of a socket into v, and returns false if it has
// none of that size.
func rawOption[T any](fd, level, option int, v *T) bool {
	size := uint32(unsafe.Sizeof(*v))
	want := size
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(v)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && size == want
}

// rawLocal returns the local address of a socket, or the zero value.
func rawLocal(fd int) netip.AddrPort {
	var b [maxSockaddr]byte
	size := uint32(len(b))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// rawSetFlags makes flags those of a description (F_SETFL).
func rawSetFlags(fd, flags int) {
	_, _, _ = unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(flags))
}
