//go:build amd64 || arm64

package direct

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// poll waits for an event of fd: it returns that, or POLLERR, or 0 after the
// time, in ms.
func poll(fd int, event int16, timeout int) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: event}}
	if n, err := unix.Poll(p, timeout); n == 0 || err != nil {
		return 0
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
		return unix.POLLERR
	}
	return event
}

// lookEvery is how often a call that waits is looked at: its caller may have
// been killed, or be wanted by a signal. In ms.
const lookEvery = 100

// block waits for an event of fd, in a call in which the program blocks, as the
// kernel would. If it returns false, the reply is the answer: after the
// deadline, expired.
func (s *supervisor) block(n *notification, fd int, event int16, deadline time.Time, expired unix.Errno) (int16, reply, bool) {
	for {
		timeout := lookEvery
		if !deadline.IsZero() {
			timeout = min(timeout, int(max(0, time.Until(deadline)).Milliseconds())+1)
		}
		if got := poll(fd, event, timeout); got != 0 {
			return got, reply{}, true
		}
		switch {
		case !deadline.IsZero() && time.Now().After(deadline):
			return 0, failed(expired), false
		case !s.waits(n):
			return 0, later, false
		}
		switch interrupted(n.TID) {
		case byOne:
			if deadline.IsZero() {
				return 0, failed(restart), false
			}
			return 0, failed(unix.EINTR), false // as a call with a time-out (signal(7))
		case bySome:
			return 0, failed(unix.EINTR), false
		}
	}
}

// deadlineOf returns when a call that begins now ends by an option of the
// socket, SO_SNDTIMEO or SO_RCVTIMEO; the zero time is never.
func deadlineOf(fd, option int) time.Time {
	tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil || tv.Nano() <= 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(tv.Nano()))
}

// restart lets the kernel decide what becomes of a call that a signal
// interrupts: by what is said of the signal (SA_RESTART) it is begun again, or
// fails with EINTR. It is the kernel's ERESTARTSYS, which it looks for when a
// thread comes to its handler; a thread that has none to come to would see it.
const restart = unix.Errno(512)

// An interruption says whether a signal for which there is a handler waits for
// a thread. It is kept from it while we have not answered.
type interruption int

const (
	byNone interruption = iota
	byOne               // that comes to this thread as soon as it returns
	bySome              // that may come to another thread of the process
)

func interrupted(tid uint32) interruption {
	set := func(fields map[string]string, name string) uint64 {
		v, _ := strconv.ParseUint(fields[name], 16, 64)
		return v
	}
	f := statusOf(tid)
	handled := set(f, "SigCgt") &^ set(f, "SigBlk")
	switch own, shared := set(f, "SigPnd")&handled, set(f, "ShdPnd")&handled; {
	case own != 0, shared != 0 && f["Threads"] == "1":
		return byOne
	case shared != 0:
		return bySome
	}
	return byNone
}
