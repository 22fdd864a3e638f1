package vip

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const loopbackNote = "all of 127.0.0.0/8 is local on Linux"

// liftPorts is what to do about privileged ports (ip-sysctl.rst, capabilities(7)).
const liftPorts = "`sysctl -w net.ipv4.ip_unprivileged_port_start=53` is run or usher has CAP_NET_BIND_SERVICE, and it is started again"

// probePorts finds out which ports of a local address may be opened, by trying
// to: the limit is set for each network namespace, and a capability counts
// only in the user namespace that owns it.
func probePorts(addr netip.Addr) portRule {
	switch err := tryPort(addr, 1); err {
	case unix.EACCES, unix.EPERM:
		return portRule{first: unprivilegedPortStart(), lift: liftPorts}
	default: // in use is allowed; whatever else is wrong will show when listening
		return portRule{}
	}
}

// tryPort binds a UDP socket for a moment. The kernel looks at the privilege
// before it looks at the port.
func tryPort(addr netip.Addr, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4(), Port: port})
}

// unprivilegedPortStart returns the first port that everybody may open.
func unprivilegedPortStart() uint16 {
	const usual = 1024
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return usual // the sysctl is younger than Linux 4.11, and hidden in some containers
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16)
	if err != nil {
		return usual
	}
	return uint16(n)
}

// networkNamespace returns the inode of this process' network namespace.
func networkNamespace() uint64 {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &st); err != nil {
		return 0
	}
	return st.Ino
}
