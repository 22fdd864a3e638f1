//go:build amd64 || arm64

package direct

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxSockaddr is the size of the longest address (struct sockaddr_storage).
const maxSockaddr = 128

// read fills b from the memory of the caller.
func (n *notification) read(addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	got, err := unix.ProcessVMReadv(int(n.TID), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
	if err == nil && got < len(b) {
		return unix.EFAULT
	}
	return err
}

// An address is what a program says it wants to reach.
type address struct {
	family uint16
	ip     netip.AddrPort // of AF_INET and AF_INET6; IPv4-mapped ones as IPv4
	path   string         // of AF_UNIX; "" for one without a name
}

// parseAddress reads a struct sockaddr. One of another family, or that is too
// short for its own, has neither ip nor path: it is for the kernel to judge.
func parseAddress(b []byte) address {
	if len(b) < 2 {
		return address{}
	}
	a := address{family: binary.NativeEndian.Uint16(b)}
	switch {
	case a.family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
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

// reaches reports whether ip has an address in the family of a.
func (a address) reaches(ip netip.Addr) bool { return ip.Is4() || a.family == unix.AF_INET6 }
