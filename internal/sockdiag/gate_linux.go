package sockdiag

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A gate lets one goroutine wait until a descriptor is readable. Go's own way
// of doing that wakes a thread at every message, whether or not anybody waits
// for one; a gate opens once, and then not before somebody waits again.
type gate struct {
	file *os.File // an epoll instance, which Go's knows
	raw  syscall.RawConn
	fd   int // what it is about
}

// newGate returns one for fd, which must stay open as long.
func newGate(fd int) (*gate, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	_ = unix.SetNonblock(epoll, true) // or else os.NewFile does not have it waited for
	g := &gate{file: os.NewFile(uintptr(epoll), "epoll"), fd: fd}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{}); err != nil {
		g.file.Close()
		return nil, err
	}
	if g.raw, err = g.file.SyscallConn(); err != nil {
		g.file.Close()
		return nil, err
	}
	return g, nil
}

// Close ends a wait.
func (g *gate) Close() error { return g.file.Close() }

// wait calls try until that is done: at once, and whenever the descriptor has
// become readable.
func (g *gate) wait(try func() (done bool)) (err error) {
	errRead := g.raw.Read(func(epoll uintptr) bool {
		var none [1]unix.EpollEvent
		_, _ = unix.EpollWait(int(epoll), none[:], 0) // it is shut again
		if try() {
			return true
		}
		once := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
		if err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, g.fd, &once); err != nil {
			err = fmt.Errorf("watch a socket: %w", err)
		}
		return err != nil
	})
	if err == nil {
		err = errRead
	}
	return err
}
