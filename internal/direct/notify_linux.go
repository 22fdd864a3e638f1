//go:build amd64 || arm64

package direct

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A notification is a call that waits for an answer (struct seccomp_notif).
type notification struct {
	ID     uint64
	TID    uint32 // of the thread, in our pid namespace
	Flags  uint32
	Number int32
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// A response is the answer (struct seccomp_notif_resp).
type response struct {
	ID    uint64
	Value int64
	Errno int32 // negative
	Flags uint32
}

// A reply says what becomes of a call.
type reply struct {
	value   int64
	errno   unix.Errno
	proceed bool // the kernel carries it out as it is
	later   bool // another goroutine answers, or there is nobody to answer
}

var (
	proceed = reply{proceed: true}
	later   = reply{later: true}
)

func failed(errno unix.Errno) reply { return reply{errno: errno} }

// A listener is where notifications come from.
type listener int

// receive waits for a notification. The error is ENOENT when the caller has
// gone in between, or when there is nobody left under the filter.
func (l listener) receive(n *notification) unix.Errno {
	*n = notification{}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
	return errno
}

// answer lets a call return, or go on, unless that is for later. The caller
// may have gone: nobody is told then.
func (l listener) answer(n *notification, r reply) {
	if r.later {
		return
	}
	resp := response{ID: n.ID, Value: r.value, Errno: -int32(r.errno)}
	if r.proceed {
		resp.Flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
}

// waits reports whether the caller still waits for the answer. Until that has
// been asked after a look at its memory or descriptors, these may have been
// those of another process with the same number.
func (l listener) waits(n *notification) bool {
	id := n.ID
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&id)))
	return errno == 0
}

// wakeInPlace lets the caller run on our processor as soon as it is answered.
// It is as good without, on older kernels, and slower.
func (l listener) wakeInPlace() {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
}
