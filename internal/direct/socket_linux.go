//go:build amd64 || arm64

package direct

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket answers socket(2) for one of UDP: it is made here, and gets a number
// by which the filter knows it.
func (r *receiver) socket(n *notification) reply {
	if !r.sameNetwork(n.TID) {
		return proceed // it would be one of ours
	}
	kind := int(int32(n.Args[1]))
	if kind&sockTypeMask != unix.SOCK_DGRAM || n.Args[0] != unix.AF_INET && n.Args[0] != unix.AF_INET6 {
		return proceed // of socketcall(2), of which the filter sees less
	}
	fd, err := unix.Socket(int(int32(n.Args[0])), kind|unix.SOCK_CLOEXEC, int(int32(n.Args[2])))
	if err != nil {
		return failed(errnoOf(err))
	}
	defer unix.Close(fd)
	_, rep := r.place(n, fd, 0, kind&unix.SOCK_CLOEXEC != 0)
	return rep
}

// duplicateSocket answers dup(2), and fcntl(2) with what does the same. The copy
// of a UDP socket has to be where those are, too.
func (r *receiver) duplicateSocket(n *notification) reply {
	least, closeOnExec := 0, false
	if n.Number == unix.SYS_FCNTL {
		least, closeOnExec = int(int32(n.Args[2])), n.Args[1] == unix.F_DUPFD_CLOEXEC
	}
	fd, rep, ok := r.duplicateDatagrams(n)
	if !ok {
		return rep
	}
	defer unix.Close(fd)
	number, rep := r.place(n, fd, least, closeOnExec)
	if number >= 0 {
		r.copied(n, fd, number)
	}
	return rep
}

// duplicateDatagrams is duplicate for a socket of datagrams: a call about another
// one is carried out as it is.
func (r *receiver) duplicateDatagrams(n *notification) (fd int, rep reply, ok bool) {
	if fd, rep, ok = r.duplicate(n); !ok {
		return -1, rep, false
	}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		unix.Close(fd)
		return -1, proceed, false
	}
	return fd, rep, true
}

// copied notes that the caller has a copy of a socket, of which fd is another.
func (r *receiver) copied(n *notification, fd, number int) {
	cookie, err := cookieOf(fd)
	if err != nil {
		return
	}
	if pid, err := r.process(n.TID); err == nil {
		r.datagrams.copied(cookie, pid, number)
	}
}

// moveSocket answers dup2(2) and dup3(2) of what may be a UDP socket to a number
// where the filter would not know it. One that has a peer may go: shells move
// those, and name no addresses then. Another one could name a ClusterIP in
// sendmsg(2), which would take the default route.
func (r *receiver) moveSocket(n *notification) reply {
	fd, rep, ok := r.duplicateDatagrams(n)
	if !ok {
		return rep
	}
	defer unix.Close(fd)
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain == unix.AF_UNIX {
		return proceed
	}
	if _, err := unix.Getpeername(fd); err == nil {
		r.copied(n, fd, int(int32(n.Args[1])))
		return proceed
	}
	r.say(fmt.Sprintf("%s may not make a UDP socket its descriptor %d: it could send past usher from there"+
		"\n  it works with: %s", r.name(n), n.Args[1], r.otherwise))
	return failed(unix.EACCES)
}

// A network is a network namespace.
type network struct {
	inode  uint64
	cookie uint64 // that its sockets have (SO_NETNS_COOKIE)
}

// ourNetwork returns the one that we are in.
func ourNetwork() (network, error) {
	inode, err := networkOf("self")
	if err != nil {
		return network{}, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return network{}, err
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return network{inode, cookie}, err
}

// sameNetwork reports whether a thread is in our network namespace.
func (r *receiver) sameNetwork(tid uint32) bool {
	inode, err := networkOf(fmt.Sprint(tid))
	return err != nil || inode == r.network.inode // unreadable: of a program that hides
}

// networkOf returns the inode of a process's network namespace.
func networkOf(process string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+process+"/ns/net", &st)
	return st.Ino, err
}

// elsewhere reports whether a socket is one of another network namespace. What
// it connects to there are other programs than ours, on loopback too: nothing
// is translated, and a ClusterIP refused. The reply is the answer.
func (r *receiver) elsewhere(n *notification, fd int, to ...address) (reply, bool) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil || cookie == r.network.cookie { // unreadable: no socket
		return reply{}, false
	}
	if !slices.ContainsFunc(to, func(a address) bool { return a.ip.IsValid() && r.state.contains(a.ip.Addr()) }) {
		return proceed, true
	}
	r.say(fmt.Sprintf("%s is in a network namespace of its own: Services are not reached from there", r.name(n)))
	return failed(unix.ENETUNREACH), true
}

// placing is where the number of a UDP socket is chosen, by one receiver at a
// time: two threads would take the same one, and the second descriptor would
// close the first.
type placing struct {
	sync.Mutex
	last int // the number given last
}

// A handover is a descriptor for a caller (struct seccomp_notif_addfd).
type handover struct {
	ID            uint64
	Flags         uint32
	Source        uint32
	Number        uint32
	NumberedFlags uint32
}

// place gives the caller a descriptor of its own for what fd is. The reply is
// its number: lowestUDP, or least if that is more, or a higher one. place
// returns -1 if the reply is another one.
//
// The number is not answered in the same call (SECCOMP_ADDFD_FLAG_SEND): where a
// signal to us arrives in that, or a stop (Ctrl-Z), or our end, the kernel takes
// the descriptor back, and the call of the program returns 0, which is its
// standard input.
func (r *receiver) place(n *notification, fd, least int, closeOnExec bool) (int, reply) {
	r.placing.Lock()
	defer r.placing.Unlock()
	number, rep, ok := r.freeNumber(n, max(least, lowestUDP))
	if !ok {
		return -1, rep
	}
	h := handover{ID: n.ID, Flags: unix.SECCOMP_ADDFD_FLAG_SETFD, Source: uint32(fd), Number: uint32(number)}
	if closeOnExec {
		h.NumberedFlags = unix.O_CLOEXEC
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.listener), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&h)))
	switch errno {
	case 0:
		r.placing.last = number
		return number, reply{value: int64(number)}
	case unix.ENOENT: // there is nobody left to answer
		return -1, later
	case unix.EBADF: // beyond a limit that we cannot read
		return -1, failed(unix.EMFILE)
	}
	return -1, failed(errno)
}

// maxNumber is beyond the highest number that a descriptor may have by default
// (fs.nr_open).
const maxNumber = 1 << 20

// freeNumber returns a descriptor number from least on that the caller does not
// use. The kernel gives the lowest ones to other threads meanwhile, so ours are
// the highest: those before FD_SETSIZE, which is mostly the limit too, then
// those before the next power of two. If it returns false, the reply is the
// answer.
func (r *receiver) freeNumber(n *notification, least int) (number int, _ reply, ok bool) {
	limit := maxNumber
	var limits unix.Rlimit
	if err := unix.Prlimit(int(n.TID), unix.RLIMIT_NOFILE, nil, &limits); err == nil && limits.Cur < maxNumber {
		limit = int(limits.Cur)
	}
	bottom, top := least, min(unix.FD_SETSIZE, limit)
	for ; bottom < limit; bottom, top = max(least, top), min(2*top, limit) {
		start := top - 1 // or behind the last one: those are in use, most likely
		if r.placing.last > bottom && r.placing.last < top {
			start = r.placing.last - 1
		}
		for i := range top - bottom {
			number := start - i
			if number < bottom {
				number += top - bottom
			}
			fd, err := r.duplicateOf(n, number)
			if err == nil {
				unix.Close(fd)
				continue
			}
			if errors.Is(err, unix.EBADF) {
				return number, reply{}, true
			}
			return -1, r.duplicateFailed(n, err), false
		}
	}
	if limit <= lowestUDP {
		r.say(fmt.Sprintf("%s has no UDP: that needs descriptors from %d on, and it may not have them\n  raise the limit: ulimit -n 1024",
			r.name(n), lowestUDP))
	}
	return -1, failed(unix.EMFILE), false
}
