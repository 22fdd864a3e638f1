//go:build amd64 || arm64

package direct

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestFilter runs the filter on calls that nobody makes.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(program(false))
	if err != nil {
		t.Fatal(err)
	}
	const pointer = 0x7f00_0000_0000          // its low half is 0
	const udp, tcp = lowestUDP, lowestUDP - 1 // descriptors
	tests := []struct {
		name   string
		number uint32
		args   [6]uint64
		want   uint32
	}{
		{"connect", unix.SYS_CONNECT, [6]uint64{3, pointer, 16}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendto a peer", unix.SYS_SENDTO, [6]uint64{3, pointer, 1}, unix.SECCOMP_RET_ALLOW},
		{"sendto an address, low half", unix.SYS_SENDTO, [6]uint64{3, pointer, 1, 0, 8, 16}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendto an address, high half", unix.SYS_SENDTO, [6]uint64{3, pointer, 1, 0, pointer, 16}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendmsg", unix.SYS_SENDMSG, [6]uint64{3, pointer, unix.MSG_NOSIGNAL}, unix.SECCOMP_RET_ALLOW},
		{"sendmsg that connects", unix.SYS_SENDMSG, [6]uint64{3, pointer, unix.MSG_FASTOPEN}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendmmsg that connects", unix.SYS_SENDMMSG, [6]uint64{3, pointer, 1, unix.MSG_FASTOPEN}, unix.SECCOMP_RET_USER_NOTIF},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uint64{8, pointer}, noSys},
		{"sendmsg of UDP", unix.SYS_SENDMSG, [6]uint64{udp, pointer}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendmsg of TCP", unix.SYS_SENDMSG, [6]uint64{tcp, pointer}, unix.SECCOMP_RET_ALLOW},
		{"sendmmsg of UDP", unix.SYS_SENDMMSG, [6]uint64{udp, pointer, 2}, unix.SECCOMP_RET_USER_NOTIF},
		{"sendmmsg of TCP", unix.SYS_SENDMMSG, [6]uint64{tcp, pointer, 2}, unix.SECCOMP_RET_ALLOW},
		{"recvfrom of UDP", unix.SYS_RECVFROM, [6]uint64{udp, pointer, 1, 0, pointer, pointer}, unix.SECCOMP_RET_USER_NOTIF},
		{"recvfrom of UDP, low half", unix.SYS_RECVFROM, [6]uint64{udp, pointer, 1, 0, 8, pointer}, unix.SECCOMP_RET_USER_NOTIF},
		{"recv of UDP", unix.SYS_RECVFROM, [6]uint64{udp, pointer, 1}, unix.SECCOMP_RET_ALLOW},
		{"recvfrom of TCP", unix.SYS_RECVFROM, [6]uint64{tcp, pointer, 1, 0, pointer, pointer}, unix.SECCOMP_RET_ALLOW},
		{"recvmsg of UDP", unix.SYS_RECVMSG, [6]uint64{udp, pointer}, unix.SECCOMP_RET_USER_NOTIF},
		{"recvmsg of TCP", unix.SYS_RECVMSG, [6]uint64{tcp, pointer}, unix.SECCOMP_RET_ALLOW},
		{"recvmmsg of UDP", unix.SYS_RECVMMSG, [6]uint64{udp, pointer, 4}, unix.SECCOMP_RET_USER_NOTIF},
		{"a UDP socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}, unix.SECCOMP_RET_USER_NOTIF},
		{"a UDP socket of IPv6", unix.SYS_SOCKET, [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM}, unix.SECCOMP_RET_USER_NOTIF},
		{"a TCP socket", unix.SYS_SOCKET, [6]uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, unix.SECCOMP_RET_ALLOW},
		{"a unix socket", unix.SYS_SOCKET, [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, unix.SECCOMP_RET_ALLOW},
		{"dup of UDP", unix.SYS_DUP, [6]uint64{udp}, unix.SECCOMP_RET_USER_NOTIF},
		{"dup of TCP", unix.SYS_DUP, [6]uint64{tcp}, unix.SECCOMP_RET_ALLOW},
		{"F_DUPFD of UDP", unix.SYS_FCNTL, [6]uint64{udp, unix.F_DUPFD}, unix.SECCOMP_RET_USER_NOTIF},
		{"F_DUPFD_CLOEXEC of UDP", unix.SYS_FCNTL, [6]uint64{udp, unix.F_DUPFD_CLOEXEC}, unix.SECCOMP_RET_USER_NOTIF},
		{"F_GETFL of UDP", unix.SYS_FCNTL, [6]uint64{udp, unix.F_GETFL}, unix.SECCOMP_RET_ALLOW},
		{"dup3 of UDP to below", unix.SYS_DUP3, [6]uint64{udp, 5}, unix.SECCOMP_RET_USER_NOTIF},
		{"dup3 of UDP to where it may be", unix.SYS_DUP3, [6]uint64{udp, lowestUDP}, unix.SECCOMP_RET_ALLOW},
		{"dup3 of TCP", unix.SYS_DUP3, [6]uint64{tcp, 5}, unix.SECCOMP_RET_ALLOW},
		{"x32", unix.SYS_CONNECT | x32, [6]uint64{3, pointer, 16}, noSys},
		{"read", unix.SYS_READ, [6]uint64{3, pointer, 1}, unix.SECCOMP_RET_ALLOW},
		{"execve", unix.SYS_EXECVE, [6]uint64{pointer, pointer, pointer}, unix.SECCOMP_RET_ALLOW},
	}
	for _, tt := range tests {
		if got := verdict(t, vm, auditArch, tt.number, tt.args); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	if got := verdict(t, vm, unix.AUDIT_ARCH_RISCV64, unix.SYS_CONNECT, [6]uint64{}); got != noSys {
		t.Errorf("an ABI that there is not here: %#x", got)
	}
}

// verdict returns what the filter says to a call. The VM reads the data as
// packets, in network byte order.
func verdict(t *testing.T, vm *bpf.VM, arch, number uint32, args [6]uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offNumber:], number)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[low(uint32(i)):], uint32(a))
		binary.BigEndian.PutUint32(data[high(uint32(i)):], uint32(a>>32))
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}
