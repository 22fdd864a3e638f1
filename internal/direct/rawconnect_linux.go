//go:build amd64 || arm64

package direct

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// noPeer is the address by which a socket has a peer no longer: that of a family
// for which package unix has no type.
var noPeer = make([]byte, unix.SizeofSockaddrInet4) // AF_UNSPEC

// rawConnect connects to a struct sockaddr.
func rawConnect(fd int, sa []byte) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
	return errno
}
