//go:build amd64 || arm64

package direct

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A supervisor answers the calls of those that are under one filter.
type supervisor struct {
	listener
	*Translator
	program *Program

	datagrams datagrams
	placing   placing
}

// A receiver is the one thread that receives notifications: the kernel wakes
// all that wait for one. It does only what takes some 10 us: whatever may wait
// gets a goroutine, since a call that nobody has received yet fails with EINTR
// at a signal.
type receiver struct {
	*supervisor
	threads map[uint32]thread // those that asked before
}

// A thread is one of a program.
type thread struct {
	pidfd int
	pid   int // of its process; 0 if nobody wanted to know yet
}

// spareProcs are processors of Go's scheduler that receivers have beside the
// usual ones. One that comes back from the kernel then finds one free, and need
// not wait for another thread to hand it over: some 8 us a call.
const spareProcs = 3

// run answers until there is nobody left under the filter, where the kernel
// says so (Linux 6.11), or for as long as the process lives.
func (s *supervisor) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &receiver{s, make(map[uint32]thread)}
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
		r.ledger.notes.identify()
	}
}

// whenListed has a call for a Service handled once it is known what Services
// there are: its program may have started before.
func (s *supervisor) whenListed(n *notification, handle func(*receiver, *notification) reply) reply {
	asked := *n
	go func() {
		<-s.state.listed
		r := &receiver{s, make(map[uint32]thread)}
		defer r.forget()
		r.answer(&asked, handle(r, &asked))
		r.ledger.notes.identify()
	}()
	return later
}

// abandoned reports whether there is nobody left under the filter.
func (l listener) abandoned() bool {
	p := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&unix.POLLHUP != 0
}

func (r *receiver) handle(n *notification) reply {
	if n.Arch != auditArch {
		if rep, ok := r.domesticate(n); !ok {
			return rep
		}
	}
	switch n.Number {
	case unix.SYS_CONNECT:
		return r.connect(n)
	case unix.SYS_SENDTO:
		return r.sendto(n)
	case unix.SYS_SENDMSG:
		return r.sendmsg(n)
	case unix.SYS_SENDMMSG:
		return r.sendmmsg(n)
	case unix.SYS_RECVFROM:
		return r.recvfrom(n)
	case unix.SYS_RECVMSG:
		return r.recvmsg(n)
	case unix.SYS_RECVMMSG:
		return r.recvmmsg(n)
	case unix.SYS_SOCKET:
		return r.socket(n)
	case unix.SYS_DUP, unix.SYS_FCNTL:
		return r.duplicateSocket(n)
	case oldDup, unix.SYS_DUP3:
		return r.moveSocket(n)
	case unix.SYS_BIND:
		return r.bind(n)
	}
	return proceed
}

// target reads the address that a call names. If it returns false, the reply
// is the answer. The caller may have gone by then: whatever is done for it has
// to begin with duplicate.
func (r *receiver) target(n *notification, addr, length uint64) (address, reply, bool) {
	if int32(length) < 0 || length > maxSockaddr { // EINVAL, says the kernel
		return address{}, proceed, false
	}
	var buf [maxSockaddr]byte
	b := buf[:length]
	if err := n.read(addr, b); err != nil {
		return address{}, r.unreadable(n, err), false
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
	r.say(fmt.Sprintf("%s reaches nothing: %s (%v), as of a program that hides from debuggers"+
		"\n  it works with: %s", r.name(n), what, err, r.otherwise))
	return failed(unix.EACCES)
}

// name returns the name of the program that calls.
func (r *receiver) name(n *notification) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n.TID))
	return string(bytes.TrimSpace(comm))
}

// maxThreads bounds the threads that are remembered. Those of programs that
// have ended are among them.
const maxThreads = 64

// duplicate returns a duplicate of the descriptor that a call is about. If it
// returns false, the reply is the answer. The caller must close the duplicate.
func (r *receiver) duplicate(n *notification) (fd int, _ reply, ok bool) {
	fd, err := r.duplicateOf(n, int(int32(n.Args[0])))
	if err != nil {
		return -1, r.duplicateFailed(n, err), false
	}
	if !r.waits(n) {
		unix.Close(fd)
		return -1, later, false
	}
	return fd, reply{}, true
}

// duplicateOf returns a duplicate of a descriptor of the caller, who may have
// gone. The error is EBADF if it has none of that number, ESRCH if it is no
// more.
func (r *receiver) duplicateOf(n *notification, number int) (fd int, err error) {
	for again := true; ; again = false {
		pidfd, err := r.pidfd(n.TID)
		if err == nil {
			fd, err = unix.PidfdGetfd(pidfd, number, 0)
		}
		if errors.Is(err, unix.ESRCH) && again { // of a thread before, with the same number
			r.forgetOne(n.TID)
			continue
		}
		return fd, err
	}
}

// duplicateFailed returns the reply to a call after an error of duplicateOf.
func (r *receiver) duplicateFailed(n *notification, err error) reply {
	switch {
	case errors.Is(err, unix.EBADF): // so will the kernel find
		return proceed
	case errors.Is(err, unix.ESRCH):
		return later
	}
	return r.refuse(n, "its socket cannot be duplicated", err)
}

// pidfd returns a descriptor of the caller's thread, or of its process where
// the kernel has none of threads (before Linux 6.9).
func (r *receiver) pidfd(tid uint32) (int, error) {
	if t, ok := r.threads[tid]; ok {
		return t.pidfd, nil
	}
	if len(r.threads) >= maxThreads {
		r.forget()
	}
	var pid int
	fd, err := unix.PidfdOpen(int(tid), unix.PIDFD_THREAD)
	if errors.Is(err, unix.EINVAL) {
		if pid, err = processOf(tid); err == nil {
			fd, err = unix.PidfdOpen(pid, 0)
		}
	}
	if err != nil {
		return -1, err
	}
	r.threads[tid] = thread{fd, pid}
	return fd, nil
}

// process returns the process of a thread that was remembered.
func (r *receiver) process(tid uint32) (int, error) {
	t := r.threads[tid]
	if t.pid == 0 {
		pid, err := processOf(tid)
		if err != nil {
			return 0, err
		}
		t.pid = pid
		r.threads[tid] = t
	}
	return t.pid, nil
}

func (r *receiver) forgetOne(tid uint32) {
	if t, ok := r.threads[tid]; ok {
		unix.Close(t.pidfd)
		delete(r.threads, tid)
	}
}

func (r *receiver) forget() {
	for tid := range r.threads {
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
