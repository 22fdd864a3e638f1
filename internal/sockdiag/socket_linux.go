package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Groups of those who are told of sockets that end (enum sknetlink_groups).
const (
	groupTCP4 = 1
	groupTCP6 = 3
)

// wantedBuffer is what there is room for in the kernel, in bytes, if the system
// lets us have as much (net.core.rmem_max): some thousand sockets.
const wantedBuffer = 4 << 20

// A Watcher is told of each TCP socket of its network namespace that ends.
type Watcher struct {
	file *os.File
	raw  syscall.RawConn
	gate *gate

	buf    []byte
	socket Socket // in buf
}

// Watch returns a Watcher. The caller must Close it.
func Watch() (*Watcher, error) { return watch(wantedBuffer) }

func watch(buffer int) (*Watcher, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // less does, too
	w := &Watcher{file: os.NewFile(uintptr(fd), "sock_diag"), buf: make([]byte, 64<<10)}
	if w.raw, err = w.file.SyscallConn(); err == nil {
		w.gate, err = newGate(fd)
	}
	if err != nil {
		w.file.Close()
		return nil, fmt.Errorf("wait for sockets that end: %w", err)
	}
	if err := w.Join(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Leave has the Watcher told of nothing until Join.
func (w *Watcher) Leave() { _ = w.member(unix.NETLINK_DROP_MEMBERSHIP) }

// Join has the Watcher told of ends from now on.
func (w *Watcher) Join() error {
	if err := w.member(unix.NETLINK_ADD_MEMBERSHIP); err != nil {
		return fmt.Errorf("ask to be told of sockets that end: %w", err)
	}
	return nil
}

func (w *Watcher) member(option int) (err error) {
	errControl := w.raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, groupTCP4),
			unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, groupTCP6))
	})
	return errors.Join(errControl, err)
}

// Close ends the Watcher, and a Next that waits.
func (w *Watcher) Close() error { return errors.Join(w.gate.Close(), w.file.Close()) }

// Next waits until sockets have ended, and calls ended with each of those that
// there is word of by now, which is there for as long as the call takes. It
// reports whether there were more than the kernel
// had room for: those that were lost are only missed by who looks for them
// (Dump). An error is one that lasts, or that the Watcher is closed. Only one
// goroutine may be in Next.
func (w *Watcher) Next(ended func(*Socket)) (lost bool, err error) {
	some := false
	errGate := w.gate.wait(func() (done bool) {
		errRead := w.raw.Control(func(fd uintptr) { some, lost, err = w.drain(int(fd), ended) })
		err = errors.Join(err, errRead)
		return some || err != nil
	})
	if err = errors.Join(err, errGate); err != nil {
		return lost, fmt.Errorf("wait for sockets that end: %w", err)
	}
	return lost, nil
}

// drain reads all that there is.
func (w *Watcher) drain(fd int, ended func(*Socket)) (some, lost bool, err error) {
	for {
		switch n, err := w.receive(fd); {
		case err == nil:
			some = true
			sockets(w.buf[:n], &w.socket, ended)
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			some, lost = true, true
		case errors.Is(err, unix.EAGAIN):
			return some, lost, nil
		default:
			return some, lost, err
		}
	}
}

// receive reads one datagram of the kernel's. On a busy machine there are many:
// it makes no garbage.
func (w *Watcher) receive(fd int) (int, error) {
	var from unix.RawSockaddrNetlink
	size := uint32(unsafe.Sizeof(from))
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	switch {
	case errno != 0:
		return 0, errno
	case from.Pid != 0: // not the kernel
		return 0, nil
	}
	return int(n), nil
}

// sockets calls found with each socket that a datagram is about, in s, and
// reports whether it is the last of an answer.
func sockets(b []byte, s *Socket, found func(*Socket)) (last bool, err error) {
	for {
		m, rest, ok := cut(b)
		if !ok {
			return false, nil
		}
		b = rest
		switch m.kind {
		case typeDone:
			return true, nil
		case typeError:
			if len(m.body) >= 4 {
				if errno := int32(binary.NativeEndian.Uint32(m.body)); errno != 0 {
					return true, unix.Errno(-errno)
				}
			}
		case typeByFamily:
			if *s, ok = parse(m.body); ok {
				found(s)
			}
		}
	}
}

func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	// One without a number of its own has the kernel's, 0, and hears nothing of
	// what that tells to groups.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	return fd, nil
}
