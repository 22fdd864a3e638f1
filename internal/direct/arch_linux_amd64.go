package direct

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// oldDup is dup2(2), which only older architectures have.
const oldDup = unix.SYS_DUP2

// foreignArch is the other ABI that the kernel runs, i386, and foreignCalls
// are the numbers that it has for ours (syscall_32.tbl).
const foreignArch = unix.AUDIT_ARCH_I386

var foreignCalls = []foreignCall{
	{359, unix.SYS_SOCKET}, {361, unix.SYS_BIND}, {362, unix.SYS_CONNECT},
	{369, unix.SYS_SENDTO}, {370, unix.SYS_SENDMSG}, {345, unix.SYS_SENDMMSG}, {371, unix.SYS_RECVFROM},
	{41, unix.SYS_DUP}, {63, unix.SYS_DUP2}, {330, unix.SYS_DUP3}, {55, unix.SYS_FCNTL}, {221, unix.SYS_FCNTL},
	{425, unix.SYS_IO_URING_SETUP},
}

// socketcall is one call for many (socketcall(2)): socketcalls are those that
// matter, by its first argument.
const socketcall = 102

var socketcalls = []socketCall{
	{1, unix.SYS_SOCKET, 3}, {2, unix.SYS_BIND, 3}, {3, unix.SYS_CONNECT, 3},
	{11, unix.SYS_SENDTO, 6}, {16, unix.SYS_SENDMSG, 3}, {20, unix.SYS_SENDMMSG, 4}, {12, unix.SYS_RECVFROM, 6},
}
