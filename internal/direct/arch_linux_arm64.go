package direct

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// noCall is no number of a call.
const noCall = 0x3fff_ffff

// oldDup is dup2(2), which there is not here.
const oldDup = noCall

// foreignArch is the other ABI that the kernel runs, and foreignCalls are the
// numbers that it has for ours (arch/arm/tools/syscall.tbl).
const foreignArch = unix.AUDIT_ARCH_ARM

var foreignCalls = []foreignCall{
	{281, unix.SYS_SOCKET}, {282, unix.SYS_BIND}, {283, unix.SYS_CONNECT},
	{290, unix.SYS_SENDTO}, {296, unix.SYS_SENDMSG}, {374, unix.SYS_SENDMMSG}, {292, unix.SYS_RECVFROM},
	{41, unix.SYS_DUP}, {63, oldDup}, {358, unix.SYS_DUP3}, {55, unix.SYS_FCNTL}, {221, unix.SYS_FCNTL},
	{425, unix.SYS_IO_URING_SETUP},
}

// socketcall(2) there is not.
const socketcall = noCall

var socketcalls []socketCall
