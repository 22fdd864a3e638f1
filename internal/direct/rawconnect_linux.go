//go:build amd64 || arm64

package direct

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawConnect connects to an address that package unix has no type for.
func rawConnect(fd int, sa *unix.RawSockaddr) error {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), unsafe.Sizeof(*sa))
	if errno != 0 {
		return errno
	}
	return nil
}
