//go:build amd64 || arm64

package direct

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A supervisor answers the calls of the programs under the filter.
type supervisor struct {
	listener
	state  *state
	stderr io.Writer

	said sync.Map // what has been said, once each
}

// A receiver is one thread that receives notifications. It does only what
// takes some 10 us: whatever may wait gets a goroutine, since a call that
// nobody has received yet fails with EINTR at a signal.
type receiver struct {
	*supervisor
	pidfds map[uint32]int // by thread, of those that asked before
}

// receivers is how many threads receive. One would do on two processors; the
// other is for when the first is in the middle of an answer.
const receivers = 2

// run answers until there is nobody left under the filter, where the kernel
// says so (Linux 6.11), or for as long as the process lives.
func (s *supervisor) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &receiver{s, make(map[uint32]int)}
	defer r.forget()
	var n notification
	for {
		switch errno := r.receive(&n); errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.ENOENT:
			if r.abandoned() {
				return
			}
			continue
		default:
			r.say(fmt.Sprintf("receive calls to translate: %v", errno))
			return
		}
		r.answer(&n, r.handle(&n))
	}
}

// abandoned reports whether there is nobody left under the filter.
func (l listener) abandoned() bool {
	p := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&unix.POLLHUP != 0
}

func (r *receiver) handle(n *notification) reply {
	switch n.Number {
	case unix.SYS_CONNECT:
		return r.connect(n)
	case unix.SYS_SENDTO:
		return r.sendto(n)
	case unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return r.sendmsg(n)
	}
	return proceed
}

// target reads the address that a call names. If it returns false, the reply
// is the answer.
func (r *receiver) target(n *notification, addr, length uint64) (address, reply, bool) {
	if int32(length) < 0 || length > maxSockaddr { // EINVAL, says the kernel
		return address{}, proceed, false
	}
	var buf [maxSockaddr]byte
	b := buf[:length]
	if err := n.read(addr, b); err != nil {
		return address{}, r.unreadable(n, err), false
	}
	if !r.waits(n) {
		return address{}, later, false
	}
	return parseAddress(b), reply{}, true
}

// unreadable returns the reply to a call whose arguments cannot be read.
func (r *receiver) unreadable(n *notification, err error) reply {
	switch {
	case errors.Is(err, unix.EFAULT): // so will the kernel find
		return proceed
	case errors.Is(err, unix.ESRCH):
		return later
	}
	return r.refuse(n, "its memory cannot be read", err)
}

// refuse returns the reply to a call that may be about a Service, which cannot
// be known or not be done, and says why, once for each program.
func (r *receiver) refuse(n *notification, what string, err error) reply {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n.TID))
	r.say(fmt.Sprintf("%s reaches nothing: %s (%v), as of a program that hides from debuggers"+
		"\n  it works with: usher exec --mode namespace", bytes.TrimSpace(comm), what, err))
	return failed(unix.EACCES)
}

// say tells the user something, once.
func (s *supervisor) say(line string) {
	if _, said := s.said.LoadOrStore(line, true); !said {
		fmt.Fprintln(s.stderr, "usher: "+line)
	}
}

// maxPidfds bounds the threads that are remembered. Those of programs that
// have ended are among them.
const maxPidfds = 64

// socket returns a duplicate of a descriptor of the caller. If it returns
// false, the reply is the answer. The caller must close the duplicate.
func (r *receiver) socket(n *notification) (fd int, _ reply, ok bool) {
	for again := true; ; again = false {
		pidfd, err := r.pidfd(n.TID)
		if err == nil {
			fd, err = unix.PidfdGetfd(pidfd, int(int32(n.Args[0])), 0)
		}
		switch {
		case err == nil && r.waits(n):
			return fd, reply{}, true
		case err == nil:
			unix.Close(fd)
			return -1, later, false
		case errors.Is(err, unix.EBADF): // so will the kernel find
			return -1, proceed, false
		case errors.Is(err, unix.ESRCH) && again: // of a thread before, with the same number
			r.forgetOne(n.TID)
			continue
		case errors.Is(err, unix.ESRCH):
			return -1, later, false
		}
		return -1, r.refuse(n, "its socket cannot be duplicated", err), false
	}
}

// pidfd returns a descriptor of the caller's thread, or of its process where
// the kernel has none of threads (before Linux 6.9).
func (r *receiver) pidfd(tid uint32) (int, error) {
	if fd, ok := r.pidfds[tid]; ok {
		return fd, nil
	}
	if len(r.pidfds) >= maxPidfds {
		r.forget()
	}
	fd, err := unix.PidfdOpen(int(tid), unix.PIDFD_THREAD)
	if errors.Is(err, unix.EINVAL) {
		var pid int
		if pid, err = processOf(tid); err == nil {
			fd, err = unix.PidfdOpen(pid, 0)
		}
	}
	if err != nil {
		return -1, err
	}
	r.pidfds[tid] = fd
	return fd, nil
}

func (r *receiver) forgetOne(tid uint32) {
	if fd, ok := r.pidfds[tid]; ok {
		unix.Close(fd)
		delete(r.pidfds, tid)
	}
}

func (r *receiver) forget() {
	for tid := range r.pidfds {
		r.forgetOne(tid)
	}
}

// processOf returns the process of a thread.
func processOf(tid uint32) (int, error) {
	v, ok := statusOf(tid)["Tgid"]
	if !ok {
		return 0, unix.ESRCH
	}
	return strconv.Atoi(v)
}

// statusOf returns the fields of a thread's /proc/TID/status.
func statusOf(tid uint32) map[string]string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	fields := make(map[string]string)
	for line := range bytes.Lines(text) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok {
			fields[string(name)] = string(bytes.TrimSpace(value))
		}
	}
	return fields
}
