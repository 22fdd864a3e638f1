//go:build amd64 || arm64

package direct

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"usher/internal/netenv"
)

// What a filter sees (struct seccomp_data). Of the arguments it can load 32
// bits at a time; the low half is first on both architectures.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// noSys lets a call fail as where the kernel does not have it.
const noSys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

func low(arg uint32) uint32  { return offArgs + 8*arg }
func high(arg uint32) uint32 { return offArgs + 8*arg + 4 }

// A test compares 32 bits of what a filter sees.
type test struct {
	offset uint32
	mask   uint32 // of the bits that count; 0: all
	cond   bpf.JumpTest
	value  uint32
}

// A rule says which calls of one number get a verdict: those for which all
// tests of one of its chains are true. A chain without tests is always true.
type rule struct {
	number  uint32
	chains  [][]test
	verdict uint32
}

// lowestUDP is the lowest number that a descriptor of a UDP socket has. A
// filter cannot see whether a message names an address, and to ask about all of
// them would tax TCP: so it asks about those of such numbers, where only UDP
// sockets are, or sockets of programs with as many descriptors. It leaves room
// for 256 below FD_SETSIZE, which is also the usual limit.
const lowestUDP = 768

// rules are those of the filter for calls of our own ABI. With listens it asks
// about bind(2) too.
func rules(listens bool) []rule {
	const notify = unix.SECCOMP_RET_USER_NOTIF
	always := [][]test{{}}
	udp := test{low(0), 0, bpf.JumpGreaterOrEqual, lowestUDP}
	below := test{low(1), 0, bpf.JumpLessThan, lowestUDP}
	is := func(arg, value uint32) test { return test{low(arg), 0, bpf.JumpEqual, value} }
	given := func(arg uint32, and ...test) [][]test { // a pointer, and not NULL
		return [][]test{
			append(slices.Clone(and), test{low(arg), 0, bpf.JumpNotEqual, 0}),
			append(slices.Clone(and), test{high(arg), 0, bpf.JumpNotEqual, 0}),
		}
	}
	fastOpen := func(arg uint32) []test { return []test{{low(arg), 0, bpf.JumpBitsSet, unix.MSG_FASTOPEN}} }
	datagrams := test{low(1), sockTypeMask, bpf.JumpEqual, unix.SOCK_DGRAM}
	list := []rule{
		{unix.SYS_CONNECT, always, notify},
		{unix.SYS_SENDTO, given(4), notify},
		{unix.SYS_SENDMSG, [][]test{fastOpen(2), {udp}}, notify},
		{unix.SYS_SENDMMSG, [][]test{fastOpen(3), {udp}}, notify},
		{unix.SYS_RECVFROM, given(4, udp), notify},
		{unix.SYS_RECVMSG, [][]test{{udp}}, notify},
		{unix.SYS_RECVMMSG, [][]test{{udp}}, notify},
		{unix.SYS_SOCKET, [][]test{{is(0, unix.AF_INET), datagrams}, {is(0, unix.AF_INET6), datagrams}}, notify},
		{unix.SYS_DUP, [][]test{{udp}}, notify},
		{unix.SYS_FCNTL, [][]test{{udp, is(1, unix.F_DUPFD)}, {udp, is(1, unix.F_DUPFD_CLOEXEC)}}, notify},
		{oldDup, [][]test{{udp, below}}, notify},
		{unix.SYS_DUP3, [][]test{{udp, below}}, notify},
		// Its connects would pass the filter by. Programs do without it, as
		// they must on older kernels.
		{unix.SYS_IO_URING_SETUP, always, noSys},
	}
	if listens {
		list = append(list, rule{unix.SYS_BIND, always, notify})
	}
	return list
}

// sockTypeMask is the part of a socket's type that is no flag (net.h,
// SOCK_TYPE_MASK).
const sockTypeMask = 0xf

// x32 is the bit in the number of a call that makes it one of the x32 ABI,
// which the kernel reports as the architecture of all other calls. Hardly any
// kernel has it.
const x32 = 0x4000_0000

// program returns the filter. What no rule is about it allows.
func program(listens bool) []bpf.Instruction {
	native := abi(rules(listens))
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(native))},
	}, native, []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: foreignArch, SkipTrue: 1},
		bpf.RetConstant{Val: noSys}, // there is no third
	}, abi(foreignRules(listens)))
}

// abi returns the part of the filter for the calls of one ABI.
func abi(rules []rule) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
		bpf.RetConstant{Val: noSys},
	}
	for _, r := range rules {
		p = append(p, r.instructions()...)
	}
	return append(p, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// instructions returns the part of the filter for one rule. It leaves the
// number of the call where it is for those of other rules.
func (r rule) instructions() []bpf.Instruction {
	var body []bpf.Instruction
	for _, tests := range r.chains {
		body = append(body, chain(tests, r.verdict)...)
	}
	body = append(body, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	header := bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.number, SkipFalse: uint8(len(body))}
	return slices.Concat([]bpf.Instruction{header}, body)
}

// chain returns the verdict if all tests are true, and goes on behind itself
// at the first that is not.
func chain(tests []test, verdict uint32) []bpf.Instruction {
	var c []bpf.Instruction
	for _, t := range slices.Backward(tests) {
		one := []bpf.Instruction{bpf.LoadAbsolute{Off: t.offset, Size: 4}}
		if t.mask != 0 {
			one = append(one, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: t.mask})
		}
		one = append(one, bpf.JumpIf{Cond: t.cond, Val: t.value, SkipFalse: uint8(len(c) + 1)})
		c = append(one, c...)
	}
	return append(c, bpf.RetConstant{Val: verdict})
}

// install puts the calling thread, and what it starts, under the filter and
// returns the listener. The thread cannot be used for anything else any more.
func install(program []bpf.Instruction) (listener int, err error) {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return -1, fmt.Errorf("assemble the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	// Root may go without, and programs that change their uid then work.
	if !netenv.Capable(unix.CAP_SYS_ADMIN) {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return -1, fmt.Errorf("give up new privileges: %w", err)
		}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without the second flag a call is begun again after each signal.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	switch errno {
	case 0:
		return int(fd), nil
	case unix.EBUSY:
		return -1, ErrNested
	case unix.EINVAL:
		return -1, fmt.Errorf("load the filter: %w: needs Linux 5.19", errno)
	}
	return -1, fmt.Errorf("load the filter: %w", errno)
}
