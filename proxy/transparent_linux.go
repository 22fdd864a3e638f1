package proxy

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Transparent returns why this process cannot dial Backends from the address of
// a client (registry.Transparent), or nil: IP_TRANSPARENT needs CAP_NET_ADMIN
// or CAP_NET_RAW over the network namespace (ip(7)). Without it they see the
// address of the proxy.
func Transparent() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("setsockopt IP_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
}

// transparentOption returns the socket option that lets a socket be bound to
// an address that is not of this host.
func transparentOption(addr netip.Addr) (level, name int) {
	if addr.Is4() {
		return unix.SOL_IP, unix.IP_TRANSPARENT
	}
	return unix.SOL_IPV6, unix.IPV6_TRANSPARENT
}

// prepareSource returns what is done to a new socket before it is bound to the
// address of a client. connect(2) chooses the port, see connect.
func prepareSource(client netip.Addr) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			level, name := transparentOption(client)
			if err := unix.SetsockoptInt(fd, level, name, 1); err != nil {
				return os.NewSyscallError("setsockopt IP_TRANSPARENT", err)
			}
			return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
		})
	}
}
