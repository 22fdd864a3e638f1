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
	vm, err := bpf.NewVM(program())
	if err != nil {
		t.Fatal(err)
	}
	const pointer = 0x7f00_0000_0000 // its low half is 0
	noSys := uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
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
		{"read", unix.SYS_READ, [6]uint64{3, pointer, 1}, unix.SECCOMP_RET_ALLOW},
		{"execve", unix.SYS_EXECVE, [6]uint64{pointer, pointer, pointer}, unix.SECCOMP_RET_ALLOW},
	}
	for _, tt := range tests {
		if got := verdict(t, vm, auditArch, tt.number, tt.args); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	if got := verdict(t, vm, unix.AUDIT_ARCH_I386, unix.SYS_CONNECT, [6]uint64{}); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("another ABI: %#x", got)
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
